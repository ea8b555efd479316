"""A lake that shows only what was known at the moment that is played."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from upath import UPath

from tasks.contracts import PartitionRef, Record, Stage
from tasks.errors import CorruptPartition, FutureRead
from tasks.storage.lake import FILED, Lake

if TYPE_CHECKING:
    import pandas as pd

PAST = (Stage.RAW, Stage.VALID, Stage.QUARANTINE, Stage.SKETCHES)
"""Stages that no policy changes: a replay reads them where they are."""
_RECORD = TypeAdapter(Record)


class ReplayLake(Lake):
    """A model's partitions as they were known at `now`; what lies later is refused.

    A partition is known from its own moment on, when production would have processed it.
    `past` has what no policy changes. Everything else is written under `root` by what it is made from; which of that
    belongs to this policy is kept in memory.
    """

    def __init__(self, past: Lake, as_of: Callable[[str], datetime], now: datetime) -> None:
        self.model, self.variant, self.below = past.model, past.variant, None
        self.past, self.root, self.as_of, self.now = past, past.root / "replay", functools.cache(as_of), now
        self._keys = {stage: past.keys(stage) for stage in PAST}
        self._past: dict[tuple[Stage, str], Record | None] = {}
        self._own: dict[tuple[Stage, str], Record] = {}
        self._names: dict[tuple[Stage, str], str] = {}
        self._failures: dict[tuple[Stage, str], str] = {}

    def guard(self, key: str) -> None:
        """Refuse a partition that was not known yet.

        Raises:
            FutureRead: somebody asks for it.
        """
        if self.as_of(key) > self.now:
            raise FutureRead(
                f"{self.model}: at {self.now.isoformat()} the replay was asked for {key}, which is known from "
                f"{self.as_of(key).isoformat()} on: something looks into the future"
            )

    def keys(self, stage: Stage) -> list[str]:
        found = self._keys[stage] if stage in PAST else sorted(key for own, key in self._own if own is stage)
        return [key for key in found if self.as_of(key) <= self.now]

    def record(self, stage: Stage, key: str) -> Record | None:
        self.guard(key)
        if stage not in PAST:
            return self._own.get((stage, key))
        if (stage, key) not in self._past:
            self._past[stage, key] = self.past.record(stage, key)
        return self._past[stage, key]

    def owns(self, stage: Stage, key: str) -> bool:
        return stage not in PAST

    def path(self, stage: Stage, key: str, suffix: str = "parquet") -> UPath:
        return self.root / "steps" / stage / f"{key}-{self._names[stage, key]}.{suffix}"

    def file(self, stage: Stage, key: str) -> UPath:
        return self.past.file(stage, key) if stage in PAST else self.path(stage, key)

    def read(self, stage: Stage, key: str, columns: list[str] | None = None) -> "pd.DataFrame":
        """As of `now`.

        Raises:
            FutureRead: the partition was not over, or an outcome was not known.
            CorruptPartition: its file is not the one that was there when the replay first looked.
        """
        self.guard(key)
        try:
            rows = super().read(stage, key, columns)
        except CorruptPartition as error:
            if stage in PAST and self.past.record(stage, key) != self._past[stage, key]:
                raise CorruptPartition(
                    f"{self.model} {key}: {stage} was made again while the replay ran; run the replay again, which goes on from here"
                ) from error
            raise
        if stage is Stage.LABELS and len(rows) and (late := rows["known_at"].max()) > self.now:
            raise FutureRead(
                f"{self.model} {key}: at {self.now.isoformat()} the replay was given an outcome that became known at "
                f"{late.isoformat()}: something looks into the future"
            )
        return rows

    def write_record(self, ref: PartitionRef, stage: Stage, **given: Any) -> Record:
        record = super().write_record(ref, stage, **given)
        self._own[stage, ref.key] = record
        return record

    def write_failure(self, ref: PartitionRef, stage: Stage, error: BaseException) -> None:
        self._failures[stage, ref.key] = f"{type(error).__name__}: {error}"

    def failure(self, stage: Stage, key: str) -> str:
        return self._failures.get((stage, key), "")

    def adopt(self, stage: Stage, key: str, name: str) -> Record | None:
        """Take over what was made of the same before, under its name; None where it was not."""
        path = self.root / "steps" / stage / f"{key}-{name}.json"
        try:
            record = _RECORD.validate_json(path.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        if stage in FILED and record.status == "done" and not path.with_suffix(".parquet").is_file():
            return None  # somebody deleted a part of what is kept
        self._names[stage, key], self._own[stage, key] = name, record
        return record

    @contextmanager
    def named(self, stage: Stage, key: str, name: str) -> Iterator[None]:
        """What is written of a stage within the body has this name; where the body fails, the one before counts."""
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
