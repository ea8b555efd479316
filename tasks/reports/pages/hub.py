"""The index over all models: who needs a person comes first."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.load import model_names
from tasks.reports.pages.template import fill

ORDER = ("broken", "asks for you", "worth a look", "good")


def render_hub(pages: Sequence[Mapping[str, Any]], without: Sequence[str] = ()) -> str:
    """The page as HTML; `pages` are what `describe` says of each model, `without` the models that have no page yet."""
    shown = sorted(pages, key=lambda page: (ORDER.index(page["state"]), page["model"]))
    counts = {word: sum(page["state"] == word for page in shown) for word in ORDER}
    return fill(
        Path(__file__).parent / "hub.html.j2", rows=[_row(page) for page in shown], counts=counts, without=without
    )


def _row(page: Mapping[str, Any]) -> dict[str, Any]:
    """A model in the index."""
    champion, decisions = page["champion"], page["decisions"]
    newest = page["partitions"][-1]["key"] if page["partitions"] else ""
    first = page["needs"][0] if page["needs"] else {"told": "", "do": ""}
    return {
        "model": page["model"],
        "state": page["state"],
        "champion": f"v{champion['version']}" if champion else "none",
        "age": f"{champion['age']} days" if champion else "",
        "newest": newest,
        "decision": decisions[0][2] if decisions else "",
        "need": first["told"],
        "do": first["do"],
        "more": max(0, len(page["needs"]) - 1),
        "approvals": sum("approval" in need["told"] for need in page["needs"]),
    }


def kept(folder: Path, look: int) -> tuple[list[dict[str, Any]], list[str]]:
    """What the models' pages say, as it was last written; and the models that have none of this `look` yet."""
    found, without = [], []
    for name in model_names():
        try:
            told = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            told = {}
        if told.get("look") == look:
            found.append(told["page"])
        else:
            without.append(name)
    return found, without
