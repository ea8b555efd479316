"""Every answered row goes to the lake: at once into a journal on this machine's disk, and within a minute into the served partitions.

A request puts its rows into memory and is answered. A thread writes them into the journal four times a second, and makes each
journal that is old or large enough into segments of the partitions that its rows lie in. So a killed process loses what came in
within its last quarter of a second; what is in a journal is made into segments by the next process that finds it, under the
same names, so that nothing is there twice.
"""

import fcntl
import io
import logging
import os
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import orjson
from upath import UPath

from configs.schema import ModelConfig
from serving.contract import Given
from serving.problems import unavailable
from tasks import partitions
from tasks.contracts import PartitionRef
from tasks.served import SHADOW, segment_table, segments, write_segment
from tasks.targets import prediction_columns

log = logging.getLogger("serving")

PAUSE = 0.25
"""Seconds between two writings of the journal: what a killed process may lose."""
AGE, SIZE = 60.0, 32 << 20
"""Seconds and bytes after which a journal is made into segments."""
MANY = 60
"""Small segments of one writer and partition that are put together into one."""
AGAIN = 10.0
"""Seconds after which what could not be written is tried again."""


@dataclass(frozen=True)
class Answered:
    """The rows of one request that one version has answered, in one role."""

    model: str
    given: Given
    said: np.ndarray
    version: str
    as_of: datetime
    role: str
    request_id: str
    at: datetime
    places: np.ndarray | None = None
    """Which rows of `given` these are, where a request was answered by two versions; None for all."""

    @property
    def rows(self) -> int:
        return len(self.said)


@dataclass
class Journal:
    """A file of JSON lines that this process holds locked; each line is some rows of one request."""

    path: Path
    model: str
    opened: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.size = os.fstat(self.file).st_size

    def write(self, content: bytes) -> None:
        """Append and make it last; what a full disk took in part is cut off again.

        Raises:
            OSError: it could not be written.
        """
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(self.file, view) :]
            os.fsync(self.file)
        except OSError:
            os.ftruncate(self.file, self.size)
            raise
        self.size += len(content)

    @property
    def due(self) -> bool:
        return self.size > 0 and (time.monotonic() - self.opened > AGE or self.size > SIZE)

    def close(self) -> None:
        os.close(self.file)


class Sink:
    """The journals of all models, and the thread that writes them. `most` rows may wait in memory for a disk that does not take them."""

    def __init__(self, folder: Path, lake: UPath, configs: Mapping[str, ModelConfig], most: int = 100_000) -> None:
        self.folder, self.lake, self.configs, self.most = folder, lake, configs, most
        self.waiting: deque[Answered] = deque()
        self.rows = 0
        """Rows in memory that are in no journal yet."""
        self.problem = ""
        """Why rows cannot be written now; empty where they can."""
        self.written = 0
        self._journals: dict[str, Journal] = {}
        self._closed: deque[Journal] = deque()
        self._count = threading.Lock()
        self._over, self._failed = threading.Event(), 0.0
        self._id = uuid4().hex[:8]
        self._thread = threading.Thread(target=self._run, name="sink", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, patience: float = 30) -> None:
        """Write what waits, make every journal into segments, and end."""
        self._over.set()
        self._thread.join(patience)

    def room(self, rows: int) -> None:
        """Make sure that so many rows can be kept.

        Raises:
            Problem: they cannot, since the disk has not taken those before; an answer that is not on record is not given.
        """
        if self.rows + rows > self.most:
            raise unavailable(
                "not-recorded",
                "Answers cannot be recorded",
                f"{self.rows:,} answers wait to be written ({self.problem or 'the disk is slow'}); "
                "nothing is answered that is not on record",
                5,
            )

    def put(self, answered: Answered) -> None:
        """Keep the rows of an answer; they are written in a moment."""
        with self._count:
            self.rows += answered.rows
        self.waiting.append(answered)

    # The thread

    def _run(self) -> None:
        for left in self._left_behind():
            self._closed.append(left)
        while not self._over.wait(PAUSE):
            self._once()
        self._once(last=True)

    def _once(self, last: bool = False) -> None:
        try:
            self._write()
            for model, journal in list(self._journals.items()):
                if journal.due or last:
                    self._closed.append(self._journals.pop(model))
            if last or time.monotonic() - self._failed > AGAIN:
                self._make_segments()
                self.problem = ""
        except Exception as error:  # noqa: BLE001  (whatever it is, the rows are kept and it is tried again)
            if not self.problem:
                log.error("served rows cannot be written, and are kept: %s: %s", type(error).__name__, error)
            self.problem, self._failed = f"{type(error).__name__}: {error}", time.monotonic()

    def _write(self) -> None:
        """What waits, as lines of each model's journal. What cannot be written goes on waiting."""
        taken = [self.waiting.popleft() for _ in range(len(self.waiting))]
        by_model: dict[str, list[Answered]] = defaultdict(list)
        for answered in taken:
            by_model[answered.model].append(answered)
        while by_model:
            model, some = by_model.popitem()
            try:
                self._journal(model).write(b"".join(line(one, self.configs[model]) for one in some))
            except OSError:
                self.waiting.extendleft(reversed([*some, *(one for rest in by_model.values() for one in rest)]))
                raise
            count = sum(one.rows for one in some)
            self.written += count
            with self._count:
                self.rows -= count

    def _journal(self, model: str) -> Journal:
        if model not in self._journals:
            name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{self._id}-{uuid4().hex[:8]}.jsonl"
            self._journals[model] = Journal(self.folder / model / name, model)
        return self._journals[model]

    def _left_behind(self) -> Iterator[Journal]:
        """Journals of processes that are gone; those of the living are locked."""
        for path in sorted(self.folder.glob("*/*.jsonl")):
            if path.parent.name in self.configs:
                with suppress(OSError):
                    yield Journal(path, path.parent.name)

    def _make_segments(self) -> None:
        while self._closed:
            journal = self._closed[0]
            config = self.configs[journal.model]
            for key, rows in by_partition(journal, config).items():
                folder = self.lake / journal.model / "served" / key
                write_segment(folder, journal.path.stem, segment_table(config, rows))
                put_together(folder, self._id)
            journal.path.unlink(missing_ok=True)
            journal.close()
            self._closed.popleft()


