"""Notifications: supported addresses and blocks, and that the address stays secret."""

import asyncio
from collections.abc import Iterator

import pytest
from prefect.client.orchestration import get_client

from configs.settings import load_settings
from ops import deploy
from ops.errors import BadAddress
from ops.notify import ADDRESS, BLOCK, block_for, change_notification, ensure_notifications, failure_notification
from tests.receiver import webhook


@pytest.fixture
def received() -> Iterator[tuple[str, list[dict]]]:
    """A webhook on this machine: its host and port, and every JSON body that it received."""
    with webhook() as both:
        yield both


@pytest.mark.parametrize(("scheme", "subject", "body"), [("json", "title", "message"), ("http", "subject", "body")])
def test_an_apprise_address_and_a_webhook_receive_subject_and_body(
    received, scheme: str, subject: str, body: str
) -> None:
    host, bodies = received
    block_for(f"{scheme}://{host}/hook").notify(subject="flights: promoted", body="version 5")
    assert (bodies[0][subject], bodies[0][body]) == ("flights: promoted", "version 5")


def test_an_unsupported_address_is_refused_without_repeating_it() -> None:
    with pytest.raises(BadAddress) as caught:
        block_for("nonsense://token@secret")
    assert ADDRESS in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_address_is_a_secret_of_its_block() -> None:
    for address in ("json://user:token@127.0.0.1/hook", "https://127.0.0.1/hook?token=abc"):
        shown = block_for(address).model_dump_json()
        assert "token" not in shown.replace("tokenFromSecrets", ""), shown


async def notifications() -> list:
    async with get_client() as client:
        return await ensure_notifications(client, load_settings())


@pytest.mark.usefixtures("prefect_server")
def test_an_existing_block_is_used_and_a_missing_block_is_an_error_with_a_remedy(monkeypatch) -> None:
    monkeypatch.delenv(ADDRESS, raising=False)
    monkeypatch.delenv(BLOCK, raising=False)
    assert asyncio.run(notifications()) == [], "no messages are sent by default"
    block = block_for("https://127.0.0.1/hook")
    saved = block.save("alerts", overwrite=True)
    monkeypatch.setenv(BLOCK, f"{block.get_block_type_slug()}/alerts")
    automations = asyncio.run(notifications())
    assert [action.block_document_id for one in automations for action in one.actions] == [saved, saved]
    monkeypatch.setenv(BLOCK, "slack-webhook/nobody")
    with pytest.raises(
        BadAddress, match=f"{BLOCK}=slack-webhook/nobody: the server has no such block; create it in the UI"
    ):
        asyncio.run(notifications())


def test_another_address_changes_the_fingerprint_which_does_not_contain_it(monkeypatch: pytest.MonkeyPatch) -> None:
    first = deploy.fingerprint()
    monkeypatch.setenv(ADDRESS, "json://127.0.0.1/hook")
    assert deploy.fingerprint() != first
    assert "hook" not in deploy.fingerprint()


def test_messages_are_sent_for_failures_in_the_pool_and_for_changes_of_every_model() -> None:
    from uuid import uuid4

    block = uuid4()
    failed, changed = failure_notification(block, "evergreen").trigger, change_notification(block).trigger
    assert failed.match_related.model_dump() == {
        "prefect.resource.role": "work-pool",
        "prefect.resource.name": "evergreen",
    }
    assert changed.match.model_dump() == {"prefect.resource.id": "evergreen.model.*"}
    assert set(changed.expect) == {
        "evergreen.approval.requested", "evergreen.model.promoted", "evergreen.model.rolled_back", "evergreen.alias.diverged",
        "evergreen.partition.late", "evergreen.champion.old",
    }  # fmt: skip


@pytest.mark.parametrize(
    "text", ["<a href='http://attacker.example'>approve</a>", "<!channel> <http://attacker.example|here>"]
)
def test_a_reason_with_a_tag_is_plain_text_in_a_message(text: str) -> None:
    """Rendered by Prefect, as its server renders the templates of an automation. A mail is HTML, and Slack has tags of its own."""
    from types import SimpleNamespace
    from uuid import uuid4

    from prefect.server.utilities.user_templates import render_user_template_sync

    payload = {"version": "5", "reason": text, "by": text, "as_of": "2013-07-02", "link": "http://mlflow/5"}
    run = SimpleNamespace(name=text, state=SimpleNamespace(name="Failed", message=text))
    context = {"event": {"payload": payload}, "flow": {"name": "promote"}, "flow_run": run}
    shown = text.replace("<", "‹").replace(">", "›")
    (changed,) = change_notification(uuid4()).actions
    body = render_user_template_sync(changed.body, context)
    assert body == f"version 5: {shown}, by {shown}\nas of 2013-07-02\nhttp://mlflow/5"
    overdue = {"event": {"payload": {"told": text, "champion": "1", "as_of": "2013-07-02"}}}
    assert render_user_template_sync(changed.body, overdue) == f"{shown}\nas of 2013-07-02\n"
    (failed,) = failure_notification(uuid4(), "evergreen").actions
    assert render_user_template_sync(failed.subject, context) == f"promote {shown}: Failed"
    message, _, _ = failed.body.partition("\n")  # the second line is the run's address
    assert render_user_template_sync(message, context) == shown


@pytest.mark.parametrize(
    ("name", "subject"),
    [("process tiny 2024-03-18", "process tiny 2024-03-18: Failed"), ("hot-hyena", "process hot-hyena: Failed")],
)
def test_the_subject_names_the_flow_once(name: str, subject: str) -> None:
    from types import SimpleNamespace
    from uuid import uuid4

    from prefect.server.utilities.user_templates import render_user_template_sync

    run = SimpleNamespace(name=name, state=SimpleNamespace(name="Failed", message=""))
    context = {"flow": SimpleNamespace(name="process"), "flow_run": run}
    (failed,) = failure_notification(uuid4(), "evergreen").actions
    assert render_user_template_sync(failed.subject, context) == subject
