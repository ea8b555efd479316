"""Notifications: to which addresses, by which block, and that the address is told nowhere."""

from collections.abc import Iterator

import pytest

from ops import deploy
from ops.errors import BadAddress
from ops.notify import ADDRESS, block_for, changes, failures
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
