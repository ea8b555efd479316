"""Tell people of what they should know by Prefect's own notifications: failed runs, and what becomes of models.

There are none by default. `EVERGREEN_NOTIFY_URL` in the environment of `make up` or `make deploy` is any address that Apprise knows
(mailto://, slack://, tgram://, json:// ...) or a webhook (https://..., which gets subject and body as JSON); `EVERGREEN_NOTIFY_BLOCK` is
a notification block of the server, such as slack-webhook/alerts. The address is kept as a secret of the block, and nowhere else.
"""

import logging
import os
from typing import TYPE_CHECKING, Any
from uuid import UUID

from configs.settings import Settings
from ops.errors import BadAddress

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.events.schemas.automations import AutomationCore

ADDRESS, BLOCK = "EVERGREEN_NOTIFY_URL", "EVERGREEN_NOTIFY_BLOCK"
NAME = "evergreen-notifications"
"""The block that is made for an address."""
CHANGES = {
    "evergreen.approval.requested",
    "evergreen.model.promoted",
    "evergreen.model.rolled_back",
    "evergreen.alias.diverged",
}
"""Events that are told to people, beside runs that fail: a blocked partition is one of those."""
TOLD = """\
{% if event.payload.version %}version {{ event.payload.version }}: {{ event.payload.reason }}, by {{ event.payload.by }}
{% else %}the alias `champion` is at version {{ event.payload.alias }}, and not at the ledger's {{ event.payload.champion }}
{% endif %}as of {{ event.payload.as_of }}
{{ event.payload.link }}"""
"""What is said of them."""


async def ensure_notifications(client: "PrefectClient", settings: Settings) -> list["AutomationCore"]:
    """The automations that tell people, where an address or a block is given; none otherwise, and what was made before stays.

    Raises:
        BadAddress: neither Apprise nor a webhook, or no such block.
    """
    address, named = os.environ.get(ADDRESS, ""), os.environ.get(BLOCK, "")
    if not address and not named:
        return []
    block = await _named(client, named) if named else await _kept(address)
    return [failures(block, settings.pool), changes(block)]


async def _named(client: "PrefectClient", named: str) -> UUID:
    from prefect.exceptions import ObjectNotFound

    kind, _, name = named.partition("/")
    try:
        return (await client.read_block_document_by_name(name, kind)).id
    except ObjectNotFound:
        raise BadAddress(
            f"{BLOCK}={named}: the server has no such block; make it in the UI under Blocks, as TYPE/NAME"
        ) from None


async def _kept(address: str) -> UUID:
    """Save the block that sends to an address, over an earlier one."""
    block = block_for(address)
    found: UUID = await block.save(NAME, overwrite=True)
    return found


def block_for(address: str) -> Any:
    """A block that sends to an address.

    Raises:
        BadAddress: the message does not repeat it, since it is a secret.
    """
    from apprise import Apprise
    from prefect.blocks.notifications import CustomWebhookNotificationBlock, SlackWebhook

    quiet = logging.getLogger("apprise")
    level = quiet.level
    quiet.setLevel(logging.CRITICAL + 1)  # it would repeat what it cannot parse
    try:
        known = Apprise().add(address)
    finally:
        quiet.setLevel(level)
    if known:
        return SlackWebhook(url=address)  # Prefect has no block for any Apprise address; this one takes them all
    if address.startswith(("http://", "https://")):
        said = {"subject": "{{subject}}", "body": "{{body}}"}
        return CustomWebhookNotificationBlock(
            name=NAME, url="{{address}}", json_data=said, secrets={"address": address}
        )
    raise BadAddress(
        f"{ADDRESS}: Apprise does not know such an address (they begin like slack://, mailto:// or json://), and it is no https:// one"
    )


def failures(block: UUID, pool: str) -> "AutomationCore":
    """Tell of each of our runs that failed or crashed; a blocked partition fails its run."""
    from prefect.events.schemas.events import ResourceSpecification

    return _telling(
        "evergreen: tell of failed runs",
        "Sends a message for each run of the pool that fails or crashes; a partition whose data are blocked fails its run.",
        {
            "expect": {"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
            "match": ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            "match_related": ResourceSpecification(
                {"prefect.resource.role": "work-pool", "prefect.resource.name": pool}
            ),
        },
        block,
        "{{ flow.name }} {{ flow_run.name }}: {{ flow_run.state.name }}",
        "{{ flow_run.state.message }}\n{{ flow_run|ui_url }}",
    )


def changes(block: UUID) -> "AutomationCore":
    """Tell of approvals that are asked for, promotions, rollbacks and aliases that were moved by hand."""
    from prefect.events.schemas.events import ResourceSpecification

    return _telling(
        "evergreen: tell of promotions and approvals",
        "Sends a message when an approval is asked for, a version becomes champion, or an alias was moved by hand.",
        {"expect": CHANGES, "match": ResourceSpecification({"prefect.resource.id": "evergreen.model.*"})},
        block,
        "{{ event.resource['evergreen.model'] }}: {{ event.event }}",
        TOLD,
    )


def _telling(
    name: str, description: str, trigger: dict[str, Any], block: UUID, subject: str, body: str
) -> "AutomationCore":
    from datetime import timedelta

    from prefect.events.actions import SendNotification
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    return AutomationCore(
        name=name,
        description=description,
        trigger=EventTrigger(**trigger, posture=Posture.Reactive, threshold=1, within=timedelta(0)),
        actions=[SendNotification(block_document_id=block, subject=subject, body=body)],
    )
