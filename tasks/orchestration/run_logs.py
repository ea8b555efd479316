"""JSON logs of a worker and its flow runs, with what Prefect knows about the run. `ops/worker.py` selects them."""

import logging
from collections.abc import Mapping
from typing import Any

from tasks.log_format import JsonFormatter

VARIABLES = {
    "PREFECT_LOGGING_HANDLERS_CONSOLE_FORMATTER": "json",
    "PREFECT_LOGGING_FORMATTERS_JSON_CLASS": f"{__name__}.RunFormatter",
    "PREFECT_LOGGING_COLORS": "false",
}
"""Variables by which Prefect formats the records on its console in this way. The process needs the repository's root in its path."""


class RunFormatter(JsonFormatter):
    """Adds the id and the name of the flow run, the name of the task run, and the model and the partition that the run is for."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Ignore format, date format and style, which Prefect's configuration has for its own JSON."""
        super().__init__()
        self._parameters: dict[str, Mapping[str, Any]] = {}

    def fields(self, record: logging.LogRecord) -> dict[str, str]:
        """Return the fields that are known, those of the line itself first."""
        context = _current_run()
        current = context.flow_run if context else None
        run = str(getattr(record, "flow_run_id", None) or (current.id if current else ""))
        if current:
            self._parameters = {str(current.id): context.parameters or {}} | self._parameters
        parameters = self._parameters.get(run, {})  # also for its last line, which Prefect logs after the run
        about = {
            "model": parameters.get("model"),
            "partition": parameters.get("partition"),
            "run": run,
            "run_name": getattr(record, "flow_run_name", None) or (current.name if current else None),
            "task": getattr(record, "task_run_name", None),
        }
        known = {name: str(value) for name, value in about.items() if value and value != "<unknown>"}
        return known | super().fields(record)


def _current_run() -> Any:
    """Return the context of the current flow run, None outside of one."""
    from prefect.context import FlowRunContext  # noqa: PLC0415  (Prefect loads this module while it is imported itself)

    return FlowRunContext.get()
