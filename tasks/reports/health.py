"""Current alerts of a model: what a person should know, and what to do about it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from configs.errors import ConfigError
from tasks.contracts import Promotion, Stage
from tasks.contracts.words import counted, first_line
from tasks.errors import EvergreenError
from tasks.ledger.history import was_requested
from tasks.lifecycle.facts import decay_text
from tasks.lifecycle.lateness import late_partition, nothing_scored, old_champion
from tasks.orchestration.schedules import Schedule
from tasks.reports.refusals import last_refusal
from tasks.resources import Resources
from tasks.sinks.send import failing
from tasks.source.extent import why_no_partition
from tasks.steps.decay import decay_at
from tasks.steps.drift_verdict import drift_verdicts, suggestion
from tasks.steps.serving_skew import count_differing


class Severity(StrEnum):
    """How severe an alert is, most severe first."""

    ERROR = "error"  # the model cannot do its work
    ACTION = "action required"  # a decision waits for a person
    WARNING = "warning"


GOOD = "good"
"""The state of a model without alerts."""
UNDECIDED = timedelta(hours=1)
"""Time by the clock within which a fact gets its decision; `remind/all` sends its event again every hour."""
RECENT = 3
"""The newest partitions, whose failures become alerts. The grid shows older failures."""


@dataclass(frozen=True)
class Alert:
    """One thing that a person should know about a model.

    `action` is a command to run or a page to read; empty if nothing has to be done.
    """

    severity: Severity
    message: str
    action: str = ""


def alerts(res: Resources, schedules: Iterable[Schedule] | None = None) -> list[Alert]:
    """List all current alerts of a model, most severe first.

    Args:
        res: The resources of the model.
        schedules: The active schedules of its deployments; None if Prefect did not answer.
    """
    unsorted = [
        *schedule_alerts(schedules or ()),
        *_partition_alerts(res),
        *_serving_alerts(res),
        *_version_alerts(res),
        *_decision_alerts(res, datetime.now(UTC)),
        *_performance_alerts(res),
        *_overdue_alerts(res, datetime.now(UTC)),
        *_sink_alerts(res),
    ]
    return sorted(unsorted, key=lambda alert: list(Severity).index(alert.severity))


def schedule_alerts(schedules: Iterable[Schedule]) -> list[Alert]:
    """Return an alert for each active schedule that will start no run, and for each of their queues without a worker."""
    known = list(schedules)
    unplanned = [
        Alert(
            Severity.ERROR,
            f"{s.deployment} is scheduled ({s.rule} {s.timezone}), but Prefect has planned no run of it",
            "read the log of Prefect's server, then restart it (`make down up`)",
        )
        for s in known
        if s.is_missing()
    ]
    idle: dict[str, list[Schedule]] = {}
    for s in known:
        if s.has_no_worker():
            idle.setdefault(s.queue, []).append(s)
    return unplanned + [
        Alert(
            Severity.ERROR,
            f"no worker looks into the queue {queue}"
            + (f" since {waiting[0].polled:%Y-%m-%d %H:%M} UTC" if waiting[0].polled else "")
            + f": scheduled runs of {', '.join(sorted({s.deployment for s in waiting}))} do not start",
            "start a worker: `make up`, or `prefect worker start --pool " + queue.partition("/")[0] + "`",
        )
        for queue, waiting in idle.items()
    ]


def state(current: list[Alert]) -> str:
    """Return the highest severity among sorted alerts, or `GOOD` if there are none."""
    return str(current[0].severity) if current else GOOD


def _partition_alerts(res: Resources) -> Iterator[Alert]:
    """Blocked data and failed steps among the newest partitions."""
    name = res.config.name
    stages = (Stage.RAW, Stage.VALID)
    keys = sorted({key for stage in stages for key in (*res.lake.keys(stage), *res.lake.failed(stage))})
    if not keys and (problem := _source_problem(res)):
        yield Alert(Severity.WARNING, problem)
    elif not keys:
        yield Alert(Severity.ACTION, "no partition was processed yet", f"prefect deployment run process/{name}")
    scored = sorted({*res.lake.keys(Stage.PREDICTIONS), *res.lake.failed(Stage.PREDICTIONS)})
    for key in sorted({*keys[-RECENT:], *scored[-RECENT:]}):  # a backfill may have ingested others ahead
        for stage in Stage:
            record = res.lake.record(stage, key)
            if record and record.status == "blocked":
                message = f"{key} is blocked at {stage}: {first_line(record.reason)}"
                yield Alert(Severity.ERROR, message, "Fix the source. The next run tries again.")
            if failure := res.lake.failure(stage, key):
                retry = (
                    f"prefect deployment run backfill/manual -p model={name} -p start={key} -p end={key} -p mode=failed"
                )
                yield Alert(Severity.ERROR, f"{stage} of {key} failed: {first_line(failure)}", retry)


def _source_problem(res: Resources) -> str:
    """Return why the source has no partition or cannot be read, empty if it has partitions."""
    try:
        return why_no_partition(res.model)
    except (EvergreenError, ConfigError) as error:
        return first_line(str(error))


def _serving_alerts(res: Resources) -> Iterator[Alert]:
    """Partitions whose served predictions differ from those of batch scoring."""
    for key in res.lake.keys(Stage.PREDICTIONS)[-RECENT:]:
        if count := count_differing([res.lake.record(Stage.PREDICTIONS, key)]):
            rows = "1 row" if count == 1 else f"{count} rows"
            message = f"serving and batch scoring predicted different values for {rows} of {key}"
            action = "compare `load(stage='predictions')` with the served rows, see docs/serving.md"
            yield Alert(Severity.ACTION, message, action)


def _version_alerts(res: Resources) -> Iterator[Alert]:
    """A missing champion, a challenger that waits for approval, a promotion that made the loss worse, a moved alias."""
    name, ledger = res.config.name, res.ledger
    champion, challenger, rows = ledger.champion(), ledger.challenger(), ledger.promotions()
    if champion is None and res.lake.keys(Stage.VALID):
        refusal = last_refusal(res)
        train = f"prefect deployment run train/{name}"
        message = f"it has no champion yet: {refusal.headline}" if refusal else "it has no champion yet"
        yield Alert(Severity.ACTION, message, f"{refusal.advice}. Then {train}" if refusal else train)
    if challenger and was_requested(challenger.version, champion, rows):
        approve = f'prefect deployment run promote/manual -p model={name} -p by=YOU -p reason="..."'
        yield Alert(
            Severity.ACTION, f"version {challenger.version} passed the gate and waits for your approval", approve
        )
    hindsight = ledger.hindsight(champion.sequence) if champion else None
    if champion and hindsight and hindsight.verdict == "hurt":
        rollback = f'prefect deployment run rollback/manual -p model={name} -p by=YOU -p reason="..."'
        message = f"version {champion.version} is worse than version {hindsight.previous}, which it replaced"
        yield Alert(Severity.ACTION, message, rollback)
    if moved := _moved_alias(champion, res):
        action = f"prefect deployment run promote/manual -p model={name} -p action=restore (or adopt) ..."
        yield Alert(Severity.ACTION, moved, action)
    if ledger.undelivered():
        yield Alert(
            Severity.WARNING,
            "the alias in MLflow or an event in Prefect is not up to date with the ledger",
            "The next run of `process`, `assess` or `remind` updates it.",
        )


def _moved_alias(champion: Promotion | None, res: Resources) -> str:
    """Return a message if the newest alias fact is of a move by hand; empty if the champion changed since."""
    facts = [f for f in res.ledger.facts() if f.kind == "alias"]
    if not (champion and facts and facts[-1].recorded_at and champion.recorded_at):
        return ""
    later = [r for r in res.ledger.promotions() if r.recorded_at and r.recorded_at > facts[-1].recorded_at]
    if any(r.to_stage == "champion" for r in later):
        return ""
    target = f"version {facts[-1].payload['alias']}" if facts[-1].payload["alias"] else "no version"
    return f"the alias `champion` was moved to {target} by hand; the ledger still has version {champion.version} as champion"


def _overdue_alerts(res: Resources, now: datetime) -> Iterator[Alert]:
    """A partition that should be processed by now, and a champion that is too old, where model.yaml declares it."""
    name = res.config.name
    if late := late_partition(res, now):
        yield Alert(
            Severity.ERROR, late.message, f"look at the source, at the schedule and at the worker of process/{name}"
        )
    if silent := nothing_scored(res, now):
        yield Alert(Severity.WARNING, silent, "look at the source")
    if old := old_champion(res, now):
        yield Alert(
            Severity.ACTION,
            old.message,
            f"see why no training was promoted: `make status MODEL={name}`, or the page {name}-decisions",
        )


def _sink_alerts(res: Resources) -> Iterator[Alert]:
    """Places that `publish` names and that do not have all outputs, since the last attempt failed."""
    for name, sink in res.config.publish.items():
        failed, unsent = failing(res, name)
        for key, error, at in failed[:1]:
            count = counted(unsent, "partition")
            reason = first_line(error.removeprefix(f"publish.{name}: "))
            message = f"{count} of {sink.output} not sent to {name}; {key} failed at {at:%Y-%m-%d %H:%M} UTC: {reason}"
            yield Alert(Severity.ERROR, message, "The next run tries again, or now: prefect deployment run remind/all")


def _decision_alerts(res: Resources, now: datetime) -> Iterator[Alert]:
    """A failed retraining, and facts that have had no decision for longer than `UNDECIDED`."""
    retrainings = [d for d in res.ledger.decisions() if d.action == "retrain" and d.outcome]
    if retrainings and retrainings[-1].outcome == "failed":
        yield Alert(
            Severity.ERROR,
            f"the last retraining failed: {first_line(retrainings[-1].detail)}",
            f"prefect deployment run train/{res.config.name}",
        )
    for fact in res.ledger.undecided():
        if fact.recorded_at and now - fact.recorded_at > UNDECIDED:
            message = f"{fact.kind} in {fact.partition} has no decision yet"
            by_hand = f"prefect deployment run retrain/{res.config.name} -p fact={fact.id}"
            yield Alert(
                Severity.WARNING, message, f"look at the worker and at the automation of retrain; by hand: {by_hand}"
            )


def _performance_alerts(res: Resources) -> Iterator[Alert]:
    """Decay and drift in the newest partition of each stage that is not empty, if the present champion scored it.

    Columns that are always different have an alert whichever champion scored it: a new champion has not changed that.
    """
    champion = res.ledger.champion()
    empty = {key for key in res.lake.keys(Stage.VALID) if (r := res.lake.record(Stage.VALID, key)) and r.empty}
    for stage in (Stage.PERFORMANCE, Stage.MONITORING):
        newest = [key for key in res.lake.keys(stage) if key not in empty][-1:]
        done = [r for key in newest if (r := res.lake.record(stage, key)) and r.status == "done"]
        verdict = drift_verdicts(newest, res).get(newest[0], {}) if stage is Stage.MONITORING and newest else {}
        for column, text in verdict.get("always_different", {}).items():
            message = f"{column} {text}: it is always different, and does not count as drift"
            yield Alert(Severity.WARNING, message, suggestion(column, res.config))
        if not done or champion is None or done[0].data["version"] != champion.version:
            continue
        key = done[0].partition
        if verdict.get("detected"):
            yield Alert(
                Severity.WARNING, f"drift detected in {key} against the reference of version {champion.version}"
            )
        if stage is Stage.PERFORMANCE and (decay := decay_at(res.ref(key), res))["detected"]:
            yield Alert(Severity.WARNING, f"decay detected in {key}: {decay_text(decay)}")
