"""Notifications by Prefect's automations: failed runs, promotions, rollbacks, requests for approval, what is late or too old.

None are sent by default. One of two variables in the environment of `make up` or `make deploy` switches them on:

- `EVERGREEN_NOTIFY_URL`: an address that Apprise supports (mailto://, slack://, tgram://, json:// ...) or a webhook
  (https://...), which receives subject and body as JSON. It is stored only as a secret of a Prefect block.
- `EVERGREEN_NOTIFY_BLOCK`: a notification block of the Prefect server, such as slack-webhook/alerts.
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
"""Name of the block that is created for an address."""
MODEL_EVENTS = {
    "evergreen.approval.requested",
    "evergreen.model.promoted",
    "evergreen.model.rolled_back",
    "evergreen.alias.diverged",
    "evergreen.partition.late",
    "evergreen.champion.old",
}
"""Events that send a notification. Failed runs send one too, and a blocked partition fails its run."""
PLAIN = "replace('<', '‹') | replace('>', '›')"
"""Filters for a text of a person in a template: a mail would show a tag as HTML, and Slack reads `<!channel>` and links in it."""
MESSAGE_BODY = """\
{% if event.payload.version %}version {{ event.payload.version }}: {{ event.payload.reason | PLAIN }}, by {{ event.payload.by | PLAIN }}
{% elif event.payload.told %}{{ event.payload.told | PLAIN }}
{% else %}the alias `champion` is at version {{ event.payload.alias }}, and not at the ledger's {{ event.payload.champion }}
{% endif %}as of {{ event.payload.as_of }}
{{ event.payload.link }}""".replace("PLAIN", PLAIN)
"""Template of the message for these events."""


async def ensure_notifications(client: "PrefectClient", settings: Settings) -> list["AutomationCore"]:
    """Return the automations that send notifications, none without an address or block. Automations on the server stay.

    Raises:
        BadAddress: Apprise does not support the address and it is no webhook, or the block does not exist.
    """
    address, block_name = os.environ.get(ADDRESS, ""), os.environ.get(BLOCK, "")
    if not address and not block_name:
        return []
    block = await _find_block(client, block_name) if block_name else await _save_block(address)
    return [failure_notification(block, settings.pool), change_notification(block)]


async def _find_block(client: "PrefectClient", block_name: str) -> UUID:
    from prefect.exceptions import ObjectNotFound

    kind, _, name = block_name.partition("/")
    try:
        return (await client.read_block_document_by_name(name, kind)).id
    except ObjectNotFound:
        raise BadAddress(
            f"{BLOCK}={block_name}: the server has no such block; create it in the UI under Blocks and name it here as TYPE/NAME"
        ) from None


async def _save_block(address: str) -> UUID:
    """Save the block that sends to an address, replacing an earlier one, and return its id."""
    block_id: UUID = await block_for(address).save(NAME, overwrite=True)
    return block_id


def block_for(address: str) -> Any:
    """Return a block that sends to an address.

    Raises:
        BadAddress: The address is not supported. The message does not contain it, since it is a secret.
    """
    from apprise import Apprise
    from prefect.blocks.notifications import CustomWebhookNotificationBlock, SlackWebhook

    logger = logging.getLogger("apprise")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)  # Apprise logs addresses that it cannot parse
    try:
        is_supported = Apprise().add(address)
    finally:
        logger.setLevel(level)
    if is_supported:
        return SlackWebhook(url=address)  # accepts every Apprise address; Prefect has no general Apprise block
    if address.startswith(("http://", "https://")):
        message = {"subject": "{{subject}}", "body": "{{body}}"}
        return CustomWebhookNotificationBlock(
            name=NAME, url="{{address}}", json_data=message, secrets={"address": address}
        )
    raise BadAddress(
        f"{ADDRESS}: Apprise does not support this address (use slack://, mailto://, json:// ...), and it is no https:// address"
    )


def failure_notification(block: UUID, pool: str) -> "AutomationCore":
    """Return the automation that sends a message for each run of the pool that fails, crashes or takes too long."""
    from prefect.events.schemas.events import ResourceSpecification

    return _notification(
        "evergreen: tell of failed runs",
        "Sends a message for each run of the pool that fails, crashes or takes too long. A partition with blocked data fails its run.",
        {
            "expect": {f"prefect.flow-run.{state}" for state in ("Failed", "Crashed", "TimedOut")},
            "match": ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            "match_related": ResourceSpecification(
                {"prefect.resource.role": "work-pool", "prefect.resource.name": pool}
            ),
        },
        block,
        # A run that crashed before it was named has a name of Prefect's, without the flow.
        "{{ (flow_run.name if flow_run.name.startswith(flow.name) else flow.name ~ ' ' ~ flow_run.name) | PLAIN }}"
        ": {{ flow_run.state.name }}".replace("PLAIN", PLAIN),
        "{{ flow_run.state.message | PLAIN }}\n{{ flow_run|ui_url }}".replace("PLAIN", PLAIN),
    )


def change_notification(block: UUID) -> "AutomationCore":
    """Return the automation that sends a message for approval requests, promotions, rollbacks, moved aliases, and what is overdue."""
    from prefect.events.schemas.events import ResourceSpecification

    return _notification(
        "evergreen: tell of promotions and approvals",
        "Sends a message when an approval is requested, a version becomes champion, an alias was moved by hand, a partition is late, "
        "or a champion is too old.",
        {"expect": MODEL_EVENTS, "match": ResourceSpecification({"prefect.resource.id": "evergreen.model.*"})},
        block,
        "{{ event.resource['evergreen.model'] }}: {{ event.event }}",
        MESSAGE_BODY,
    )


def _notification(
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
