"""Notifications: to which addresses, by which block, and that the address is told nowhere."""

import asyncio
from collections.abc import Iterator

import pytest
from prefect.client.orchestration import get_client

from configs.settings import load_settings
from ops import deploy
from ops.errors import BadAddress
from ops.notify import ADDRESS, BLOCK, block_for, changes, ensure_notifications, failures
from tests.receiver import receiving


@pytest.fixture
def received() -> Iterator[tuple[str, list[dict]]]:
    """A receiver on this machine: its host and port, and every JSON body that it got."""
    with receiving() as both:
        yield both


@pytest.mark.parametrize(("scheme", "subject", "body"), [("json", "title", "message"), ("http", "subject", "body")])
def test_an_apprise_address_and_a_webhook_get_subject_and_body(received, scheme: str, subject: str, body: str) -> None:
    host, found = received
    block_for(f"{scheme}://{host}/hook").notify(subject="flights: promoted", body="version 5")
    assert (found[0][subject], found[0][body]) == ("flights: promoted", "version 5")


def test_what_is_no_address_is_refused_without_repeating_it() -> None:
    with pytest.raises(BadAddress) as caught:
        block_for("nonsense://token@secret")
    assert ADDRESS in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_address_is_a_secret_of_its_block() -> None:
    for address in ("json://user:token@127.0.0.1/hook", "https://127.0.0.1/hook?token=abc"):
        shown = block_for(address).model_dump_json()
        assert "token" not in shown.replace("tokenFromSecrets", ""), shown


async def ensured() -> list:
    async with get_client() as client:
        return await ensure_notifications(client, load_settings())


@pytest.mark.usefixtures("prefect_server")
def test_a_block_of_the_server_is_taken_by_its_name_and_no_such_block_says_where_to_make_one(monkeypatch) -> None:
    monkeypatch.delenv(ADDRESS, raising=False)
    monkeypatch.delenv(BLOCK, raising=False)
    assert asyncio.run(ensured()) == [], "nobody is written to by default"
    block = block_for("https://127.0.0.1/hook")
    saved = block.save("alerts", overwrite=True)
    monkeypatch.setenv(BLOCK, f"{block.get_block_type_slug()}/alerts")
    told = asyncio.run(ensured())
    assert [action.block_document_id for one in told for action in one.actions] == [saved, saved]
    monkeypatch.setenv(BLOCK, "slack-webhook/nobody")
    with pytest.raises(
        BadAddress, match=f"{BLOCK}=slack-webhook/nobody: the server has no such block; make it in the UI"
    ):
        asyncio.run(ensured())


def test_another_address_is_deployed_anew_and_is_not_in_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    first = deploy.fingerprint()
    monkeypatch.setenv(ADDRESS, "json://127.0.0.1/hook")
    assert deploy.fingerprint() != first
    assert "hook" not in deploy.fingerprint()


def test_failures_of_our_pool_alone_are_told_and_changes_of_every_model() -> None:
    from uuid import uuid4

    block = uuid4()
    failed, changed = failures(block, "evergreen").trigger, changes(block).trigger
    assert failed.match_related.model_dump() == {
        "prefect.resource.role": "work-pool",
        "prefect.resource.name": "evergreen",
    }
    assert changed.match.model_dump() == {"prefect.resource.id": "evergreen.model.*"}
    assert "evergreen.approval.requested" in changed.expect
