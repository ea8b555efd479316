"""Options for targets at addresses, and errors of their libraries without secrets."""

import re
from typing import Any

from configs.publish import Sink
from configs.schema import ModelConfig
from tasks.errors import EvergreenError, SinkRefused, SinkRowsRefused, SinkUnavailable, SourceRefused
from tasks.source import secret_values
from tasks.source.storage_errors import storage_problem
from tasks.storage.personal import error_text


def storage_options(name: str, sink: Sink) -> dict[str, Any]:
    """The options of a sink's connection for its library. Empty without one: the library then reads its own variables, such as AWS_....

    Raises:
        SinkRefused: the connection has no value, or one that is no JSON object.
    """
    try:
        return secret_values.storage_options(sink.connection, f"publish.{name}: {sink.place}")
    except SourceRefused as error:
        raise SinkRefused(str(error)) from None


def translate(error: Exception, name: str, sink: Sink, config: ModelConfig) -> EvergreenError:
    """A library's error as one that can be shown: on one line, without the values of the options."""
    if isinstance(error, EvergreenError):
        return error
    text = error_text(config, error)
    kind, shown, action = storage_problem(error, text, sink.connection)
    problem = f"publish.{name}: {sink.place}: {shown}. Nothing was changed"
    if re.search(r"failed validation check|Check constraint", text):
        return SinkRowsRefused(f"{problem}. Correct the rows, or the table's constraint")
    return (
        SinkUnavailable(f"{problem}. The next run tries again")
        if kind == "unavailable"
        else SinkRefused(f"{problem}. {action}")
    )


def rows_refused(error: Exception, name: str, sink: Sink, config: ModelConfig) -> EvergreenError:
    """An error of the rows of one partition: other partitions are sent."""
    text = " ".join(error_text(config, error).split())
    return SinkRowsRefused(
        f"publish.{name}: {sink.place}: these rows cannot be sent: {text[:500]}. Nothing was changed"
    )
