"""Render the templates in ops/templates."""

from pathlib import Path

import jinja2

from ops.schedule_times import Times, times

TEMPLATES = Path(__file__).with_name("templates")
BLOCK = "deployments.yaml"
"""The deployments of one model, for prefect.yaml."""


def environment() -> jinja2.Environment:
    """Return the environment of the templates in ops/templates."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  (YAML and SQL)
    )


def render(file: str, name: str, schedules: Times | None = None) -> str:
    """Return a file of ops/templates, rendered with the model's name, and with its schedules, by default those of daily partitions."""
    return environment().get_template(f"{file}.j2").render(name=name, times=schedules or times())
