"""Every answered row goes to the lake: at once into a journal on this machine's disk, and within a minute into the served partitions.

A request puts its rows into memory and is answered. One thread writes them into the journal four times a second, another makes each
journal that is old or large enough into segments of the partitions that its rows lie in. So a killed process loses what came in
within its last quarter of a second, however slow the lake is; what is in a journal is made into segments by the next process that
finds it, under the same names, so that nothing is there twice.
"""

import io
import logging
import os
import threading
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from upath import UPath

from configs.schema import ModelConfig
from serving.journal import SIZE, Answered, Journal, by_partition, in_use, line
from serving.problems import unavailable
from tasks.storage.answer_log import segment_table, segments, served_folder, write_segment

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("serving")

PAUSE = 0.25
"""Seconds between two writings of the journal: what a killed process may lose."""
MANY = 60
"""Small segments of one writer and partition that are put together into one."""
SEARCH = 60.0
"""Seconds between two looks for journals that another process has left."""
AGAIN = 10.0
"""Seconds after which what could not be written is tried again."""


class Sink:
    """The journals of all models, and the threads behind them. `most` rows may wait in memory for a disk that does not take them."""

    def __init__(self, folder: Path, lake: UPath, configs: Mapping[str, ModelConfig], most: int = 100_000) -> None:
        self.folder, self.lake, self.configs, self.most = folder, lake, configs, most
        self.waiting: deque[Answered] = deque()
        self.rows = 0
        """Rows in memory that are in no journal yet."""
        self.written = 0
        self.aside = 0
        """Journals that cannot be read, and wait for a person."""
        self.disk = self.away = ""
        """Why journals cannot be written, and why they cannot get into the lake; empty where they can."""
        self._journals: dict[str, Journal] = {}
        self._closed: deque[Path] = deque()
        self._count = threading.Lock()
        self._over, self._written_out = threading.Event(), threading.Event()
        self._failed, self._searched = -AGAIN, -SEARCH
        self._id = uuid4().hex[:8]
        self._threads = [
            threading.Thread(target=run, name=name, daemon=True)
            for run, name in ((self._keep, "journals"), (self._send, "segments"))
        ]

    @property
    def problem(self) -> str:
        aside = f"{self.aside} journals cannot be read, see *.unreadable in {self.folder}" if self.aside else ""
        return "; ".join(filter(None, (self.disk, self.away, aside)))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, patience: float = 30) -> None:
        """Write what waits, make every journal into segments, and end. What the lake does not take in time stays a journal."""
        self._over.set()
        for thread in self._threads:
            thread.join(patience)

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

    # Into journals

    def _keep(self) -> None:
        while not self._over.wait(PAUSE):
            self._write_once()
        self._write_once(last=True)
        self._written_out.set()

    def _write_once(self, last: bool = False) -> None:
        """Write what waits, and close the journals that are due."""
        try:
            self._write()
            self.disk = ""
        except OSError as error:
            if not self.disk:
                log.error("answered rows cannot be written, and are kept in memory: %s", type(error).__name__)
            self.disk = f"{type(error).__name__}: {os.strerror(error.errno) if error.errno else 'no reason given'}"
        for model, journal in list(self._journals.items()):
            if journal.due or last:
                journal.close()
                self._closed.append(self._journals.pop(model).path)

    def _write(self) -> None:
        """What waits, as lines of each model's journal. What the disk does not take goes on waiting."""
        taken = [self.waiting.popleft() for _ in range(len(self.waiting))]
        by_model: dict[str, list[tuple[Answered, bytes]]] = defaultdict(list)
        for answered in taken:
            if (content := self._line(answered)) is not None:
                by_model[answered.model].append((answered, content))
        while by_model:
            model, some = next(iter(by_model.items()))
            try:
                self._journal(model).write(b"".join(content for _, content in some))
            except OSError:
                self.waiting.extendleft(reversed([one for rest in by_model.values() for one, _ in rest]))
                raise
            del by_model[model]
            self._done(sum(one.rows for one, _ in some))

    def _line(self, answered: Answered) -> bytes | None:
        """An answer as a line; None, and told, where it cannot be one, so that no other is lost with it."""
        try:
            return line(answered, self.configs[answered.model])
        except Exception as error:  # noqa: BLE001
            log.error("request %s cannot be written down: %s", answered.call.id, type(error).__name__)
            self._done(answered.rows)
            return None

    def _done(self, rows: int) -> None:
        with self._count:
            self.rows -= rows
            self.written += rows

    def _journal(self, model: str) -> Journal:
        if model not in self._journals:
            name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{self._id}-{uuid4().hex[:8]}.jsonl"
            self._journals[model] = Journal(self.folder / model / name)
        return self._journals[model]

    # Into the lake

    def _send(self) -> None:
        self._find_left_behind()
        while not self._written_out.wait(PAUSE):
            if time.monotonic() - self._failed > AGAIN:
                self._find_left_behind()
                self._send_once()
        self._send_once()

    def _send_once(self) -> None:
        """Make every closed journal into segments; one that cannot be read is put aside, and holds up no other."""
        while self._closed:
            path = self._closed[0]
            try:
                parts = self._parts(path)
            except Exception as error:  # noqa: BLE001  (whatever is in it, the others go on)
                self._put_aside(path, error)
                continue
            try:
                self._write_segments(path, parts)
            except Exception as error:  # noqa: BLE001  (a lake that is away has many names)
                if not self.away:
                    log.error("journals cannot get into the lake, and are kept: %s", type(error).__name__)
                self.away, self._failed = type(error).__name__, time.monotonic()
                return
            self._closed.popleft()
        self.away = ""

    def _parts(self, path: Path) -> dict[str, "pa.Table"]:
        """The rows of a journal by partition; none where another process has found it first."""
        config = self.configs[path.parent.name]
        try:
            found = by_partition(path, config)
        except FileNotFoundError:
            return {}
        return {key: segment_table(config, columns) for key, columns in found.items()}

    def _write_segments(self, path: Path, parts: Mapping[str, "pa.Table"]) -> None:
        for key, table in parts.items():
            folder = served_folder(path.parent.name, self.lake) / key
            write_segment(folder, path.stem, table)
            try:
                put_together(folder, self._id)
            except Exception as error:  # noqa: BLE001  (many small files are read as well as a large one)
                log.warning("segments of %s were not put together: %s", folder, type(error).__name__)
        path.unlink(missing_ok=True)

    def _put_aside(self, path: Path, error: Exception) -> None:
        log.error("%s cannot be made into segments, and is put aside: %s", path, type(error).__name__)
        with suppress(OSError):
            path.rename(path.with_suffix(".unreadable"))
        self.aside += 1
        self._closed.popleft()

    def _find_left_behind(self) -> None:
        """Now and then, take the journals of processes that are gone; those of the living are locked."""
        if time.monotonic() - self._searched < SEARCH:
            return
        self._searched = time.monotonic()
        own = {*self._closed, *(journal.path for journal in list(self._journals.values()))}
        with suppress(OSError):
            for path in sorted(self.folder.glob("*/*.jsonl")):
                if path.parent.name in self.configs and path not in own and not in_use(path):
                    self._closed.append(path)


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
