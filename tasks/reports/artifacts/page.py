"""Helpers for markdown pages in Prefect."""

from collections.abc import Sequence

from prefect.artifacts import create_markdown_artifact

from tasks.errors import EvergreenError
from tasks.orchestration.run_names import page_key
from tasks.resources import Resources


def publish_page(res: Resources, page: str, line: str, body: Sequence[str]) -> str:
    """Create a markdown page in Prefect and return its headline.

    Args:
        res: The resources of the model.
        page: Name of the page; the artifact key is `<model>-<page>`.
        line: The headline, also used as the run's state message.
        body: Lines of markdown below the headline.
    """
    create_markdown_artifact("\n".join([f"**{line}**", "", *body]), key=page_key(res.slug, page), description=line)
    return line


def version_link(res: Resources, version: str, run_id: str) -> list[str]:
    """Return a line of markdown with links to a version in MLflow; no line if the registry has no server."""
    if not (model := res.registry.version_url(version)):
        return []
    try:
        run = f", [run]({res.registry.run_url(run_id)})"
    except EvergreenError:
        run = ""
    return [f"- version {version}: [model]({model}){run}"]
