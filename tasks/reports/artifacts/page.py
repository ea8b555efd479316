"""What every page and table is made of."""

from collections.abc import Sequence

from prefect.artifacts import create_markdown_artifact

from tasks.errors import EvergreenError
from tasks.orchestration.run_names import page_key
from tasks.resources import Resources


def publish_page(res: Resources, page: str, line: str, body: Sequence[str]) -> str:
    """A markdown page that begins with its headline, which also is the run's state message; returns the headline."""
    create_markdown_artifact("\n".join([f"**{line}**", "", *body]), key=page_key(res.slug, page), description=line)
    return line


def version_link(res: Resources, version: str, run_id: str) -> list[str]:
    """A version's MLflow pages; none for a registry without a server, and only what can be had when it is down."""
    if not (model := res.registry.version_url(version)):
        return []
    try:
        run = f", [run]({res.registry.run_url(run_id)})"
    except EvergreenError:
        run = ""
    return [f"- version {version}: [model]({model}){run}"]
