"""A world in which a policy is tried on history: a lake that shows only what was known, a ledger of its own, models made once.

What is made in it is kept by what it is made from, so policies share it, and a replay that was killed goes on where it stopped.
"""

import functools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.pool import StaticPool
from upath import UPath

from configs.retraining import Retraining
from configs.schema import ModelConfig
from tasks.contracts import Learned, PartitionRef, Promotion, Query, Record, RunInfo, Selection, Stage, Trial, Version
from tasks.errors import FutureRead, UnknownVersion
from tasks.estimators import TRUSTED
from tasks.lake import Lake, digest_json, replacing
from tasks.ledger.claims import Claims
from tasks.ledger.store import Ledger
from tasks.ledger.tables import metadata
from tasks.registry import Registry
from tasks.resources import Resources

if TYPE_CHECKING:
    import pandas as pd

PAST = (Stage.RAW, Stage.VALID, Stage.QUARANTINE, Stage.SKETCHES)
"""Stages that no policy changes: a replay reads them where they are."""
SOUND = Query("", 0.0, 0.0, 1, 0.0, 0)
"""Stands for load-and-query, latency and size: measured, not judged by statistics, they are taken as held."""
T = TypeVar("T")
_RECORD, _VERSION = TypeAdapter(Record), TypeAdapter(Version)


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
        """
        self.guard(key)
        rows = super().read(stage, key, columns)
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


class ReplayLedger(Ledger):
    """A ledger in memory, of one policy. What was asked is remembered until something is written."""

    def __init__(self, model: str) -> None:
        super().__init__("sqlite://", model)
        self._answers: dict[Any, list[Any]] = {}

    @functools.cached_property
    def engine(self) -> sa.Engine:
        made = sa.create_engine(self.url, poolclass=StaticPool, connect_args={"check_same_thread": False})
        metadata.create_all(made)
        sa.event.listen(made, "before_cursor_execute", self._forget)
        return made

    def _forget(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("SELECT"):
            self._answers.clear()

    def _all(self, kind: type[T], query: sa.Select[Any]) -> list[T]:
        asked = query.compile(self.engine)
        key = kind, str(asked), tuple(sorted((k, str(v)) for k, v in asked.params.items()))
        if key not in self._answers:
            self._answers[key] = super()._all(kind, query)
        return list(self._answers[key])


class ReplayRegistry:
    """Versions as skops files beside the replay's lake, numbered by as-of and everything that is known of them. No MLflow.

    `measured` has what live trainings measured, by as-of and whether of a refit.
    """

    uri = ""

    def __init__(self, root: UPath, model: str, measured: Mapping[tuple[datetime, bool], Query]) -> None:
        self.root, self.model, self.measured = root / "models", model, measured

    packages = staticmethod(functools.cache(Registry.packages))

    def open_training(self, name: str, flow_run: str, commit: str) -> str:
        return ""

    def close_training(self, run_id: str, failed: bool = False) -> None: ...

    def log_trial(self, parent: str, trial: Trial) -> None: ...

    def register(
        self,
        model: Any,
        config: ModelConfig,
        *,
        run_id: str,
        role: str,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        version: Version,
        documents: Mapping[str, Any],
        learned: Sequence[Learned],
    ) -> Version:
        from skops.io import dump

        identity = digest_json([role, *vars(replace(version, run_id="", training_run="")).values()])
        made = replace(version, version=f"{version.as_of:%Y-%m-%d}-{identity[:8]}")
        with replacing(self._file(made.version, "skops")) as draft:
            dump(model, draft)
        with replacing(self._file(made.version, "json")) as draft:
            draft.write_bytes(_VERSION.dump_json(made))
        return made

    def version(self, number: str) -> Version:
        """Raises: UnknownVersion."""
        try:
            return _read_version(self._file(number, "json"))
        except FileNotFoundError:
            raise UnknownVersion(f"the replay of {self.model} has made no version {number}; run it again") from None

    recall = version

    def load(self, number: str, digest: str = "") -> Any:
        return _load(self._file(number, "skops"))

    def query(self, number: str, config: ModelConfig, rows: "pd.DataFrame", expected: np.ndarray) -> Query:
        """As the live training of the same moment measured it, else taken as held."""
        version = self.version(number)
        return self.measured.get((version.as_of, bool(version.judged_as)), SOUND)

    def version_url(self, number: str) -> str:
        return ""

    def run_url(self, run_id: str) -> str:
        return ""

    def _file(self, number: str, suffix: str) -> UPath:
        return self.root / f"{number}.{suffix}"


@functools.lru_cache(maxsize=4096)
def _read_version(path: UPath) -> Version:
    return _VERSION.validate_json(path.read_bytes())


@functools.lru_cache(maxsize=64)
def _load(path: UPath) -> Any:
    """A model that this process has just read need not be read again; policies share them."""
    from skops.io import loads

    return loads(path.read_bytes(), trusted=list(TRUSTED))


class Alone:
    """Claims where nobody else is."""

    def mine(self, partition: str) -> bool:
        return True

    @contextmanager
    def hold(self, partition: str, told: Any = None) -> Iterator[None]:
        with nullcontext():
            yield


class Rehearsed(Resources):
    """A model in a replay: the live one's config with another policy, and a world of its own."""

    pages = False
    lake: ReplayLake

    def __init__(self, live: Resources, policy: Retraining, now: datetime) -> None:
        nobody = live.config.promotion.model_copy(update={"approval": False})  # there is no person to ask
        model = replace(live.model, config=live.config.model_copy(update={"retraining": policy, "promotion": nobody}))
        self.model, self.settings, self.flow_run, self.variant = model, live.settings, "", live.variant
        self.live = live
        self.lake = ReplayLake(live.lake, lambda key: live.ref(key).as_of, now)
        self.ledger = ReplayLedger(model.name)
        measured = {} if live.variant.name else measured_live(live.ledger.promotions())
        self.registry = ReplayRegistry(self.lake.root, model.name, measured)  # type: ignore[assignment]
        self._measured = [[str(at), vars(query)] for at, query in sorted(measured.items())]
        self._rules = model.config.model_dump(mode="json", exclude={"retraining", "replay", "description"})
        self.claims = Alone()  # type: ignore[assignment]
        self.locks = Claims(live.settings.database, f"{live.title}: replay", live.flow_run)
        self.spent = 0.0
        """Seconds that went into what `once` gave, when it was made."""

    def once(self, kind: Any, made_of: Callable[[], Any], make: Callable[[], Any]) -> Any:
        measured = self._measured if kind not in (Version, Selection) else []
        name, adapter = digest_json([made_of(), measured])[:32], _adapter(kind)
        path = self.lake.root / "once" / f"{name}.json"
        if (found := _kept(path)) is None:
            with self.locks.hold(name[:16]):
                if (found := _kept(path)) is None:
                    began = time.monotonic()
                    value = adapter.dump_python(make(), mode="json")
                    found = {"value": value, "seconds": round(time.monotonic() - began, 3)}
                    with replacing(path) as draft:
                        draft.write_text(json.dumps(found), encoding="utf-8")
        self.spent += found["seconds"]
        return adapter.validate_python(found["value"])

    @contextmanager
    def making(self, stage: Stage, ref: PartitionRef, made_of: Any) -> Iterator[Record | None]:
        by = None if stage is Stage.LABELS else self.ledger.champion(self.live.ref(ref.key).as_of)
        knows = [by.version, by.as_of, by.window_end] if by else []  # what outcomes its references may have seen
        name = digest_json([stage, ref.key, ref.as_of, made_of, knows, self._rules])[:24]
        if record := self.lake.adopt(stage, ref.key, name):
            yield record
            return
        with self.locks.hold(name[:16]), self.lake.named(stage, ref.key, name):
            yield self.lake.adopt(stage, ref.key, name)

    def run_info(self, started: datetime) -> RunInfo:
        return RunInfo(started, 0.0, "", "")


def measured_live(rows: Sequence[Promotion]) -> dict[tuple[datetime, bool], Query]:
    """What load-and-query and the budgets measured of live trainings, by as-of, and whether of the refit."""
    found = {}
    for row in rows:
        values = {str(v["rule"]): v for v in row.evidence.get("verdicts", ())}
        for prefix in ("", "refit: "):
            names = (
                "load and query in a fresh process",
                "latency of one row, ms",
                "latency of a thousand rows, ms",
                "size, MB",
            )
            asked = [values.get(prefix + name) for name in names]
            if all(asked) and row.action in ("stage", "refuse"):
                sound, one, thousand, size = (v for v in asked if v)
                numbers = [float("nan") if v["value"] is None else float(v["value"]) for v in (one, thousand, size)]
                problem = "" if sound["passed"] else f"refused when it was trained: {sound['note']}"
                query = Query(problem, numbers[0], numbers[1], round(numbers[2] * 1e6), 0.0, 0)
                found[row.as_of, bool(prefix)] = query
    return found


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _kept(path: UPath) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return None
