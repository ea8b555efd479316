"""Resources in which a policy is simulated on history: a lake with only the known data, a ledger in memory, and cached models.

Results are cached by a digest of their inputs. So policies share them, and a replay that was killed continues where it stopped.
"""

import functools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.pool import StaticPool
from upath import UPath

from configs.gate import Shadow
from configs.retraining import Retraining
from configs.schema import ModelConfig
from tasks.contracts import PartitionRef, Record, Selection, Stage, Version
from tasks.ledger.claims import Claims
from tasks.ledger.store import Ledger
from tasks.ledger.tables import metadata
from tasks.replay.past_lake import ReplayLake
from tasks.replay.past_registry import ReplayRegistry, live_queries
from tasks.resources import Resources
from tasks.storage.files import digest_json, replacing

T = TypeVar("T")


class ReplayLedger(Ledger):
    """One policy's ledger in memory. Query results are cached until the next write."""

    def __init__(self, model: str) -> None:
        super().__init__("sqlite://", model)
        self._results: dict[Any, list[Any]] = {}

    @functools.cached_property
    def engine(self) -> sa.Engine:
        engine = sa.create_engine(self.url, poolclass=StaticPool, connect_args={"check_same_thread": False})
        metadata.create_all(engine)
        sa.event.listen(engine, "before_cursor_execute", self._clear_cache)
        return engine

    def _clear_cache(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("SELECT"):
            self._results.clear()

    def _all(self, kind: type[T], query: sa.Select[Any]) -> list[T]:
        compiled = query.compile(self.engine)
        key = kind, str(compiled), tuple(sorted((k, str(v)) for k, v in compiled.params.items()))
        if key not in self._results:
            self._results[key] = super()._all(kind, query)
        return list(self._results[key])


class NoClaims:
    """Claims that are always granted: no other process works on a replay's partitions."""

    def held_by_this_thread(self, partition: str) -> bool:
        return True

    @contextmanager
    def hold(self, partition: str, on_wait: Any = None) -> Iterator[None]:
        yield


class ReplayCache:
    """Results of the policies of a replay, as files beside its lake.

    Attributes:
        seconds: Seconds of computing that the results of `result` have cost, those found in the cache included.
    """

    def __init__(
        self, live: Resources, config: ModelConfig, lake: ReplayLake, ledger: Ledger, registry: ReplayRegistry
    ) -> None:
        self.live, self.lake, self.ledger, self.registry, self.seconds = live, lake, ledger, registry, 0.0
        self.claims = Claims(live.settings.database, f"{live.title}: replay", live.flow_run)
        self._measured = [[str(at), vars(query)] for at, query in sorted(registry.measured.items())]
        self._rules = config.model_dump(
            mode="json", exclude={"retraining", "replay", "description", "dictionary", "contract", "publish"}
        )

    def result(self, kind: Any, inputs: Callable[[], Any], compute: Callable[[], Any]) -> Any:
        measured = self._measured if kind not in (Version, Selection) else []
        name, adapter = digest_json([inputs(), measured])[:32], _adapter(kind)
        path = self.lake.root / "once" / f"{name}.json"
        if (entry := self._entry(kind, path)) is None:
            with self.claims.hold(name[:16]):
                if (entry := self._entry(kind, path)) is None:
                    started = time.monotonic()
                    value = adapter.dump_python(compute(), mode="json")
                    entry = {"value": value, "seconds": round(time.monotonic() - started, 3)}
                    with replacing(path) as draft:
                        draft.write_text(json.dumps(entry), encoding="utf-8")
        self.seconds += entry["seconds"]
        return adapter.validate_python(entry["value"])

    def _entry(self, kind: Any, path: UPath) -> dict[str, Any] | None:
        """Read a stored result; return None if there is none or if a version's files were deleted."""
        try:
            entry = dict(json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError):
            return None
        return entry if kind is not Version or self.registry.has(entry["value"]["version"]) else None

    @contextmanager
    def step(self, stage: Stage, ref: PartitionRef, inputs: Any) -> Iterator[Record | None]:
        champion = None if stage is Stage.LABELS else self.ledger.champion(self.live.ref(ref.key).complete)
        # The champion determines which outcomes its drift references contain.
        reference = [champion.version, champion.as_of, champion.window_end] if champion else []
        name = digest_json([stage, ref.key, ref.as_of, inputs, reference, self._rules])[:24]
        if record := self.lake.reuse(stage, ref.key, name):
            yield record
            return
        with self.claims.hold(name[:16]), self.lake.writing_as(stage, ref.key, name):
            yield self.lake.reuse(stage, ref.key, name)


@dataclass(kw_only=True)
class ReplayResources(Resources):
    """The resources of a model in a replay. Advance the simulated time with `lake.now`."""

    live: Resources
    lake: ReplayLake
    cache: ReplayCache


def replay_resources(live: Resources, policy: Retraining, now: datetime, gated: bool = True) -> ReplayResources:
    """Return production's config with another policy, and a lake, ledger, registry and cache of its own.

    Args:
        live: The model's production resources.
        policy: The retraining policy to simulate.
        now: The simulated time at the start.
        gated: Whether the gate decides about versions after the first champion. If not, they are promoted at once.
    """
    alone = {"approval": False} | ({} if gated else {"shadow": Shadow()})  # no person can approve in a replay
    promotion = live.config.promotion.model_copy(update=alone)
    config = live.config.model_copy(update={"retraining": policy, "promotion": promotion})
    lake = ReplayLake(live.lake, lambda key: live.ref(key).complete, now)
    ledger = ReplayLedger(config.name)
    measured = {} if live.variant.name else live_queries(live.ledger.promotions())
    registry = ReplayRegistry(lake.root, config.name, measured)
    return ReplayResources(
        model=replace(live.model, config=config),
        settings=live.settings,
        lake=lake,
        ledger=ledger,
        claims=NoClaims(),
        registry=registry,
        cache=ReplayCache(live, config, lake, ledger, registry),
        pages=False,
        variant=live.variant,
        gated=gated,
        live=live,
    )


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
