"""Partitions in a folder or a bucket: `<root>/<model>/<stage>/<partition>.parquet`, each with a JSON record.

Files are written atomically, and the record is written last. An output is done if its record says so.
Its file is compared with the record when it is read.
"""

import io
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from upath import UPath

from tasks.contracts import Freshness, PartitionRef, Record, RunInfo, Stage
from tasks.errors import CorruptPartition, MissingPartition
from tasks.storage.files import digest_file, digest_json, digest_of, open_file, replacing
from tasks.storage.records import changed_inputs, dump_record, parse_record, read_cached, record_checksum

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

SUFFIXES = ("parquet", "html", "distributions")
"""Suffixes of the files that a step may write beside its record."""
STAGES_WITH_ROWS = (Stage.RAW, Stage.VALID, Stage.SKETCHES, Stage.PREDICTIONS, Stage.SHADOW, Stage.FORMER, Stage.LABELS)
"""Stages that write a file with rows. The others have only a record."""
BATCH_ROWS = 1 << 18
"""Rows that are held in memory at a time where a partition is read in batches."""


class Lake:
    """One model's partitions and records under a root.

    The lake of a variant is an overlay over that of its model, `base`: it writes only into itself, and reads from `base` what it does not
    have. A variant with other partitions than its model is `alone` and has no `base`.

    Attributes:
        publishes: Whether other teams read it, so that the published contract holds: not the lake of a variant, a replay or a comparison.
    """

    def __init__(self, root: UPath, model: str, variant: str = "", alone: bool = False) -> None:
        self.model, self.variant, self.publishes = model, variant, not variant
        self.base = Lake(root, model) if variant and not alone else None
        self.root = root / model / "variants" / variant if variant else root / model

    @property
    def keeps_earlier(self) -> bool:
        """Whether contents that something was made from are kept when others replace them, see `storage/earlier.py`."""
        return not self.variant

    def path(self, stage: Stage, key: str, suffix: str = "parquet") -> UPath:
        """The file of a stage's partition in this lake, where it writes."""
        return self.root / stage / f"{key}.{suffix}"

    def file(self, stage: Stage, key: str) -> UPath:
        """The file with the rows of `record`, which may be in the base lake."""
        return self.path(stage, key) if self.base is None or self.owns(stage, key) else self.base.path(stage, key)

    def record(self, stage: Stage, key: str) -> Record | None:
        """The record of a stage, None if it does not exist or cannot be read."""
        return self._own_record(stage, key) or (self.base.record(stage, key) if self.base else None)

    def owns(self, stage: Stage, key: str) -> bool:
        """Whether this lake has the stage, and not only the base lake."""
        return self.base is None or self._own_record(stage, key) is not None

    def _own_record(self, stage: Stage, key: str) -> Record | None:
        path = self.path(stage, key, "json")
        try:
            if not isinstance(path, Path):
                return parse_record(path.read_bytes())
            stat = path.stat()
            return read_cached(str(path), stat.st_mtime_ns, stat.st_ino, stat.st_size)
        except (FileNotFoundError, ValueError):
            return None

    def keys(self, stage: Stage) -> list[str]:
        """The partitions that have a record of the stage, oldest first."""
        own = {p.stem for p in (self.root / stage).glob("*.json") if not p.name.startswith(".")}
        return sorted(own.union(self.base.keys(stage) if self.base else ()))

    def failed(self, stage: Stage) -> list[str]:
        """The partitions whose last run of the stage failed, even if an earlier run was successful, oldest first."""
        return sorted(p.stem for p in (self.root / stage).glob("*.failure") if not p.name.startswith("."))

    def done(self, stage: Stage, key: str) -> Record:
        """The record of a stage, which must be done.

        Raises:
            MissingPartition: the stage was never run for this partition, or is blocked.
        """
        record = self.record(stage, key)
        if record is None:
            raise MissingPartition(f"{self.model} {key}: no {stage} data; run `backfill` for {key} first")
        if record.status == "blocked":
            raise MissingPartition(f"{self.model} {key}: {stage} is blocked: {record.reason}")
        return record

    def read(self, stage: Stage, key: str, columns: list[str] | None = None) -> "pd.DataFrame":
        """A stage's rows.

        Args:
            stage: The stage.
            key: The partition.
            columns: Columns to read. Those that the file lacks are ignored: a feature may be newer than a partition.

        Raises:
            MissingPartition: the stage was never run for this partition, or is blocked.
            CorruptPartition: the file does not exist, or does not match its record.
        """
        import pandas as pd
        import pyarrow.parquet as pq

        with self._open_verified(stage, key) as file:
            content = io.BytesIO(file.read())
        if columns is not None:
            names = set(pq.read_schema(content).names)
            columns = [name for name in columns if name in names]
            content.seek(0)
        return pd.read_parquet(content, columns=columns)

    def read_table(self, stage: Stage, key: str) -> "pa.Table":
        """A stage's rows as an Arrow table.

        Raises:
            MissingPartition, CorruptPartition: see `read`.
        """
        import pyarrow.parquet as pq

        with self._open_verified(stage, key) as file:
            return pq.read_table(io.BytesIO(file.read()))

    def batches(self, stage: Stage, key: str, columns: list[str] | None = None) -> Iterator["pa.Table"]:
        """The same rows in the same order, `BATCH_ROWS` at a time. `columns` must all exist.

        Raises:
            MissingPartition, CorruptPartition: see `read`.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        with self._open_verified(stage, key) as file, pq.ParquetFile(file) as rows:
            if not rows.metadata.num_rows:
                yield rows.read(columns)
            for batch in rows.iter_batches(BATCH_ROWS, columns=columns):
                yield pa.Table.from_batches([batch])

    @contextmanager
    def _open_verified(self, stage: Stage, key: str) -> "Iterator[IO[bytes]]":
        """Open the file of a stage's rows, after comparing its digest with the record."""
        for pause in (0.1, 0.5, 0.0):  # another process may be between writing the file and its record
            record, path = self.done(stage, key), self.file(stage, key)
            with open_file(path) as file:
                if digest_of(file) == record.digest:
                    file.seek(0)
                    yield file
                    return
            time.sleep(pause)
        raise CorruptPartition(
            f"{path} does not match its record; run `backfill` with mode=verify for {key}, which makes it again"
        )

    def write_frame(self, stage: Stage, key: str, frame: "pd.DataFrame") -> str:
        """Write a stage's rows and return their digest. The caller then writes the record."""
        import pyarrow as pa

        return self.write_table(stage, key, pa.Table.from_pandas(frame, preserve_index=False))

    def write_table(self, stage: Stage, key: str, table: "pa.Table") -> str:
        """Write an Arrow table and return its digest. Its metadata is left out, because it contains library versions."""
        return self.write_batches(stage, key, [table])[1]

    def write_batches(self, stage: Stage, key: str, tables: "Iterable[pa.Table]") -> tuple[int, str]:
        """Write tables into one file, each as a row group.

        Args:
            stage: The stage.
            key: The partition.
            tables: At least one. All must have the types of the first.

        Returns:
            The number of rows, and the digest.
        """
        import pyarrow.parquet as pq

        count, writer = 0, None
        with replacing(self.path(stage, key)) as draft, ExitStack() as open_files:
            for table in tables:
                plain = table.replace_schema_metadata(None)
                writer = writer or open_files.enter_context(pq.ParquetWriter(draft, plain.schema, compression="zstd"))
                writer.write_table(plain)
                count += plain.num_rows
            open_files.close()
            return count, digest_file(draft)

    def write_record(
        self,
        ref: PartitionRef,
        stage: Stage,
        *,
        version: int,
        inputs: Mapping[str, str],
        rows: int = 0,
        digest: str | None = None,
        data: Mapping[str, Any] | None = None,
        blocked: bool = False,
        run: RunInfo | None = None,
        files: Iterable[str] = (),
    ) -> Record:
        """Write the record of a stage that is done or blocked, and delete the note of an earlier failure.

        Args:
            ref: The partition, and the moment as of which it was processed.
            stage: The stage.
            version: Version of the stage's code.
            inputs: Digests of the inputs by name.
            rows: Rows that were written.
            digest: Digest of the stage's file. None takes the digest of `data`.
            data: Other results, as JSON values.
            blocked: Whether the partition is blocked at this stage. An existing file is then deleted.
            run: The run that did it.
            files: Other files that the step has written, as paths below this lake's root.
        """
        record = Record(
            model=ref.model,
            stage=stage,
            partition=ref.key,
            as_of=ref.as_of,
            version=version,
            status="blocked" if blocked else "done",
            rows=rows,
            digest=digest or digest_json(data or {}),
            inputs=dict(inputs),
            data=dict(data or {}),
            run=run and replace(run, files={name: self._digest_of_file(name) for name in files}),
        )
        if record.run:
            checksum = record_checksum(json.loads(dump_record(record)))
            record = replace(record, run=replace(record.run, checksum=checksum))
        with replacing(self.path(stage, ref.key, "json")) as draft:
            draft.write_bytes(dump_record(record) + b"\n")
        self.path(stage, ref.key, "failure").unlink(missing_ok=True)
        if blocked:
            self.path(stage, ref.key).unlink(missing_ok=True)
        return record

    def _digest_of_file(self, name: str) -> str:
        """SHA-256 of a file below this lake's root in hex. That of a file that does not exist is that of no bytes."""
        with open_file(self.root / name) as file:
            return digest_of(file)

    def write_failure(self, ref: PartitionRef, stage: Stage, error: BaseException) -> None:
        """Write a note that a stage failed. Record and file of an earlier run stay."""
        note = {"error": f"{type(error).__name__}: {error}", "at": datetime.now(UTC).isoformat()}
        with replacing(self.path(stage, ref.key, "failure")) as draft:
            draft.write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")

    def failure(self, stage: Stage, key: str) -> str:
        """The error of a stage's last run, empty if it did not fail."""
        with suppress(FileNotFoundError, ValueError, KeyError):
            return str(json.loads(self.path(stage, key, "failure").read_text(encoding="utf-8"))["error"])
        return ""

    def freshness(self, stage: Stage, key: str, version: int, inputs: Mapping[str, str]) -> Freshness:
        """Whether a stage's record matches these inputs and this version of its code, and if not, why."""
        record = self.record(stage, key)
        if record is None:
            failure = self.failure(stage, key)
            return Freshness("failed", failure) if failure else Freshness("missing", "")
        changed = changed_inputs(record, version, inputs)
        if changed:
            return Freshness("stale", f"changed since: {', '.join(changed)}")
        if record.status == "blocked":
            return Freshness("blocked", record.reason)
        if stage in STAGES_WITH_ROWS and not self._has_file(record):
            return Freshness("missing", "the file is gone")
        return Freshness("fresh")

    def has_content(self, record: Record) -> bool:
        """Whether the file of a stage here is that of a record. After a kill it can be a newer one. A file that is gone has no bytes."""
        with open_file(self.path(record.stage, record.partition)) as file:
            return digest_of(file) == record.digest

    def _has_file(self, record: Record) -> bool:
        return self.file(record.stage, record.partition).is_file()


def table_digest(table: "pa.Table") -> str:
    """The digest that a table's file would have."""
    import pyarrow.parquet as pq

    plain, content = table.replace_schema_metadata(None), io.BytesIO()
    with pq.ParquetWriter(content, plain.schema, compression="zstd") as writer:
        writer.write_table(plain)
    content.seek(0)
    return digest_of(content)
