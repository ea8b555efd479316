"""Apply the retraining policy: collect its inputs, record decisions and their outcomes, and retry failed retrainings."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, Protocol

from tasks.contracts import Decision, Fact, PartitionRef, PolicyInputs, Promotion, Record, Stage, Training
from tasks.contracts.words import change_text
from tasks.errors import EvergreenError
from tasks.ledger.history import trained_at, was_requested
from tasks.ledger.store import Ledger, RetrainingInFlight
from tasks.ledger.values import storable
from tasks.lifecycle.facts import due_fact, person_fact, retry_fact
from tasks.lifecycle.policy import decide
from tasks.orchestration.events import emit_decision, record_and_emit, resend_undecided
from tasks.orchestration.flow_runs import final_run_seconds
from tasks.orchestration.prefect_tasks import as_task, run_log
from tasks.resources import Resources
from tasks.steps.collect import COLLECT, read_outcomes
from tasks.steps.decay import decay_at
from tasks.steps.order import newest_moment, newest_ref
from tasks.steps.step import NotDue, advance, done_record

Outcome = Literal["promoted", "staged", "refused"]
OUTCOME: dict[str, Outcome] = {"promote": "promoted", "stage": "staged", "request": "staged", "refuse": "refused"}
"""The outcome of a retraining, by the action of its last ledger row."""
JUDGED = ("promoted", "staged", "refused")
"""Outcomes of a retraining that the gate has judged."""


@as_task("decide about {fact_id}")
def decide_retraining(fact_id: str, res: Resources) -> Decision:
    """Let the policy decide about a fact, and record the decision. If the fact has a decision already, that one is returned.

    Raises:
        UnknownFact: the model has no fact with this id.
    """
    ledger, is_new = res.ledger, False
    fact = ledger.fact(fact_id)
    decision = ledger.decision(fact_id)
    while decision is None:
        close_dead_retraining(ledger)
        proposed = replace(decide(fact, policy_inputs(fact, res), res.config.retraining), flow_run=res.flow_run)
        try:
            decision, is_new = ledger.record_decision(proposed), True
        except RetrainingInFlight:
            continue
    if is_new:
        emit_decision(decision, fact, ledger.chained("decision", fact.id))
    run_log().info(
        "%s %s: %s by rule %r: %s", fact.model, fact.partition, decision.action, decision.rule, decision.reason
    )
    return decision


@as_task("record manual request")
def record_manual_request(by: str, reason: str, as_of: datetime | None, res: Resources) -> Fact:
    """Record and return the fact that a person requests a retraining.

    Raises:
        MissingPartition: the model has no validated partition as of `as_of`.
    """
    request = person_fact(res, newest_ref(res, as_of).at(as_of or newest_moment(res)), by, reason)
    res.ledger.record_fact(request)
    return request


def policy_inputs(fact: Fact, res: Resources) -> PolicyInputs:
    """Return the policy's inputs as of the fact's moment. Labels that have matured since the last run are collected first."""
    ledger, budget = res.ledger, res.config.retraining.budget
    decisions, champion, staged = ledger.decisions(), ledger.champion(), ledger.challenger()
    judged = [d for d in decisions if d.outcome in JUDGED]
    waits_for_person = staged and was_requested(staged.version, champion, ledger.promotions())
    attempts = earlier_attempts(fact, res)
    spent = [d for d in decisions if d.action == "retrain" and fact.as_of - budget.period < d.as_of <= fact.as_of]
    spent = [d for d in spent if d.fact_id not in attempts]
    return PolicyInputs(
        champion=champion,
        trained_at=trained_at(ledger.promotions()),
        last_judged=judged[-1] if judged else None,
        in_flight=ledger.in_flight(),
        in_shadow=None if waits_for_person else staged,
        drifted=drift_history(fact, res),
        new_labels=count_new_labels(champion, fact.as_of, res, collect=True) if champion else 0,
        runs=len(spent),
        seconds=sum(d.seconds for d in spent),
        latest=storable(latest_signals(fact, res)),
    )


def earlier_attempts(fact: Fact, res: Resources) -> set[str]:
    """Return the ids of the facts that a retry repeats. Their retrainings do not count in its budget."""
    fact_ids: set[str] = set()
    while earlier := fact.payload.get("fact"):
        fact_ids.add(str(earlier))
        fact = res.ledger.fact(str(earlier))
    return fact_ids


def drift_history(fact: Fact, res: Resources) -> tuple[bool, ...]:
    """Return whether drift was detected in each of the last partitions up to the fact's, newest last.

    There are as many as `retraining.signals.drift.of`. Only partitions count that the same champion scored: data that had drifted
    for an earlier champion may be part of the current champion's training window.
    """
    rule = res.config.retraining.signals.drift
    refs = [ref for ref in validated_partitions(fact, res) if not fact.partition or ref.key <= fact.partition]
    records = [r for ref in refs if (r := done_record(Stage.MONITORING, ref, res))]
    detected = [bool(r.data["detected"]) for r in records if r.data["version"] == records[-1].data["version"]]
    return tuple(detected[-(rule.of if rule else 1) :])


def validated_partitions(fact: Fact, res: Resources) -> list[PartitionRef]:
    """Return the partitions with a validation record as of a fact, blocked ones included and empty ones not, oldest first."""
    records = [r for key in res.lake.keys(Stage.VALID) if (r := res.lake.record(Stage.VALID, key))]
    refs = [res.ref(r.partition) for r in records if r.rows or r.status == "blocked"]
    return [ref for ref in refs if ref.complete <= fact.as_of]


def count_new_labels(champion: Promotion, as_of: datetime, res: Resources, collect: bool = False) -> int:
    """Return how many rows after the champion's training window a training as of `as_of` would have the labels of.

    As in a training's window, only partitions count that were complete by then, and rows whose label delay has passed.
    """
    count, end = 0, as_of - res.config.target.delay
    for key in res.lake.keys(Stage.VALID):
        ref = res.ref(key)
        if ref.end > champion.window_end and ref.complete <= as_of and ref.start < end:
            count += _count_matured(ref.at(as_of), champion, res, collect)
    return count


def _count_matured(ref: PartitionRef, champion: Promotion, res: Resources, collect: bool) -> int:
    """Count the rows of one partition, with a warning and 0 if its labels are not available."""
    try:
        if collect:
            advance(COLLECT, ref, res)
        return _count(ref, champion, res)
    except (NotDue, EvergreenError) as error:
        run_log().warning("labels of %s cannot be counted: %s", ref, error)
        return 0


def _count(ref: PartitionRef, champion: Promotion, res: Resources) -> int:
    raw, valid, labels = (done_record(stage, ref, res) for stage in (Stage.RAW, Stage.VALID, Stage.LABELS))
    if not (raw and valid and labels):
        return 0
    config, start, end = res.config, champion.window_end, ref.as_of - res.config.target.delay
    if start <= ref.start and ref.end <= end and labels.as_of <= ref.as_of and valid.rows == raw.rows:
        return int(labels.data["mature"])  # no row was quarantined, so no file has to be read
    rows = res.lake.read(Stage.VALID, ref.key, [config.key, config.time])
    new = rows.loc[(rows[config.time] >= start) & (rows[config.time] < end), config.key]
    return int(read_outcomes(res, ref.key, ref.as_of)[config.key].isin(new).sum())


def latest_signals(fact: Fact, res: Resources) -> dict[str, Any]:
    """Return the newest value of every signal, for the decision's row."""
    values: dict[str, Any] = {}
    loss, newest = res.config.target.eval_loss, validated_partitions(fact, res)[::-1]
    if drift := _newest_record(Stage.MONITORING, newest, res):
        values["drift"] = {name: drift.data[name] for name in ("share", "detected")} | {"partition": drift.partition}
    if estimate := _newest_record(Stage.ESTIMATES, newest, res):
        values["estimate"] = {"partition": estimate.partition, "loss": estimate.data["metrics"].get(loss)}
    if assessed := _newest_record(Stage.PERFORMANCE, [ref for ref in newest if ref.matured <= fact.as_of], res):
        rise = decay_at(res.ref(assessed.partition), Stage.PERFORMANCE, res)
        values["decay"] = {"partition": assessed.partition, "loss": assessed.data["metrics"].get(loss)}
        values["decay"] |= {name: rise.get(name) for name in ("expected", "rise", "lower", "detected")}
    return values


