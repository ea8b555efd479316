"""The index of all models, most severe alert first."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.load import model_names
from tasks.reports.health import GOOD, Severity
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
        Path(__file__).parent / "hub.html.j2", rows=[_row(page) for page in shown], counts=counts, without=without
    )


def _row(page: Mapping[str, Any]) -> dict[str, Any]:
    """One model's row in the index."""
    champion, decisions = page["champion"], page["decisions"]
    newest = page["partitions"][-1]["key"] if page["partitions"] else ""
    first = page["alerts"][0] if page["alerts"] else {"message": "", "action": ""}
    return {
        "model": page["model"],
        "state": page["state"],
        "champion": f"v{champion['version']}" if champion else "none",
        "age": f"{champion['age']} days" if champion else "",
        "newest": newest,
        "decision": decisions[0][2] if decisions else "",
        "message": first["message"],
        "action": first["action"],
        "more": max(0, len(page["alerts"]) - 1),
        "approvals": sum("approval" in alert["message"] for alert in page["alerts"]),
    }


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
