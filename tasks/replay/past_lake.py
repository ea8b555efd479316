"""A lake that contains only what was known at the simulated time."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from upath import UPath

from tasks.contracts import PartitionRef, Record, Stage
from tasks.errors import CorruptPartition, FutureRead
from tasks.storage.lake import STAGES_WITH_ROWS, Lake
from tasks.storage.records import parse_record

if TYPE_CHECKING:
    import pandas as pd

SHARED_STAGES = (Stage.RAW, Stage.VALID, Stage.QUARANTINE, Stage.SKETCHES)
"""Stages that do not depend on the policy: a replay reads production's files."""


class ReplayLake(Lake):
    """A model's partitions as they were known at the simulated time `now`. Reading later partitions raises an error.

    A partition is known from when it is complete, when production would have processed it. Stages that do not depend on the policy are read
    from `past`. All other outputs are written under `root`, with a digest of their inputs in the file name. The lake keeps in memory
    which of them this policy has.
    """

    def __init__(self, past: Lake, as_of: Callable[[str], datetime], now: datetime) -> None:
        super().__init__(past.root, past.model, past.variant, alone=True)
        self.past, self.root, self.as_of, self.now = past, past.root / "replay", functools.cache(as_of), now
        self.publishes = False
        self._keys = {stage: past.keys(stage) for stage in SHARED_STAGES}
        self._past: dict[tuple[Stage, str], Record | None] = {}
        self._own: dict[tuple[Stage, str], Record] = {}
        self._names: dict[tuple[Stage, str], str] = {}
        self._failures: dict[tuple[Stage, str], str] = {}

    @property
    def keeps_earlier(self) -> bool:
        return False  # its outputs are never replaced

    def require_known(self, key: str) -> None:
        """Require that a partition is known at the simulated time.

        Raises:
            FutureRead: It becomes known later.
        """
        if self.as_of(key) > self.now:
            raise FutureRead(
                f"{self.model}: at the simulated time {self.now.isoformat()} the replay read {key}, which is known only from "
                f"{self.as_of(key).isoformat()} on. A step uses data from after the prediction time (target leakage)"
            )

    def keys(self, stage: Stage) -> list[str]:
        keys = self._keys[stage] if stage in SHARED_STAGES else sorted(key for own, key in self._own if own is stage)
        return [key for key in keys if self.as_of(key) <= self.now]

    def record(self, stage: Stage, key: str) -> Record | None:
        self.require_known(key)
        if stage not in SHARED_STAGES:
            return self._own.get((stage, key))
        if (stage, key) not in self._past:
            self._past[stage, key] = self.past.record(stage, key)
        return self._past[stage, key]

    def owns(self, stage: Stage, key: str) -> bool:
        return stage not in SHARED_STAGES

    def path(self, stage: Stage, key: str, suffix: str = "parquet") -> UPath:
        return self.root / "steps" / stage / f"{key}-{self._names[stage, key]}.{suffix}"

    def file(self, stage: Stage, key: str) -> UPath:
        return self.past.file(stage, key) if stage in SHARED_STAGES else self.path(stage, key)

    def read(self, stage: Stage, key: str, columns: list[str] | None = None) -> "pd.DataFrame":
        """Read a partition as of `now`.

        Raises:
            FutureRead: The partition or one of its outcomes becomes known later.
            CorruptPartition: The file has changed since the replay first read its record.
        """
        self.require_known(key)
        try:
            rows = super().read(stage, key, columns)
        except CorruptPartition as error:
            if stage in SHARED_STAGES and self.past.record(stage, key) != self._past[stage, key]:
                raise CorruptPartition(
                    f"{self.model} {key}: {stage} was written again while the replay ran; run the replay again, it continues from here"
                ) from error
            raise
        if stage is Stage.LABELS and len(rows) and (late := rows["known_at"].max()) > self.now:
            raise FutureRead(
                f"{self.model} {key}: at the simulated time {self.now.isoformat()} the replay read an outcome that became known at "
                f"{late.isoformat()}. A step uses data from after the prediction time (target leakage)"
            )
        return rows

    def write_record(self, ref: PartitionRef, stage: Stage, **fields: Any) -> Record:
        record = super().write_record(ref, stage, **fields)
        self._own[stage, ref.key] = record
        return record

    def write_failure(self, ref: PartitionRef, stage: Stage, error: BaseException) -> None:
        self._failures[stage, ref.key] = f"{type(error).__name__}: {error}"

    def failure(self, stage: Stage, key: str) -> str:
        return self._failures.get((stage, key), "")

    def reuse(self, stage: Stage, key: str, name: str) -> Record | None:
        """Return the record of an output that was already written under this name, and add it to this policy's outputs."""
        path = self.root / "steps" / stage / f"{key}-{name}.json"
        try:
            record = parse_record(path.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        if stage in STAGES_WITH_ROWS and record.status == "done" and not path.with_suffix(".parquet").is_file():
            return None  # a part of the cache was deleted
        self._names[stage, key], self._own[stage, key] = name, record
        return record

    @contextmanager
    def writing_as(self, stage: Stage, key: str, name: str) -> Iterator[None]:
        """Write a stage's output under this name in the body. If the body fails, the previous name is restored."""
        before = self._names.get((stage, key))
        self._names[stage, key] = name
        try:
            yield
        except BaseException:
            if before is None:
                del self._names[stage, key]
            else:
                self._names[stage, key] = before
            raise
