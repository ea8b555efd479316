"""Render pages from templates. Each template extends `base.html.j2`, so that all pages look alike."""

import functools
import re
from datetime import datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.contracts.escape import one_line
from tasks.resources import Resources
from tasks.storage.files import digest_json

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).parent
STAGE = re.compile(r'(<p id="stage">Stage today: ).*?(</p>)', re.DOTALL)
"""The line of a card that changes after it was written."""
DATE = re.compile(r"\d{4}-[\d :-]+")
"""A partition or a moment, which is not broken at its hyphens."""
SCRIPTS = ("uplot.js", "elements.js", "charts.js", "tables.js", "pages.js")
"""Scripts of the pages, each after those that it uses."""
ASSETS = ("pages.css", "uplot.css", *SCRIPTS, "uplot-LICENSE.txt")
"""Files that the pages load from the folder `assets` beside them. `uplot` is uPlot 1.6.32: small, without `eval`."""


def card_name(model: str, version: str) -> str:
    """Return the file name of a version's model card in the folder of the pages."""
    return f"{model}-v{version}.html"


def training_name(model: str, as_of: datetime) -> str:
    """Return the file name of the card of a training that has no version, in the folder of the pages."""
    return f"{model}-training-{as_of:%Y%m%dT%H%M}.html"


def facts_name(model: str, version: str) -> str:
    """Return the name of the file with what a version's card has for other pages, in the folder of the pages."""
    return f"{model}/versions/{version}.json"


def documentation_name(model: str, version: str) -> str:
    """Return the file name of a version's documentation in the folder of the pages."""
    return f"{model}-v{version}-documentation.html"


def card_link(text: str, version: str, res: Resources) -> Any:
    """Return a cell that links to a version's model card; only the text if the card is not among the pages."""
    name = card_name(res.config.name, version)
    return {"text": text, "href": name} if version and (res.settings.pages / name).is_file() else text


def with_stage(card: str, stage: str, event: str) -> str:
    """Return a card with the version's stage of today in its line `STAGE`. A card of an earlier release has none and stays as it is."""
    return STAGE.sub(
        lambda match: f"{match[1]}{escape(stage)}. Newest event: {escape(one_line(event))}{match[2]}", card, count=1
    )


def asset(name: str) -> str:
    """Return the content of one of `ASSETS`."""
    return (HERE / "assets" / name).read_text(encoding="utf-8")


def assets_digest() -> str:
    """Return a digest of all assets, which is part of their addresses, so that browsers load new ones."""
    return digest_json([asset(name) for name in ASSETS])[:12]


@functools.cache
def _environment(folder: Path) -> "Environment":
    """Return the environment of the templates in a folder, which compiles each once."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([folder, HERE]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.globals["is_date"] = lambda cell: isinstance(cell, str) and DATE.fullmatch(cell) is not None
    return environment


def render_template(template: Path, **content: Any) -> str:
    """Render a page as HTML with a light and a dark theme. Text is escaped.

    A template whose `alone` is true gives one self-contained file. The others load `ASSETS`.
    """
    env = _environment(template.parent)
    return env.get_template(template.name).render(
        css=asset("pages.css"), assets=assets_digest(), scripts=SCRIPTS, **content
    )
