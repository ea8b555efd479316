"""The kinds of places that `publish` can send to, behind one contract. A further kind is a further class."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from configs.publish import Sink
from configs.schema import ModelConfig
from tasks.sinks.database import DatabaseTarget
from tasks.sinks.delta import DeltaTarget
from tasks.sinks.files import FileTarget

if TYPE_CHECKING:
    import pyarrow as pa


class Target(Protocol):
    """A place that has the rows of one output, of any number of models and partitions."""

    def replace(self, partition: str, schema: "pa.Schema", rows: "Iterator[pa.Table]") -> int:
        """Replace the rows of this model's partition by others, all or nothing. Twice has the same result as once.

        The first call creates the target, a later one checks its columns. A process that is killed during it leaves the earlier rows.

        Args:
            partition: The partition.
            schema: The columns. The first two are `model` and `partition`.
            rows: The rows, as tables with these columns. At least one, which may have no rows.

        Returns:
            The number of rows.

        Raises:
            SinkUnavailable: it does not respond.
            SinkRefused: it does not accept us.
            SinkMismatch: it has other columns or types.
            SinkRowsRefused: it does not take these rows.
        """
        ...


def open_target(name: str, sink: Sink, config: ModelConfig) -> Target:
    """The target of a sink of model.yaml. Opens no connection."""
    if sink.table:
        return DatabaseTarget(name, sink, config)
    return DeltaTarget(name, sink, config) if sink.delta else FileTarget(name, sink, config)
