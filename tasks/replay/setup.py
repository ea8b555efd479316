"""What a replay is played on: the range, the moment of the first champion, and the partitions that must be there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from configs.errors import ConfigError
from configs.kinds import HIGHER_IS_BETTER, LOWER_IS_BETTER, METRICS
from configs.schema import ModelConfig
from tasks.contracts import PartitionRef
from tasks.errors import MissingPartition
from tasks.orchestration.prefect_tasks import run_log
from tasks.resources import PRODUCTION, Resources, Variant, open_resources
from tasks.source.extent import available
from tasks.steps.ingest import INGEST
from tasks.steps.run import run_steps
from tasks.steps.sketch import SKETCH
from tasks.steps.step import freshness
from tasks.steps.validate import VALIDATE
from tasks.storage.partitions import between, containing
from tasks.training.window import choose_window, validity


@dataclass(frozen=True)
class ReplaySetup:
    """Partitions in order, and when the first champion is trained: at the moment of the one before them."""

    refs: tuple[PartitionRef, ...]
    begin: datetime

    @property
    def span(self) -> str:
        return f"{self.refs[0].key} to {self.refs[-1].key}"


def open_past(model: str, override: Mapping[str, Any], flow_run: str = "") -> Resources:
    """The model whose past is played: production's, or with another config a variant's.

    Raises:
        ConfigError: the override is wrong.
    """
    return open_resources(model, flow_run, Variant(dict(override)) if override else PRODUCTION)


def metric_of(config: ModelConfig, name: str) -> str:
    """The metric that policies are compared by; by default the loss that models are judged by.

    Raises:
        ConfigError: this kind of target has no such metric, or it has no better and worse.
    """
    known = [m for m in METRICS[config.target.kind] if m in (*HIGHER_IS_BETTER, *LOWER_IS_BETTER)]
    if name and name not in known:
        raise ConfigError(f"{config.name}: no metric {name!r} to compare policies by; there are: {', '.join(known)}")
    return name or config.target.judged_by


def lay_out(start: str, end: str, live: Resources) -> ReplaySetup:
    """The course of a replay, with its partitions made where they are a variant's own.

    Raises:
        NoPartition: a name is none of the model's calendar, or the range ends before it starts.
        NotEnoughData: what lies before the range is shorter than a training window.
        MissingPartition: a partition was never validated; run `backfill`.
    """
    refs = tuple(between(live.config, start, end))
    begin = containing(live.config, refs[0].start - timedelta(microseconds=1)).as_of
    if live.variant.name:
        prepare(refs[-1].end, live)
    states = validity(live)
    missing = [ref.key for ref in refs if ref.key not in states]
    if missing:
        raise MissingPartition(
            f"{live.title}: {_some(missing)} never validated; run `backfill` for {missing[0]} to {missing[-1]} first"
        )
    choose_window(live.config, states, begin, live.config.training.window)
    require_same_config(sorted(states), live)
    return ReplaySetup(refs, begin)


def require_same_config(keys: Sequence[str], live: Resources) -> None:
    """Refuse partitions that model.yaml would validate or sketch otherwise by now: production would make them again first.

    Raises:
        MissingPartition: naming them, and what to run.
    """
    pairs = [(key, step) for key in keys for step in (VALIDATE, SKETCH)]
    old = [key for key, step in pairs if freshness(step, live.ref(key), live).state in ("stale", "missing", "failed")]
    if old:
        raise MissingPartition(
            f"{live.title}: {_some(list(dict.fromkeys(old)))} validated or sketched by another config, or not at all; run `backfill` with "
            f"mode=stale for {old[0]} to {old[-1]} first"
        )


def prepare(until: datetime, live: Resources) -> None:
    """Ingest, validate and sketch what a variant does not have yet; what it shares with production is there."""
    keys: Sequence[str] = [key for key in available(live.model) if live.ref(key).end <= until]
    for at, key in enumerate(keys, start=1):
        ref = live.ref(key)
        with live.claims.hold(key):
            passage = run_steps(ref, (INGEST, VALIDATE, SKETCH), live)
        if any(state == "made" for _, state, _ in passage.steps):
            run_log().info("%s: %d of %d partitions prepared, %s", live.title, at, len(keys), key)


def _some(keys: Sequence[str]) -> str:
    text = ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
    return f"{text} was" if len(keys) == 1 else f"{text} were"
