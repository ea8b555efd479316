"""The table of a run of several models, and its message."""

from collections.abc import Sequence

from prefect import runtime
from prefect.artifacts import create_markdown_artifact

from configs.settings import load_settings
from tasks.contracts.escape import for_markdown
from tasks.contracts.links import run_url
from tasks.contracts.words import counted, first_line
from tasks.orchestration.selection import ModelRun

NAMED = 5
"""Models that did not complete and are in the message."""


def publish_selection(runs: Sequence[ModelRun]) -> tuple[str, list[str], bool]:
    """Create a table of the models in Prefect, failed ones first, and return the run's message, its tags, and whether it failed."""
    flow, failed = runtime.flow_run.flow_name, [run.model for run in runs if run.has_failed]
    line = f"{flow}: {len(runs) - len(failed)} of {counted(len(runs), 'model')} completed"
    if failed:
        line += f"; not {', '.join(failed[:NAMED])}" + (f" and {len(failed) - NAMED} more" if failed[NAMED:] else "")
    ordered = sorted(runs, key=lambda run: (not run.has_failed, run.model))
    table = ["| model | result | message |", "|---|---|---|", *map(_row, ordered)]
    markdown = "\n".join([f"**{for_markdown(line)}.**", "", *table])
    create_markdown_artifact(markdown, key=f"models-{flow}", description=for_markdown(line))
    return f"{line}.", [], bool(failed)


def _row(run: ModelRun) -> str:
    name = for_markdown(run.model)
    page = f"[{name}]({run_url(load_settings().prefect_ui, run.flow_run)})" if run.flow_run else name
    return f"| {page} | {for_markdown(run.state)} | {for_markdown(first_line(run.message))} |"
