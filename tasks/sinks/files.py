"""Parquet files as a target, one for each partition, in a folder or an object store."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from upath import UPath

from configs.publish import Sink
from configs.schema import ModelConfig
from configs.settings import ROOT
from tasks.errors import EvergreenError
from tasks.sinks.storage import rows_refused, storage_options, translate
from tasks.storage.files import open_root, replacing

if TYPE_CHECKING:
    import pyarrow as pa


class FileTarget:
    """Files by partition, see `Target`. Each has its own columns."""

    def __init__(self, name: str, sink: Sink, config: ModelConfig) -> None:
        self.name, self.sink, self.config = name, sink, config

    def replace(self, partition: str, schema: "pa.Schema", rows: "Iterator[pa.Table]") -> int:
        """See `Target`. A reader finds the earlier file or the new one."""
        import pyarrow.parquet as pq

        options, count = storage_options(self.name, self.sink), 0
        address = str(self.sink.path).format(model=self.config.name, partition=partition)
        try:
            is_local = "://" not in address or address.startswith("file://")
            path = open_root(address, ROOT) if is_local else UPath(address, use_listings_cache=False, **options)
            with replacing(path) as draft, pq.ParquetWriter(draft, schema, compression="zstd") as writer:
                for table in self._own(rows):
                    writer.write_table(table)
                    count += table.num_rows
        except Exception as error:  # noqa: BLE001  (a traceback has the causes of an error, and their texts may have secrets)
            raise translate(error, self.name, self.sink, self.config) from None
        return count

    def _own(self, rows: "Iterator[pa.Table]") -> "Iterator[pa.Table]":
        """The rows. An error while they are made is about them, and not about the place."""
        try:
            yield from rows
        except EvergreenError:
            raise
        except Exception as error:  # noqa: BLE001  (each library has its own)
            raise rows_refused(error, self.name, self.sink, self.config) from None
