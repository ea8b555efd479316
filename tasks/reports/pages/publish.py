"""Write a model's pages and the index if they have changed. Everything on them comes from records and the ledger.

.evergreen/pages/index.html            all models
                 <model>.html          one model, and its content as <model>.json
                 <model>-data.html     its data
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from configs.settings import Settings
from tasks.orchestration.schedules import Schedule
from tasks.reports.pages.catalogue import describe_data, render_data
from tasks.reports.pages.hub import read_pages, render_hub
from tasks.reports.pages.model import describe, render
from tasks.resources import Resources
from tasks.storage.files import digest_json, replacing
from tasks.storage.folders import make_folder

LAYOUT_VERSION = 7
"""Raise it when a template changes: pages of another version are written again."""


def refresh_pages(res: Resources, schedules: Sequence[Schedule] | None = None) -> dict[str, Any] | None:
    """Write a model's pages and the index if they have changed. A variant and a replay have no pages.

    Args:
        res: The resources of the model.
        schedules: The active schedules of the model's deployments; None if Prefect did not answer.

    Returns:
        The content of the model's page; None if nothing has changed.
    """
    if not res.pages or res.variant.name:
        return None
    folder, name = res.settings.pages, res.config.name
    with FileLock(make_folder(folder) / ".lock"):  # an older state must not overwrite a newer one
        page, data = describe(res, schedules), describe_data(res)
        digest = digest_json([LAYOUT_VERSION, page, data])
        if changed := _written_digest(folder, name) != digest:
            _write(folder / f"{name}-data.html", render_data(data))
            _write(folder / f"{name}.html", render(page))
            content = {"layout_version": LAYOUT_VERSION, "digest": digest, "page": page}
            _write(folder / f"{name}.json", json.dumps(content, indent=1) + "\n")
        refresh_hub(res.settings)
    return page if changed else None


def refresh_hub(settings: Settings) -> None:
    """Write the index if it has changed."""
    path, html = settings.pages / "index.html", render_hub(*read_pages(settings.pages, LAYOUT_VERSION))
    if not path.is_file() or path.read_text(encoding="utf-8") != html:
        _write(path, html)


def page_url(res: Resources) -> str:
    """Return the address of a model's page on the page server."""
    return f"{res.settings.pages_ui}/{res.config.name}.html"


def _written_digest(folder: Path, name: str) -> str:
    """Return the digest of the content of the written page; empty if there is none."""
    try:
        return str(json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["digest"])
    except (OSError, ValueError, KeyError):
        return ""


def _write(path: Path, text: str) -> None:
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")
