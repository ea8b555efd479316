"""Prepare a replay: its range, the as-of of the first champion, and checks of the partitions that it needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from configs.errors import ConfigError
from configs.kinds import HIGHER_IS_BETTER, LOWER_IS_BETTER, METRICS
from configs.schema import ModelConfig
from tasks.contracts import PartitionRef
from tasks.errors import MissingPartition
from tasks.orchestration.prefect_tasks import run_log
from tasks.resources import PRODUCTION, LiveResources, Resources, Variant, open_resources
from tasks.source.extent import available_partitions
from tasks.steps.ingest import INGEST
from tasks.steps.run import run_steps
from tasks.steps.sketch import SKETCH
from tasks.steps.step import freshness
from tasks.steps.validate import VALIDATE
from tasks.storage.partitions import between, containing
from tasks.training.window import choose_window, validation_states


@dataclass(frozen=True)
class ReplaySetup:
    """The range of a replay."""

    refs: tuple[PartitionRef, ...]
    """The partitions, oldest first."""
    begin: datetime
    """As-of of the first champion's training: when the partition before the first one was complete."""

    @property
    def span(self) -> str:
        """The range as text, such as `2013-04 to 2013-12`."""
        return f"{self.refs[0].key} to {self.refs[-1].key}"


def open_replayed_model(model: str, override: Mapping[str, Any], flow_run: str = "") -> LiveResources:
    """Open the resources that a replay reads: those of production, or of a variant if the config is overridden.

    Raises:
        ConfigError: The override is invalid.
    """
    return open_resources(model, flow_run, Variant(dict(override)) if override else PRODUCTION)


def metric_of(config: ModelConfig, name: str) -> str:
    """Return the metric to compare policies by; by default the loss with which models are compared.

    Raises:
        ConfigError: The target's kind has no such metric, or neither high nor low values of it are better.
    """
    comparable = [m for m in METRICS[config.target.kind] if m in (*HIGHER_IS_BETTER, *LOWER_IS_BETTER)]
    if name and name not in comparable:
        raise ConfigError(
            f"{config.name}: no metric {name!r} to compare policies by; there are: {', '.join(comparable)}"
        )
    return name or config.target.eval_loss


def cost_of(config: ModelConfig, metric: str, given: float | None = None) -> float:
    """Return the cost of one retraining in units of the metric: as given, else of `replay.cost`, else of `retraining.cost`.

    `retraining.cost` is in units of the loss, so for another metric it does not count.
    """
    if given is None:
        given = config.replay.cost
    if given is None and metric == config.target.eval_loss:
        given = config.retraining.cost
    return given or 0.0


def prepare_replay(start: str, end: str, live: Resources) -> ReplaySetup:
    """Check the range of a replay. For a variant, ingest, validate and sketch the partitions that it does not have yet.

    Args:
        start: First partition.
        end: Last partition (inclusive).

    Raises:
        NoPartition: A key is not in the model's calendar, or the range ends before it starts.
        NotEnoughData: The partitions before the range are fewer than a training needs.
        MissingPartition: A partition was never validated, or with another config; run `backfill`. Or its labels have not matured.
    """
    refs = tuple(between(live.config, start, end))
    begin = containing(live.config, refs[0].start - timedelta(microseconds=1)).complete
    if live.variant.name:
        prepare_variant(refs[-1].end, live)
    states = validation_states(live)
    missing = [ref.key for ref in refs if ref.key not in states]
    if missing:
        raise MissingPartition(
            f"{live.title}: {_list_keys(missing)} never validated; run `backfill` for {missing[0]} to {missing[-1]} first"
        )
    if refs[-1].matured > datetime.now(UTC):
        raise MissingPartition(
            f"{live.title}: the labels of {refs[-1].key} mature on {refs[-1].matured:%Y-%m-%d %H:%M} UTC; end the range earlier"
        )
    choose_window(live.config, states, begin, live.config.training.window)
    require_same_config(sorted(states), live)
    return ReplaySetup(refs, begin)


def require_same_config(keys: Sequence[str], live: Resources) -> None:
    """Require that partitions were validated and sketched with the current config, as production would do first.

    Raises:
        MissingPartition: Some were not; run `backfill` with mode=stale.
    """
    pairs = [(key, step) for key in keys for step in (VALIDATE, SKETCH)]
    outdated = [
        key for key, step in pairs if freshness(step, live.ref(key), live).state in ("stale", "missing", "failed")
    ]
    if outdated:
        raise MissingPartition(
            f"{live.title}: {_list_keys(list(dict.fromkeys(outdated)))} validated or sketched by another config, or not at all; run "
            f"`backfill` with mode=stale for {outdated[0]} to {outdated[-1]} first"
        )


def prepare_variant(until: datetime, live: Resources) -> None:
    """Ingest, validate and sketch the partitions up to `until` that a variant neither has nor shares with production."""
    keys: Sequence[str] = [key for key in available_partitions(live.model) if live.ref(key).end <= until]
    for at, key in enumerate(keys, start=1):
        ref = live.ref(key)
        with live.claims.hold(key):
            run = run_steps(ref, (INGEST, VALIDATE, SKETCH), live)
        if any(state == "made" for _, state, _ in run.steps):
            run_log().info("%s: %d of %d partitions prepared, %s", live.title, at, len(keys), key)


def _list_keys(keys: Sequence[str]) -> str:
    text = ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
    return f"{text} was" if len(keys) == 1 else f"{text} were"
