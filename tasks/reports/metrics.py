"""The state of one model in numbers: for Prometheus, from the records and the ledger that pages and terminal read.

Only the newest partition of each step counts, so the number of series does not grow with history.
Names follow https://prometheus.io/docs/practices/naming/.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from tasks.contracts import PartitionRef, Record, Stage
from tasks.errors import CorruptPartition
from tasks.reports.newest import newest_assessed
from tasks.resources import Resources
from tasks.sinks.records import FOLDER as SENT
from tasks.sinks.send import failing
from tasks.steps.drift_verdict import drift_verdicts
from tasks.steps.order import SHADOW_STEPS, steps_of
from tasks.steps.step import Step
from tasks.storage.partitions import NoPartition, containing


class Metric(NamedTuple):
    """What a metric means, and its labels."""

    help: str
    labels: tuple[str, ...]


_STEP = ("model", "step")
METRICS: Mapping[str, Metric] = {
    "evergreen_model_readable": Metric(
        "1 if the model's config, newest records and ledger can be read. At 0 it has no other series", ("model",)
    ),
    "evergreen_partition_age_seconds": Metric(
        "Seconds since the end of the newest partition that the step has finished or blocked", _STEP
    ),
    "evergreen_partition_lag_seconds": Metric(
        "Seconds since the step could begin the partition after that one: it is complete or, for outcomes, matured",
        _STEP,
    ),
    "evergreen_partition_due_within_seconds": Metric("source.due_within in model.yaml, if it is declared", ("model",)),
    "evergreen_partition_rows": Metric("Rows in the newest partition of the step", _STEP),
    "evergreen_partition_quarantined_rows": Metric("Rows in quarantine of the newest validated partition", ("model",)),
    "evergreen_partition_blocked": Metric("1 if the newest partition of the step is blocked", _STEP),
    "evergreen_partitions_failed": Metric("Partitions in which the last run of the step failed", _STEP),
    "evergreen_step_seconds": Metric("Duration of the step in its newest partition", _STEP),
    "evergreen_step_peak_memory_bytes": Metric(
        "Most resident memory of the process until the step had written its newest partition", _STEP
    ),
    "evergreen_loss": Metric("Loss in the newest partition with outcomes", ("model", "metric")),
    "evergreen_skill_ratio": Metric("1 minus that loss as a share of the loss of the base rate or mean", ("model",)),
    "evergreen_drift_share_ratio": Metric(
        "Share of drifted columns in the newest monitored partition that is not empty", ("model",)
    ),
    "evergreen_drift_detected": Metric("1 if that share, or another signal there, counts as drift", ("model",)),
    "evergreen_ledger_champion_version": Metric("Version number of the champion in the ledger", ("model",)),
    "evergreen_undecided_facts": Metric("Facts without a decision of the policy", ("model",)),
    "evergreen_undecided_fact_age_seconds": Metric("Seconds since the oldest of them was recorded", ("model",)),
    "evergreen_decisions_total": Metric("Decisions of the policy", ("model", "action")),
    "evergreen_retrainings_total": Metric("Retrainings that have ended", ("model", "outcome")),
    "evergreen_retraining_seconds_total": Metric("Cost of all retrainings in seconds", ("model",)),
    "evergreen_outputs_unsent": Metric(
        "Outputs that a place which publish names does not have since an attempt failed; 0 if none failed",
        ("model", "sink"),
    ),
}
"""All metrics of a model. Names that end in `_total` only grow."""


class Sample(NamedTuple):
    """One value. `labels` are the values of the metric's labels in order."""

    name: str
    labels: tuple[str, ...]
    value: float


class Since(NamedTuple):
    """A value that grows with the clock: the seconds since a moment, 0 before it."""

    name: str
    labels: tuple[str, ...]
    moment: datetime


@dataclass(frozen=True)
class ModelState:
    """All values of a model, as they stay until its files or the ledger change.

    Attributes:
        files: Names of the newest records, below the model's folder in the lake.
    """

    model: str
    values: tuple[Sample | Since, ...] = ()
    files: tuple[str, ...] = ()

    def samples(self, now: datetime) -> Iterator[Sample]:
        """Yield the values at a moment (aware)."""
        for value in self.values:
            if isinstance(value, Since):
                yield Sample(value.name, value.labels, max(0.0, (now - value.moment).total_seconds()))
            else:
                yield value


def unreadable(model: str) -> ModelState:
    """Return the state of a model whose config, records or ledger cannot be read."""
    return ModelState(model, (Sample("evergreen_model_readable", (model,), 0),))


def describe(res: Resources) -> ModelState:
    """Read the state of a model.

    Raises:
        CorruptPartition: The newest record of a step cannot be read.
        SQLAlchemyError: The ledger does not respond.
    """
    newest = {step: record for step in steps_of(res.config) if (record := newest_record(step, res))}
    values = [
        Sample("evergreen_model_readable", (res.config.name,), 1),
        *_partition_values(newest, res),
        *_performance_values(res),
        *_drift_values(res),
        *_ledger_values(res),
        *_sink_values(res),
    ]
    return ModelState(res.config.name, tuple(values), tuple(f"{r.stage}/{r.partition}.json" for r in newest.values()))


