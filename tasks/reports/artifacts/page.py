"""Helpers for markdown pages in Prefect."""

from collections.abc import Iterable, Sequence
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from tasks.contracts.escape import for_markdown
from tasks.errors import EvergreenError
from tasks.orchestration.run_names import page_key
from tasks.reports.pages.publish import page_url
from tasks.resources import Resources


def publish_page(res: Resources, page: str, line: str, body: Sequence[str]) -> str:
    """Create a markdown page in Prefect and return its headline.

    Args:
        res: The resources of the model.
        page: Name of the page; the artifact key is `<model>-<page>`.
        line: The headline as plain text, also used as the run's state message.
        body: Lines of markdown below the headline.
    """
    headline = for_markdown(line)
    footer = (
        ["", f"[The page of {for_markdown(res.config.name)}]({page_url(res)})"] if res.pages and page != "model" else []
    )
    markdown = "\n".join([f"**{headline}**", "", *body, *footer])
    create_markdown_artifact(markdown, key=page_key(res.slug, page), description=headline)
    return line


def publish_table(res: Resources, table: str, rows: list[dict[str, Any]], description: str) -> None:
    """Create a table in Prefect, with the artifact key `<model>-<table>`. Prefect shows the description as markdown, the cells as text."""
    create_table_artifact(rows, key=page_key(res.slug, table), description=for_markdown(description))


def table_lines(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return a table as lines of markdown. `head` and `rows` have plain values."""
    lines = [f"| {' | '.join(map(for_markdown, cells))} |" for cells in (head, *rows)]
    return [lines[0], "|---" * len(head) + "|", *lines[1:]]


def version_link(res: Resources, version: str, run_id: str) -> list[str]:
    """Return a line of markdown with links to a version in MLflow; no line if the registry has no server."""
    if not (model := res.registry.version_url(version)):
        return []
    try:
        run = f", [run]({res.registry.run_url(run_id)})"
    except EvergreenError:
        run = ""
    return [f"- version {version}: [model]({model}){run}"]
