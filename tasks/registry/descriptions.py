"""Descriptions for MLflow: of a registered model and of its versions, from the rows of the ledger.

They are Markdown, but MLflow's list of versions shows them as they are. So the first line of a version's has no markup of ours.
"""

from collections.abc import Sequence

from tasks.contracts import Promotion
from tasks.contracts.escape import for_markdown
from tasks.ledger.promotions import stage_of

SIGNATURE = "*Written by Evergreen from its ledger.*"
"""Last line of each description. A description without it is a person's, and is kept."""
LONGEST = 600
"""Characters of a reason. MLflow accepts 5,000 in all."""


def may_replace(description: str) -> bool:
    """Return whether a description is empty or was written by Evergreen."""
    return not description or SIGNATURE in description


def version_description(version: str, rows: Sequence[Promotion]) -> str:
    """Return what became of a version, and what it learned from; empty if the ledger has no row of it.

    Args:
        version: Its number.
        rows: All rows of the ledger, oldest first.
    """
    own = [row for row in rows if row.version == version]
    if not own:
        return ""
    first = own[0].reason[:1].upper() + own[0].reason[1:LONGEST]
    learned = f"{for_markdown(first)}, learned from rows before {own[0].window_end:%Y-%m-%d}."
    return f"{_state_text(version, own, rows)}\n\n{learned}\n\n{SIGNATURE}"


def _state_text(version: str, own: Sequence[Promotion], rows: Sequence[Promotion]) -> str:
    """Return the stage of a version with its date and reason, as one sentence."""
    last, stage = own[-1], stage_of(version, rows)
    reason, by, day = for_markdown(last.reason[:LONGEST]), for_markdown(last.by), f"{last.as_of:%Y-%m-%d}"
    championships = [row for row in own if row.to_stage == "champion"]
    if stage == "champion":
        row = championships[-1]
        return f"Champion for partitions after {row.as_of:%Y-%m-%d}, by {for_markdown(row.by)}: {for_markdown(row.reason[:LONGEST])}."
    if championships and stage == "retired":
        since, later = championships[-1], [row for row in rows if row.to_stage == "champion"]
        following = next((row for row in later if row.sequence > since.sequence), None)
        until = f" until {following.as_of:%Y-%m-%d}, replaced by version {following.version}" if following else ""
        return f"Retired. It was champion for partitions after {since.as_of:%Y-%m-%d}{until}."
    return f"{stage.capitalize()} as of {day}, by {by}: {reason}."


def model_description(text: str, champion: Promotion | None, links: str) -> str:
    """Return the description of a registered model.

    Args:
        text: The description in model.yaml.
        champion: The row of the current champion.
        links: Markdown links to pages about the model.
    """
    state = "No version is champion yet."
    if champion:
        state = f"**Version {champion.version}** is champion for partitions after {champion.as_of:%Y-%m-%d}."
    return f"{for_markdown(text.strip())}\n\n{state} {links}\n\n{SIGNATURE}"
