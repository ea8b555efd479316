"""Partitions in a folder or a bucket: `<root>/<model>/<stage>/<partition>.parquet`, each with a JSON record beside it.

A writer makes a temporary file, moves it into place as a whole, and writes the record last. So a record that
matches its file is the proof that the stage is done; anything else counts as not done.
"""

import functools
import io
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pydantic import TypeAdapter
from upath import UPath

from tasks.contracts import Freshness, PartitionRef, Record, RunInfo, Stage
from tasks.errors import CorruptPartition, MissingPartition
from tasks.storage.files import digest_file, digest_json, digest_of, opened, replacing

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_RECORD = TypeAdapter(Record)
BATCH = 1 << 18
"""Rows that are held at a time by what need not hold all of a partition's."""


class Lake:
    """One model's partitions and records under a root.

    A variant's lake lies over the model's own: what it writes is its own, what it has not made it reads from below,
    unless it stands `alone` because its partitions are others.
    """

    def __init__(self, root: UPath, model: str, variant: str = "", alone: bool = False) -> None:
        self.model, self.variant = model, variant
        self.below = Lake(root, model) if variant and not alone else None
        self.root = root / model / "variants" / variant if variant else root / model

    def path(self, stage: Stage, key: str, suffix: str = "parquet") -> UPath:
        """Where this lake writes."""
        return self.root / stage / f"{key}.{suffix}"

    def file(self, stage: Stage, key: str) -> UPath:
        """Where the rows are that a record tells of."""
        return self.path(stage, key) if self.below is None or self.owns(stage, key) else self.below.path(stage, key)

    def record(self, stage: Stage, key: str) -> Record | None:
        """What is known of a stage, or None. A record that cannot be read counts as none."""
        return self._own_record(stage, key) or (self.below.record(stage, key) if self.below else None)

    def owns(self, stage: Stage, key: str) -> bool:
        """Whether a stage was made here, and not in the lake below."""
        return self.below is None or self._own_record(stage, key) is not None

    def _own_record(self, stage: Stage, key: str) -> Record | None:
        path = self.path(stage, key, "json")
        try:
            if not isinstance(path, Path):
                return _RECORD.validate_json(path.read_bytes())
            seen = path.stat()
            return _read_record(str(path), seen.st_mtime_ns, seen.st_ino, seen.st_size)
        except (FileNotFoundError, ValueError):
            return None

    def keys(self, stage: Stage) -> list[str]:
        """The partitions that a stage has records of, oldest first."""
        own = {p.stem for p in (self.root / stage).glob("*.json") if not p.name.startswith(".")}
        return sorted(own.union(self.below.keys(stage) if self.below else ()))

    def failed(self, stage: Stage) -> list[str]:
        """The partitions of which a stage last failed, whether it was made before or not."""
        return sorted(p.stem for p in (self.root / stage).glob("*.failure") if not p.name.startswith("."))

    def done(self, stage: Stage, key: str) -> Record:
        """The record of a stage that is done.

        Raises:
            MissingPartition: it was never made, or is blocked.
        """
        record = self.record(stage, key)
        if record is None:
            raise MissingPartition(f"{self.model} {key}: no {stage} data; run `backfill` for {key} first")
        if record.status == "blocked":
            raise MissingPartition(f"{self.model} {key}: {stage} is blocked: {record.reason}")
        return record

    def read(self, stage: Stage, key: str, columns: list[str] | None = None) -> "pd.DataFrame":
        """A stage's rows. Of `columns` those that the file has: a feature may be younger than a partition.

        Raises:
            MissingPartition: it was never made, or is blocked.
            CorruptPartition: the file is gone or is not the one that the record tells of.
        """
        import pandas as pd
        import pyarrow.parquet as pq

        with self._opened(stage, key) as file:
            held = io.BytesIO(file.read())
        if columns is not None:
            there = set(pq.read_schema(held).names)
            columns = [name for name in columns if name in there]
            held.seek(0)
        return pd.read_parquet(held, columns=columns)

    def batches(self, stage: Stage, key: str, columns: list[str] | None = None) -> Iterator["pa.Table"]:
        """The same, in the rows' order and `BATCH` of them at a time, for who need not hold them all.

        Raises:
            MissingPartition, CorruptPartition: see `read`.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        with self._opened(stage, key) as file, pq.ParquetFile(file) as rows:
            if not rows.metadata.num_rows:
                yield rows.read(columns)
            for batch in rows.iter_batches(BATCH, columns=columns):
                yield pa.Table.from_batches([batch])

    @contextmanager
    def _opened(self, stage: Stage, key: str) -> "Iterator[IO[bytes]]":
        """The file of a stage's rows, once it is the one that the record tells of."""
        for pause in (0.1, 0.5, 0.0):  # somebody may be writing it: the file comes first, then its record
            record, path = self.done(stage, key), self.file(stage, key)
            with opened(path) as file:
                if digest_of(file) == record.digest:
                    file.seek(0)
                    yield file
                    return
            time.sleep(pause)
        raise CorruptPartition(
            f"{path} is not the file that its record tells of; delete it and run `backfill` for {key}, which makes it again"
        )

    def write_frame(self, stage: Stage, key: str, frame: "pd.DataFrame") -> str:
        """Write a stage's rows and return their digest. The caller then writes the record."""
        import pyarrow as pa

        return self.write_table(stage, key, pa.Table.from_pandas(frame, preserve_index=False))

    def write_table(self, stage: Stage, key: str, table: "pa.Table") -> str:
        """The same for an Arrow table. Metadata that names library versions is left out of the bytes."""
        return self.write_batches(stage, key, [table])[1]

    def write_batches(self, stage: Stage, key: str, tables: "Iterable[pa.Table]") -> tuple[int, str]:
        """The same for tables one after another, each a group of rows of the file; returns the number of rows and the digest.

        There must be one at least, and the first one's types hold for all.
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
    ) -> Record:
        """Write the record that makes a stage count as done, or as blocked, and forget an earlier failure."""
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
            run=run,
        )
        with replacing(self.path(stage, ref.key, "json")) as draft:
            draft.write_bytes(_RECORD.dump_json(record, indent=1) + b"\n")
        self.path(stage, ref.key, "failure").unlink(missing_ok=True)
        if blocked:
            self.path(stage, ref.key).unlink(missing_ok=True)
        return record

    def write_failure(self, ref: PartitionRef, stage: Stage, error: BaseException) -> None:
        """Note that a stage failed. What it made before stays as it is."""
        note = {"error": f"{type(error).__name__}: {error}", "at": datetime.now(UTC).isoformat()}
        with replacing(self.path(stage, ref.key, "failure")) as draft:
            draft.write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")

    def failure(self, stage: Stage, key: str) -> str:
        """How a stage last failed, or nothing."""
        with suppress(FileNotFoundError, ValueError, KeyError):
            return str(json.loads(self.path(stage, key, "failure").read_text(encoding="utf-8"))["error"])
        return ""

    def freshness(self, stage: Stage, key: str, version: int, inputs: Mapping[str, str]) -> Freshness:
        """Whether a stage still is what these inputs make, and if not, why."""
        record = self.record(stage, key)
        if record is None:
            failure = self.failure(stage, key)
            return Freshness("failed", failure) if failure else Freshness("missing", "")
        changed = differences(record, version, inputs)
        if changed:
            return Freshness("stale", f"changed since: {', '.join(changed)}")
        if record.status == "blocked":
            return Freshness("blocked", record.reason)
        if stage in FILED and not self._has_file(record):
            return Freshness("missing", "the file is gone")
        return Freshness("fresh")

    def _has_file(self, record: Record) -> bool:
        return self.file(record.stage, record.partition).is_file()


@functools.lru_cache(maxsize=50_000)
def _read_record(path: str, changed: int, inode: int, size: int) -> Record:
    """A record, read again only when its file is another: each is looked at many times, and a writer makes a new file."""
    return _RECORD.validate_json(Path(path).read_bytes())


FILED = (Stage.RAW, Stage.VALID, Stage.SKETCHES, Stage.PREDICTIONS, Stage.SHADOW, Stage.FORMER, Stage.LABELS)
"""Stages that write rows; the others are told by their record alone."""


def differences(record: Record, version: int, inputs: Mapping[str, str]) -> list[str]:
    """The inputs by which a record differs from what is wanted now."""
    names = [name for name in {**record.inputs, **inputs} if record.inputs.get(name) != inputs.get(name)]
    return sorted(names) + (["the stage itself"] if record.version != version else [])