def line(answered: Answered, config: ModelConfig) -> bytes:
    """Some rows of one request as JSON, column by column."""
    given, places = answered.given, answered.places
    rows = range(given.rows) if places is None else places.tolist()
    keys = [given.keys[at] or f"{answered.request_id}-{at}" for at in rows]
    times = [given.times[at] or answered.at for at in rows]
    values: dict[str, Any] = {}
    if answered.role != SHADOW:  # the row itself stands beside it already
        values = {name: [_plain(column[at]) for at in rows] for name, column in given.values.items()}
    told = prediction_columns(_predicted(answered.said, config), config.target)
    content = {
        "rows": list(rows),
        "keys": keys,
        "times": times,
        "values": values,
        "said": {name: list(map(_plain, column.tolist())) for name, column in told.items()},
        "version": answered.version,
        "as_of": answered.as_of,
        "role": answered.role,
        "request_id": answered.request_id,
        "at": answered.at,
    }
    return orjson.dumps(content) + b"\n"


def _predicted(said: np.ndarray, config: ModelConfig) -> np.ndarray:
    """As a partition's predictions have it: of two classes the probability of 1."""
    return said[:, 1] if config.target.kind == "binary" else said


def _plain(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return None if value != value else float(value)
    return value


def by_partition(journal: Journal, config: ModelConfig) -> dict[str, list[dict[str, Any]]]:
    """The rows of a journal by the partition that their time lies in. A last line that is cut off was never written."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    lines = journal.path.read_bytes().split(b"\n")
    span: PartitionRef | None = None
    for number, text in enumerate(lines):
        if not text:
            continue
        try:
            content = orjson.loads(text)
        except orjson.JSONDecodeError:
            if number < len(lines) - 1:
                log.error("%s: line %d cannot be read, and is lost", journal.path, number + 1)
            continue
        for row in _rows(content, config):
            moment = row[config.time]
            if span is None or not span.start <= moment < span.end:
                span = partitions.containing(config, moment)
            found[span.key].append(row)
    return found


def _rows(content: Mapping[str, Any], config: ModelConfig) -> Iterator[dict[str, Any]]:
    common = {"model_version": content["version"], "role": content["role"], "request_id": content["request_id"]}
    common |= {"as_of": datetime.fromisoformat(content["as_of"]), "served_at": datetime.fromisoformat(content["at"])}
    for at, row in enumerate(content["rows"]):
        found = {name: column[at] for part in ("values", "said") for name, column in content[part].items()}
        moment = datetime.fromisoformat(content["times"][at])
        yield found | common | {config.key: content["keys"][at], config.time: moment, "request_row": row}


def put_together(folder: UPath, writer: str) -> None:
    """Make one segment of a writer's many small ones; a reader that sees both takes each row once."""
    own = [path for path in segments(folder) if f"-{writer}-" in path.name]
    small = [path for path in own if path.stat().st_size < SIZE // 8]
    if len(small) < MANY:
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    whole = pa.concat_tables(
        [pq.read_table(io.BytesIO(path.read_bytes())) for path in small], promote_options="default"
    )
    write_segment(folder, f"{small[-1].stem}-all", whole)
    for path in small:
        path.unlink(missing_ok=True)
