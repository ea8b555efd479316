"""The index of all models: the most severe alert first, with the skill over time and the next run."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from configs.load import model_names
from tasks.contracts.words import number, percent
from tasks.reports.health import GOOD, Severity
from tasks.reports.pages.model import TREND
from tasks.reports.pages.template import render_template

ORDER = (*map(str, Severity), GOOD)
"""States of a model in the order of the index."""


def render_hub(pages: Sequence[Mapping[str, Any]], without: Sequence[str] = ()) -> str:
    """Render the index as HTML.

    Args:
        pages: The output of `pages.model.describe` for each model.
        without: Models that have no page yet.
    """
    shown = sorted(pages, key=lambda page: (ORDER.index(page["state"]), page["model"]))
    counts = {state: sum(page["state"] == state for page in shown) for state in ORDER}
    return render_template(
        Path(__file__).parent / "hub.html.j2",
        rows=[_row(page) for page in shown],
        counts=counts,
        without=without,
        trend=TREND,
    )


def _row(page: Mapping[str, Any]) -> dict[str, Any]:
    """One model's row in the index. The keys `days`, `order`, `skill_sort`, `loss_sort` and `fall_sort` are what rows are sorted by."""
    champion, trend = page["champion"], page["trend"]
    losses = [part["loss"] for part in page["partitions"] if part["loss"] is not None]
    fall = median(trend) - trend[-1] if trend else None
    first = page["alerts"][0] if page["alerts"] else {"message": "", "action": ""}
    return {
        "model": page["model"],
        "state": page["state"],
        "order": ORDER.index(page["state"]),
        "champion": f"v{champion['version']}" if champion else "none",
        "age": f"{champion['age']} day{'' if champion['age'] == 1 else 's'}" if champion else "",
        "days": champion["age"] if champion else -1,
        "newest": page["partitions"][-1]["key"] if page["partitions"] else "",
        "decision": page["last_decision"],
        "message": first["message"],
        "action": first["action"],
        "more": max(0, len(page["alerts"]) - 1),
        "points": sparkline(trend),
        "skill": percent(trend[-1]) if trend else "",
        "skill_sort": trend[-1] if trend else "",
        "loss": f"{number(losses[-1])} {page['loss']}" if losses else "",
        "loss_sort": losses[-1] if losses else "",
        "fall_sort": "" if fall is None else round(fall, 4),
        "last_run": page["last_run"],
        "next_run": page["next_run"],
    }


def sparkline(values: Sequence[float]) -> str:
    """Return the points of a line through the values in a box of 110 by 26; empty for fewer than two."""
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return " ".join(
        f"{2 + 106 * at / (len(values) - 1):.1f},{23 - 20 * (value - low) / span:.1f}"
        for at, value in enumerate(values)
    )


def read_pages(folder: Path, layout_version: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Read the content of all model pages, and list the models that have no page of this layout version."""
    pages, without = [], []
    for name in model_names():
        try:
            content = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            content = {}
        if content.get("layout_version") == layout_version:
            pages.append(content["page"])
        else:
            without.append(name)
    return pages, without
