"""Write a model's pages and the index where they have changed. The pages tell of records and ledger and can be made again.

.evergreen/pages/index.html            all models
                 <model>.html          one model, and as <model>.json what it says
                 <model>-data.html     its data
"""

import json
from pathlib import Path
from typing import Any

from configs.settings import Settings
from tasks.lake import digest_json, replacing
from tasks.pages.catalogue import describe_data, render_data
from tasks.pages.hub import kept, render_hub
from tasks.pages.model import describe, render
from tasks.rehearsal import rehearsing
from tasks.resources import Resources

LOOK = 1
"""Raised when the same content would look otherwise."""


def refresh_pages(res: Resources) -> dict[str, Any] | None:
    """Bring a model's pages and the index up to date; returns what its page says, None when nothing had changed.

    A variant and a replay have none.
    """
    if rehearsing() or res.variant.name:
        return None
    folder = res.settings.pages
    page, data = describe(res), describe_data(res)
    seen = digest_json([LOOK, page, data])
    if _written(folder, res.config.name) == seen:
        return None
    _write(folder / f"{res.config.name}-data.html", render_data(data))
    _write(folder / f"{res.config.name}.html", render(page))
    _write(folder / f"{res.config.name}.json", json.dumps({"made_of": seen, "page": page}, indent=1) + "\n")
    refresh_hub(res.settings)
    return page


def refresh_hub(settings: Settings) -> None:
    """Write the index anew."""
    _write(settings.pages / "index.html", render_hub(*kept(settings.pages)))


def page_url(res: Resources) -> str:
    """Where a browser finds a model's page while the stack is up."""
    return f"{res.settings.pages_ui}/{res.config.name}.html"


def _written(folder: Path, name: str) -> str:
    """What the page was made of; empty when there is none."""
    try:
        return str(json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["made_of"])
    except (OSError, ValueError, KeyError):
        return ""


def _write(path: Path, text: str) -> None:
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")
