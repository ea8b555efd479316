"""A Delta table as a target. The rows of a partition are replaced in one commit."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from configs.flat import literal
from configs.publish import Sink
from configs.schema import ModelConfig
from tasks.errors import EvergreenError, SinkMismatch
from tasks.sinks.storage import rows_refused, storage_options, translate
from tasks.source.delta_log import delta_address

if TYPE_CHECKING:
    import pyarrow as pa

PARTITION_BY = ["model", "partition"]
"""How a new table is divided into files, so that a partition is replaced without rewriting others."""


class DeltaTarget:
    """A Delta table, see `Target`."""

    def __init__(self, name: str, sink: Sink, config: ModelConfig) -> None:
        self.name, self.sink, self.config = name, sink, config
        self.address = delta_address(str(sink.delta))

    def replace(self, partition: str, schema: "pa.Schema", rows: "Iterator[pa.Table]") -> int:
        """See `Target`. If another process commits the same partition in between, this commit fails, and the next run sends it."""
        import pyarrow as pa
        from deltalake import write_deltalake

        options = storage_options(self.name, self.sink)
        count, problem = 0, list[Exception]()

        def parts() -> "Iterator[pa.RecordBatch]":
            nonlocal count
            try:
                for table in rows:
                    count += table.num_rows
                    yield from table.to_batches()
            except Exception as error:
                problem.append(error)
                raise

        where = f"model = {literal(self.config.name)} AND partition = {literal(partition)}"
        try:
            self._create_or_check(schema, options)
            reader = pa.RecordBatchReader.from_batches(schema, parts())
            write_deltalake(
                self.address,
                reader,
                mode="overwrite",
                predicate=where,
                partition_by=PARTITION_BY,
                storage_options=options or None,
            )
        except Exception as error:  # noqa: BLE001  (a traceback has the causes of an error, and their texts may have secrets)
            if problem and not isinstance(problem[0], EvergreenError):  # our own rows, not the table
                raise rows_refused(problem[0], self.name, self.sink, self.config) from None
            raise translate(problem[0] if problem else error, self.name, self.sink, self.config) from None
        return count

    def _create_or_check(self, schema: "pa.Schema", options: Mapping[str, Any]) -> None:
        """Create the table, so that of two first commits of a partition one fails too; or require that an existing one has these columns.

        Further columns become null.

        Raises:
            SinkMismatch: it has not.
        """
        from deltalake import DeltaTable, Schema

        stored = dict(options) or None
        if not DeltaTable.is_deltatable(self.address, storage_options=stored):
            DeltaTable.create(self.address, schema, mode="ignore", partition_by=PARTITION_BY, storage_options=stored)
            return
        present = {f.name: str(f.type) for f in DeltaTable(self.address, storage_options=stored).schema().fields}
        wanted = {f.name: f for f in Schema.from_arrow(schema).fields}
        missing = [name for name in wanted if name not in present]
        problems = [f"it has no column {name} ({wanted[name].type})" for name in missing]
        problems += [
            f"column {n} is {present[n]}, not {f.type}"
            for n, f in wanted.items()
            if present.get(n, str(f.type)) != str(f.type)
        ]
        if problems:
            way = "Add it with `DeltaTable(...).alter.add_columns`" if missing else "Correct the table"
            raise SinkMismatch(
                f"publish.{self.name}: {self.sink.place}: {'; '.join(problems)}. Nothing was sent. {way}, or choose another one"
            )