def _newest_record(stage: Stage, refs: list[PartitionRef], res: Resources) -> Record | None:
    """Return the first record of an output among `refs`."""
    return next((record for ref in refs if (record := done_record(stage, ref, res))), None)


def emit_due_fact(res: Resources, as_of: datetime) -> Fact | None:
    """Record and emit that a training is due by time or by new labels as of a moment, if model.yaml has such a rule.

    The fact is about the newest partition that was complete by then. There is at most one per partition, none during the cool-down,
    and none for a moment before the present champion or the last training.

    Returns:
        The fact, new or not, None if no training is due.
    """
    rules, champion = res.config.retraining.signals, res.ledger.champion()
    by_labels = rules.new_labels or rules.growth
    if champion is None or champion.as_of > as_of or not (rules.every or rules.partitions or by_labels):
        return None
    ref, judged = newest_ref(res, as_of).at(as_of), [d.as_of for d in res.ledger.decisions() if d.outcome in JUDGED]
    since = max([m for m in (trained_at(res.ledger.promotions()), *judged) if m], default=champion.as_of)
    if ref.as_of - since < res.config.retraining.cool_down:
        return None
    labels = count_new_labels(champion, ref.as_of, res, collect=True) if by_labels else 0
    moments = (res.ref(key).complete for key in res.lake.keys(Stage.VALID))
    partitions = sum(since < moment <= ref.as_of for moment in moments)
    fact = due_fact(ref, champion, since, labels, partitions, res)
    if fact and not res.ledger.has_fact(fact.id):
        record_and_emit(fact, res)
    return fact


