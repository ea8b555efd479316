"""A world in which a policy is tried on history: a lake that shows only what was known, a ledger of its own, models made once.

What is made in it is kept by what it is made from, so policies share it, and a replay that was killed goes on where it stopped.
"""

import functools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.pool import StaticPool
from upath import UPath

from configs.retraining import Retraining
from tasks.contracts import PartitionRef, Record, RunInfo, Selection, Stage, Version
from tasks.ledger.claims import Claims
from tasks.ledger.store import Ledger
from tasks.ledger.tables import metadata
from tasks.replay.past_lake import ReplayLake
from tasks.replay.past_registry import ReplayRegistry, measured_live
from tasks.resources import Resources
from tasks.storage.files import digest_json, replacing

T = TypeVar("T")


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


class NoClaims:
    """Claims where nobody else is."""

    def mine(self, partition: str) -> bool:
        return True

    @contextmanager
    def hold(self, partition: str, told: Any = None) -> Iterator[None]:
        yield


class ReplayResources(Resources):
    """A model in a replay: the live one's config with another policy, and a world of its own."""

    pages = False
    shares_models = True
    lake: ReplayLake

    def __init__(self, live: Resources, policy: Retraining, now: datetime) -> None:
        nobody = live.config.promotion.model_copy(update={"approval": False})  # there is no person to ask
        model = replace(live.model, config=live.config.model_copy(update={"retraining": policy, "promotion": nobody}))
        self.model, self.settings, self.flow_run, self.variant = model, live.settings, "", live.variant
        self.live, self.threads = live, live.threads
        self.lake = ReplayLake(live.lake, lambda key: live.ref(key).as_of, now)
        self.ledger = ReplayLedger(model.name)
        measured = {} if live.variant.name else measured_live(live.ledger.promotions())
        self.versions = ReplayRegistry(self.lake.root, model.name, measured)
        self.registry = self.versions  # type: ignore[assignment]
        self._measured = [[str(at), vars(query)] for at, query in sorted(measured.items())]
        self._rules = model.config.model_dump(
            mode="json", exclude={"retraining", "replay", "description", "dictionary"}
        )
        self.claims = NoClaims()  # type: ignore[assignment]
        self.locks = Claims(live.settings.database, f"{live.title}: replay", live.flow_run)
        self.spent = 0.0
        """Seconds that went into what `once` gave, when it was made."""

    def once(self, kind: Any, made_of: Callable[[], Any], make: Callable[[], Any]) -> Any:
        measured = self._measured if kind not in (Version, Selection) else []
        name, adapter = digest_json([made_of(), measured])[:32], _adapter(kind)
        path = self.lake.root / "once" / f"{name}.json"
        if (found := self._kept(kind, path)) is None:
            with self.locks.hold(name[:16]):
                if (found := self._kept(kind, path)) is None:
                    began = time.monotonic()
                    value = adapter.dump_python(make(), mode="json")
                    found = {"value": value, "seconds": round(time.monotonic() - began, 3)}
                    with replacing(path) as draft:
                        draft.write_text(json.dumps(found), encoding="utf-8")
        self.spent += found["seconds"]
        return adapter.validate_python(found["value"])

    def _kept(self, kind: Any, path: UPath) -> dict[str, Any] | None:
        """What was made of the same before; None where it was not, or where a version's files are gone."""
        try:
            found = dict(json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError):
            return None
        return found if kind is not Version or self.versions.has(found["value"]["version"]) else None

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


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
