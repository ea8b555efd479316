"""Options for targets at addresses, and errors of their libraries without secrets."""

import json
from collections.abc import Mapping
from typing import Any

from configs.publish import Sink
from configs.schema import ModelConfig
from tasks.errors import EvergreenError, SinkRefused, SinkUnavailable, SourceRefused
from tasks.source.connections import Database
from tasks.storage.personal import error_text


def storage_options(name: str, sink: Sink, config: ModelConfig) -> dict[str, Any]:
    """The options of a sink's connection for its library. Empty without one: the library then reads its own variables, such as AWS_....

    Raises:
        SinkRefused: the connection has no value, or one that is no JSON object.
    """
    if sink.connection is None:
        return {}
    database = Database(config, f"publish.{name}: {sink.place}", sink.connection, 0)
    try:
        options = json.loads(database.address)
    except SourceRefused as error:
        raise SinkRefused(str(error)) from None
    except ValueError:
        options = None
    if not isinstance(options, dict):
        raise SinkRefused(
            f'{database.place}: the connection is no JSON object of storage options, such as {{"key": "..."}}; correct {database.variable}'
        )
    return options


def translate(
    error: Exception, name: str, sink: Sink, config: ModelConfig, options: Mapping[str, Any]
) -> EvergreenError:
    """A library's error as one that can be shown: on one line, without the values of the options."""
    if isinstance(error, EvergreenError):
        return error
    text = " ".join(error_text(config, error).split())
    for value in sorted(map(str, options.values()), key=len, reverse=True):
        text = text.replace(value, "***") if len(value) > 3 else text
    return SinkUnavailable(f"publish.{name}: {sink.place}: {text[:500]}. The next run tries again")