def follow_up(res: Resources) -> list[Fact]:
    """Close retrainings whose run died, retry failed ones, and resend facts without a decision. Returns the resent facts."""
    close_dead_retraining(res.ledger)
    for decision in res.ledger.decisions():
        retry = decision.outcome == "failed" and retry_fact(
            decision, res.ledger.fact(decision.fact_id), res.config.retraining.attempts
        )
        if retry and not res.ledger.has_fact(retry.id):
            run_log().warning(
                "a retraining failed (%s); attempt %d was requested", decision.detail, retry.payload["attempt"]
            )
            record_and_emit(retry, res)
    return resend_undecided(res)


def close_dead_retraining(ledger: Ledger) -> None:
    """Record the outcome of a retraining whose flow run crashed or was killed before it did so itself.

    The outcome follows from the rows that it had appended to the ledger. Without such a row it is `failed`.
    """
    decision = ledger.in_flight()
    if decision and decision.flow_run and (seconds := final_run_seconds(decision.flow_run)) is not None:
        error = f"flow run {decision.flow_run} ended without a result"
        outcome, detail, version = ledger_outcome(decision, ledger) or ("failed", "", "")
        detail = "; ".join(part for part in (detail, error) if part)
        ledger.close_decision(decision.fact_id, outcome, detail, version, seconds)


def ledger_outcome(decision: Decision, ledger: Ledger) -> tuple[Outcome, str, str] | None:
    """Return outcome, detail and version of a retraining from its newest ledger row, None if it has none."""
    since = decision.recorded_at
    own = [r for r in ledger.promotions() if since and r.recorded_at and r.recorded_at >= since]
    final = [r for r in own if r.as_of == decision.as_of and not r.evidence.get("refresh_follows")]
    outcomes = [(OUTCOME[r.action], r.reason, r.version) for r in final if r.action in OUTCOME]
    return outcomes[-1] if outcomes else None


@dataclass
class Stopwatch:
    """Wall-clock seconds since `began`, a time of `time.monotonic`."""

    began: float

    @property
    def seconds(self) -> float:
        """Wall seconds since `began`."""
        return round(time.monotonic() - self.began, 3)


class Timer(Protocol):
    """Measures the seconds that a retraining takes. A replay counts its own."""

    @property
    def seconds(self) -> float:
        """Seconds until now."""
        ...


@contextmanager
def record_failure(decision: Decision, ledger: Ledger, timer: Timer | None = None) -> Iterator[Timer]:
    """If the body fails, record the outcome and the cost of the decision's retraining. Yields the timer.

    The outcome follows from the rows that the body had appended to the ledger. Without such a row it is `failed`.
    """
    timer = timer or Stopwatch(time.monotonic())
    try:
        yield timer
    except BaseException as error:
        outcome, detail, version = ledger_outcome(decision, ledger) or ("failed", "", "")
        detail = "; ".join(part for part in (detail, storable(f"{type(error).__name__}: {error}")) if part)
        ledger.close_decision(decision.fact_id, outcome, detail, version, timer.seconds)
        raise


def record_outcome(decision: Decision, training: Training, seconds: float, ledger: Ledger) -> Decision:
    """Record outcome, cost and gate verdicts of a decision's retraining. Returns the updated decision."""
    version = training.version
    rows = [r for r in ledger.promotions() if r.version == version and r.action in OUTCOME]
    verdicts = tuple(str(v) for v in training.decision.verdicts)
    if not rows:  # nothing beat the prior
        ledger.close_decision(
            decision.fact_id, "refused", "; ".join(training.decision.reasons), seconds=seconds, gate=verdicts
        )
        return ledger.decision(decision.fact_id) or decision
    last = rows[-1]
    detail = f"version {version} {change_text(last)}" if last.action != "refuse" else last.reason
    ledger.close_decision(decision.fact_id, OUTCOME[last.action], detail, version, seconds, verdicts)
    return ledger.decision(decision.fact_id) or decision
