"""Apply the retraining policy: record decisions and their outcomes, and retry failed retrainings."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, Protocol

from tasks.contracts import Decision, Fact, Training
from tasks.contracts.words import change_text
from tasks.ledger.store import Ledger, RetrainingInFlight
from tasks.ledger.values import storable
from tasks.lifecycle.facts import due_fact, person_fact, retry_fact
from tasks.lifecycle.policy import decide
from tasks.lifecycle.policy_inputs import (
    count_new_labels,
    current_gain,
    last_training_of,
    partitions_since,
    policy_inputs,
)
from tasks.orchestration.events import emit_decision, record_and_emit, resend_undecided
from tasks.orchestration.flow_runs import final_run_seconds
from tasks.orchestration.prefect_tasks import as_task, run_log
from tasks.resources import Resources
from tasks.steps.order import newest_moment, newest_ref

Outcome = Literal["promoted", "staged", "refused"]
OUTCOME: dict[str, Outcome] = {"promote": "promoted", "stage": "staged", "request": "staged", "refuse": "refused"}
"""The outcome of a retraining, by the action of its last ledger row."""


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


def emit_due_fact(res: Resources, as_of: datetime) -> Fact | None:
    """Record and emit that a training is due by time, by new labels or by its expected gain as of a moment, if model.yaml has such a rule.

    The fact is about the newest partition that was complete by then. There is at most one per partition, none during the cool-down,
    and none for a moment before the present champion or the last training.

    Returns:
        The fact, new or not, None if no training is due.
    """
    rules, champion = res.config.retraining.signals, res.ledger.champion()
    by_labels = rules.new_labels or rules.growth
    if champion is None or champion.as_of > as_of:
        return None
    if not (rules.every or rules.partitions or by_labels or rules.expected_gain):
        return None
    ref, since = newest_ref(res, as_of).at(as_of), last_training_of(res) or champion.as_of
    if ref.as_of - since < res.config.retraining.cool_down:
        return None
    labels = count_new_labels(champion, ref.as_of, res, collect=True) if by_labels else 0
    gain = current_gain(as_of, res)
    fact = due_fact(ref, champion, since, labels, partitions_since(since, ref.as_of, res), res, gain)
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
