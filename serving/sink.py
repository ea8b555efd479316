"""Record every served prediction in the lake: first in a journal on the local disk, within a minute in the served partitions.

1. A request puts its rows into memory and is answered.
2. A thread writes the rows into a journal four times a second. A killed process loses at most the last quarter of a second, however
   slow the lake is.
3. Another thread converts each journal that is old or large enough into segments of the partitions by the time of its rows.
4. The next process converts the journals of a killed one. The segments get the same names, so that no row is duplicated.
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
from serving.journal import MAX_SIZE, Journal, ScoredRows, encode_line, is_locked, rows_by_partition
from serving.problems import unavailable
from tasks.storage.answer_log import segment_table, segments, served_folder, write_segment

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("serving")

WRITE_INTERVAL = 0.25
"""Seconds between two writes of the journal: what a killed process may lose."""
MAX_SMALL_SEGMENTS = 60
"""So many small segments of one writer and partition are merged into one."""
SEARCH_INTERVAL = 60.0
"""Seconds between two searches for journals of processes that have ended."""
RETRY_SECONDS = 10.0
"""Seconds until a failed write to the lake is tried again."""


class Sink:
    """The journals of all models, and the threads that write them. At most `max_rows` rows wait in memory while the disk fails."""

    def __init__(self, folder: Path, lake: UPath, configs: Mapping[str, ModelConfig], max_rows: int = 100_000) -> None:
        self.folder, self.lake, self.configs, self.max_rows = folder, lake, configs, max_rows
        self.waiting: deque[ScoredRows] = deque()
        self.rows = 0
        """Rows in memory that are not in a journal yet."""
        self.written = 0
        self.unreadable = 0
        """Number of journals that cannot be read. They are renamed to *.unreadable and need manual inspection."""
        self.disk_error = self.lake_error = ""
        """Why journals and segments cannot be written, else empty."""
        self._journals: dict[str, Journal] = {}
        self._closed: deque[Path] = deque()
        self._count = threading.Lock()
        self._stopping, self._journals_closed = threading.Event(), threading.Event()
        self._failed_at, self._searched_at = -RETRY_SECONDS, -SEARCH_INTERVAL
        self._id = uuid4().hex[:8]
        self._threads = [
            threading.Thread(target=run, name=name, daemon=True)
            for run, name in ((self._run_journals, "journals"), (self._run_segments, "segments"))
        ]

    @property
    def problem(self) -> str:
        """What prevents rows from reaching the disk or the lake, empty if nothing does."""
        journals = f"{self.unreadable} journal{'s' if self.unreadable > 1 else ''}"
        unreadable = f"{journals} cannot be read, see *.unreadable in {self.folder}" if self.unreadable else ""
        return "; ".join(filter(None, (self.disk_error, self.lake_error, unreadable)))

    def start(self) -> None:
        """Start the threads that write journals and convert them."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float = 30) -> None:
        """Write all waiting rows, convert the journals and end the threads. Journals that cannot be converted in time stay on disk."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout)

    def require_capacity(self, rows: int) -> None:
        """Check that a number of rows can be recorded. The server returns no prediction that it cannot record.

        Raises:
            Problem: Too many rows wait, because the disk fails or is slow.
        """
        if self.rows + rows > self.max_rows:
            waiting = f"{self.rows:,} predictions wait to be written ({self.problem or 'the disk is slow'})"
            detail = f"{waiting}; the server returns none that it cannot record, so try again later"
            raise unavailable("not-recorded", "Predictions cannot be recorded", detail, 5)

    def put(self, scored: ScoredRows) -> None:
        """Queue predicted rows for the journal."""
        with self._count:
            self.rows += scored.rows
        self.waiting.append(scored)

    # Journals

    def _run_journals(self) -> None:
        while not self._stopping.wait(WRITE_INTERVAL):
            self._write_once()
        self._write_once(final=True)
        self._journals_closed.set()

    def _write_once(self, final: bool = False) -> None:
        """Write the waiting rows and close the journals that are due."""
        try:
            self._write()
            self.disk_error = ""
        except OSError as error:
            if not self.disk_error:
                log.error("predictions cannot be written to the journal and wait in memory: %s", type(error).__name__)
            reason = os.strerror(error.errno) if error.errno else "no reason given"
            self.disk_error = f"{type(error).__name__}: {reason}"
        for model, journal in list(self._journals.items()):
            if journal.due or final:
                journal.close()
                self._closed.append(self._journals.pop(model).path)

    def _write(self) -> None:
        """Append the waiting rows to the journal of each model. Rows that cannot be written go on waiting."""
        batch = [self.waiting.popleft() for _ in range(len(self.waiting))]
        by_model: dict[str, list[tuple[ScoredRows, bytes]]] = defaultdict(list)
        for scored in batch:
            if (content := self._encode(scored)) is not None:
                by_model[scored.model].append((scored, content))
        while by_model:
            model, group = next(iter(by_model.items()))
            try:
                self._journal(model).write(b"".join(content for _, content in group))
            except OSError:
                self.waiting.extendleft(reversed([item for rest in by_model.values() for item, _ in rest]))
                raise
            del by_model[model]
            self._count_written(sum(item.rows for item, _ in group))

    def _encode(self, scored: ScoredRows) -> bytes | None:
        """Return the journal line, or log an error and return None if it cannot be encoded, so that other rows are not lost."""
        try:
            return encode_line(scored, self.configs[scored.model])
        except Exception as error:  # noqa: BLE001
            log.error(
                "the predictions of request %s cannot be encoded and are lost: %s", scored.call.id, type(error).__name__
            )
            self._count_written(scored.rows)
            return None

    def _count_written(self, rows: int) -> None:
        with self._count:
            self.rows -= rows
            self.written += rows

    def _journal(self, model: str) -> Journal:
        if model not in self._journals:
            name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{self._id}-{uuid4().hex[:8]}.jsonl"
            self._journals[model] = Journal(self.folder / model / name)
        return self._journals[model]

    # Segments in the lake

    def _run_segments(self) -> None:
        self._find_orphans()
        while not self._journals_closed.wait(WRITE_INTERVAL):
            if time.monotonic() - self._failed_at > RETRY_SECONDS:
                self._find_orphans()
                self._send_once()
        self._send_once()

    def _send_once(self) -> None:
        """Convert every closed journal into segments. One that cannot be read is renamed and does not block the others."""
        while self._closed:
            path = self._closed[0]
            try:
                parts = self._parts(path)
            except Exception as error:  # noqa: BLE001  (an invalid journal must not block the others)
                self._quarantine(path, error)
                continue
            try:
                self._write_segments(path, parts)
            except Exception as error:  # noqa: BLE001  (the error type depends on the kind of lake)
                if not self.lake_error:
                    log.error(
                        "the lake cannot be written, and the journals stay on the local disk: %s", type(error).__name__
                    )
                self.lake_error, self._failed_at = type(error).__name__, time.monotonic()
                return
            self._closed.popleft()
        self.lake_error = ""

    def _parts(self, path: Path) -> dict[str, "pa.Table"]:
        """Return the rows of a journal by partition, or none if another process has already converted it."""
        config = self.configs[path.parent.name]
        try:
            by_key = rows_by_partition(path, config)
        except FileNotFoundError:
            return {}
        return {key: segment_table(config, columns) for key, columns in by_key.items()}

    def _write_segments(self, path: Path, parts: Mapping[str, "pa.Table"]) -> None:
        for key, table in parts.items():
            folder = served_folder(path.parent.name, self.lake) / key
            write_segment(folder, path.stem, table)
            try:
                merge_segments(folder, self._id)
            except Exception as error:  # noqa: BLE001  (many small segments can be read like a large one)
                log.warning("segments of %s were not merged: %s", folder, type(error).__name__)
        path.unlink(missing_ok=True)

    def _quarantine(self, path: Path, error: Exception) -> None:
        log.error("%s cannot be read and is renamed to *.unreadable: %s", path, type(error).__name__)
        with suppress(OSError):
            path.rename(path.with_suffix(".unreadable"))
        self.unreadable += 1
        self._closed.popleft()

    def _find_orphans(self) -> None:
        """Every `SEARCH_INTERVAL`, adopt the journals of ended processes. Running processes hold locks on theirs."""
        if time.monotonic() - self._searched_at < SEARCH_INTERVAL:
            return
        self._searched_at = time.monotonic()
        own = {*self._closed, *(journal.path for journal in list(self._journals.values()))}
        with suppress(OSError):
            for path in sorted(self.folder.glob("*/*.jsonl")):
                if path.parent.name in self.configs and path not in own and not is_locked(path):
                    self._closed.append(path)


def merge_segments(folder: UPath, writer: str) -> None:
    """Merge the small segments of a writer if there are many. A reader that finds old and merged segments removes duplicates."""
    own = [path for path in segments(folder) if f"-{writer}-" in path.name]
    small_segments = [path for path in own if path.stat().st_size < MAX_SIZE // 8]
    if len(small_segments) < MAX_SMALL_SEGMENTS:
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = [pq.read_table(io.BytesIO(path.read_bytes())) for path in small_segments]
    write_segment(folder, f"{small_segments[-1].stem}-all", pa.concat_tables(tables, promote_options="default"))
    for path in small_segments:
        path.unlink(missing_ok=True)
