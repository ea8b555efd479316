"""Every page for people has one look: a template of its own that extends `base.html.j2`."""

from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def card_name(model: str, version: str) -> str:
    """The file of a version's model card among the pages."""
    return f"{model}-v{version}.html"


def fill(template: Path, **content: Any) -> str:
    """The page that a template makes of its content: one file that needs no other, light and dark. Text is escaped."""
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
