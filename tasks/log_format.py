"""JSON logs: one object a line with time (UTC), level, logger and message, and with model, partition, run and version where known.

`EVERGREEN_LOG_FORMAT` selects them. `tasks/orchestration/run_logs.py` adds what Prefect knows about a run.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

from configs.settings import Settings

TEXT_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
FIELDS = ("model", "partition", "run", "version")
"""What a line is about. A caller gives them in `extra` or, for all lines of a block, with `log_fields`."""
_FIELDS: ContextVar[Mapping[str, str]] = ContextVar("log_fields", default={})  # noqa: B039  (never changed in place)


@contextmanager
def log_fields(**fields: str) -> Iterator[None]:
    """Add fields to all lines that this thread logs in the body."""
    token = _FIELDS.set({**_FIELDS.get(), **fields})
    try:
        yield
    finally:
        _FIELDS.reset(token)


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without a newline. A traceback is in `exception`."""
        entry = {
            "time": f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%S}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **self.fields(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)

    def fields(self, record: logging.LogRecord) -> dict[str, str]:
        """Return the fields of `FIELDS` that are known about a record."""
        own = {name: getattr(record, name, None) for name in FIELDS}
        return {**_FIELDS.get(), **{name: str(value) for name, value in own.items() if value}}


def set_up_logging(settings: Settings) -> None:
    """Send the records of this process from INFO on to standard error, in the format of the settings."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else logging.Formatter(TEXT_FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