def newest_record(step: Step, res: Resources) -> Record | None:
    """Return the record of the newest partition of a step, None without one.

    Raises:
        CorruptPartition: It cannot be read.
    """
    keys = res.lake.keys(step.stage)
    if not keys:
        return None
    record = res.lake.record(step.stage, keys[-1])
    if record is None:
        raise CorruptPartition(f"{res.lake.path(step.stage, keys[-1], 'json')} is not a record")
    return record


def folder_stamp(res: Resources) -> object:
    """Return a value that changes when an output of the model is written or removed; None for a lake that is no local folder."""
    root = res.lake.root
    folders = [*Stage, *(f"{SENT}/{name}" for name in res.config.publish)]
    return tuple(_changed(root / name) for name in folders) if isinstance(root, Path) else None


def record_stamp(state: ModelState, res: Resources) -> object:
    """Return a value that changes when one of the newest records is changed in place; None for a lake that is no local folder."""
    root = res.lake.root
    return tuple(_changed(root / name) for name in state.files) if isinstance(root, Path) else None


def _changed(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        return (0, 0)
    return stat.st_mtime_ns, stat.st_size


def _partition_values(newest: Mapping[Step, Record], res: Resources) -> Iterator[Sample | Since]:
    model, within = res.config.name, res.config.source.due_within
    if within is not None:
        yield Sample("evergreen_partition_due_within_seconds", (model,), within.total_seconds())
    for step in steps_of(res.config):
        yield Sample("evergreen_partitions_failed", (model, step.verb), len(res.lake.failed(step.stage)))
    for step, record in newest.items():
        labels = (model, step.verb)
        yield Sample("evergreen_partition_rows", labels, record.rows)
        yield Sample("evergreen_partition_blocked", labels, record.status == "blocked")
        if record.stage is Stage.VALID:
            yield Sample("evergreen_partition_quarantined_rows", (model,), record.data.get("quarantined", 0))
        if record.run:
            yield Sample("evergreen_step_seconds", labels, record.run.seconds)
        if record.run and record.run.peak_bytes:
            yield Sample("evergreen_step_peak_memory_bytes", labels, record.run.peak_bytes)
        if step not in SHADOW_STEPS:  # they end with the challenger, so a later partition without them is not late
            with suppress(NoPartition):  # it is from before `partition.every` was changed
                ref = res.ref(record.partition)
                yield Since("evergreen_partition_age_seconds", labels, ref.end)
                yield Since("evergreen_partition_lag_seconds", labels, _begins(step, containing(res.config, ref.end)))


def _begins(step: Step, ref: PartitionRef) -> datetime:
    """Return when a step of a partition can begin."""
    return ref.matured if step.moment == "matured" else ref.complete


def _sink_values(res: Resources) -> Iterator[Sample]:
    for name in res.config.publish:
        failed, unsent = failing(res, name)
        yield Sample("evergreen_outputs_unsent", (res.config.name, name), unsent if failed else 0)


def _performance_values(res: Resources) -> Iterator[Sample]:
    model, loss, measured = res.config.name, res.config.target.eval_loss, newest_assessed(res)
    if measured is None:
        return
    if (value := measured.data["metrics"].get(loss)) is not None:
        yield Sample("evergreen_loss", (model, loss), value)
    if (skill := measured.data.get("skill")) is not None:
        yield Sample("evergreen_skill_ratio", (model,), skill)


def _drift_values(res: Resources) -> Iterator[Sample]:
    """Yield the drift of the newest monitored partition that has rows, which an alert is about too."""
    model = res.config.name
    for key in reversed(res.lake.keys(Stage.MONITORING)):
        valid = res.lake.record(Stage.VALID, key)
        if valid and valid.empty:
            continue
        verdict = drift_verdicts([key], res).get(key, {})
        if verdict.get("share") is not None:
            yield Sample("evergreen_drift_share_ratio", (model,), verdict["share"])
        if verdict:
            yield Sample("evergreen_drift_detected", (model,), bool(verdict.get("detected")))
        return


def _ledger_values(res: Resources) -> Iterator[Sample | Since]:
    model, champion, undecided = res.config.name, res.ledger.champion(), res.ledger.undecided()
    if champion and champion.version.isdecimal():
        yield Sample("evergreen_ledger_champion_version", (model,), int(champion.version))
    yield Sample("evergreen_undecided_facts", (model,), len(undecided))
    if recorded := [fact.recorded_at for fact in undecided if fact.recorded_at]:
        yield Since("evergreen_undecided_fact_age_seconds", (model,), min(recorded))
    decisions = res.ledger.decisions()
    actions = Counter(decision.action for decision in decisions)
    for action in ("retrain", "decline"):
        yield Sample("evergreen_decisions_total", (model, action), actions[action])
    outcomes = Counter(decision.outcome for decision in decisions if decision.outcome)
    for outcome in ("promoted", "staged", "refused", "failed"):
        yield Sample("evergreen_retrainings_total", (model, outcome), outcomes[outcome])
    yield Sample("evergreen_retraining_seconds_total", (model,), sum(decision.seconds for decision in decisions))
