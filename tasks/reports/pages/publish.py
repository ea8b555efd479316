"""Write a model's pages and the index where they have changed. The pages tell of records and ledger and can be made again.

.evergreen/pages/index.html            all models
                 <model>.html          one model, and as <model>.json what it says
                 <model>-data.html     its data
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from configs.settings import Settings
from tasks.orchestration.prefect_tasks import is_simulation
from tasks.orchestration.schedules import Schedule
from tasks.reports.pages.catalogue import describe_data, render_data
from tasks.reports.pages.hub import kept, render_hub
from tasks.reports.pages.model import describe, render
from tasks.resources import Resources
from tasks.storage.files import digest_json, replacing

LAYOUT_VERSION = 2
"""Raised when the same content would look otherwise."""


def refresh_pages(res: Resources, schedules: Sequence[Schedule] | None = None) -> dict[str, Any] | None:
    """Bring a model's pages and the index up to date; returns what its page says, None when nothing had changed.

    A variant and a replay have none. `schedules` are the active ones of the model's deployments, None if not known.
    """
    if is_simulation() or res.variant.name:
        return None
    folder, name = res.settings.pages, res.config.name
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):  # so that no older state is written over a newer one
        page, data = describe(res, schedules), describe_data(res)
        seen = digest_json([LAYOUT_VERSION, page, data])
        if changed := _written(folder, name) != seen:
            _write(folder / f"{name}-data.html", render_data(data))
            _write(folder / f"{name}.html", render(page))
            told = {"look": LAYOUT_VERSION, "made_of": seen, "page": page}
            _write(folder / f"{name}.json", json.dumps(told, indent=1) + "\n")
        refresh_hub(res.settings)
    return page if changed else None


def refresh_hub(settings: Settings) -> None:
    """Write the index where it would be another."""
    path, found = settings.pages / "index.html", render_hub(*kept(settings.pages, LAYOUT_VERSION))
    if not path.is_file() or path.read_text(encoding="utf-8") != found:
        _write(path, found)


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
