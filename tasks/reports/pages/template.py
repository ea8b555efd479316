"""Render pages from templates. Each template extends `base.html.j2`, so that all pages look alike."""

from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def card_name(model: str, version: str) -> str:
    """Return the file name of a version's model card in the folder of the pages."""
    return f"{model}-v{version}.html"


def render_template(template: Path, **content: Any) -> str:
    """Render a page as one self-contained HTML file with a light and a dark theme. Text is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folders = [template.parent, HERE]
    env = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return env.get_template(template.name).render(**content)
