"""Carry out the policy: gather what it looks at, write its decision down, close it when the training has ended, take up what failed."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, Protocol

from tasks.contracts import Decision, Fact, PartitionRef, Promotion, Record, Situation, Stage, Training
from tasks.errors import EvergreenError
from tasks.ledger.history import trained_at, was_requested
from tasks.ledger.store import Ledger, RetrainingInFlight
from tasks.lifecycle.facts import due_fact, person_fact, retry_fact
from tasks.lifecycle.policy import decide
from tasks.orchestration.events import emit_decision, record_and_emit, resend_undecided
from tasks.orchestration.flow_runs import ended_after
from tasks.orchestration.prefect_tasks import as_task, run_log
from tasks.resources import Resources
from tasks.steps.collect import COLLECT, read_outcomes
from tasks.steps.decay import decay_at
from tasks.steps.order import newest_ref
from tasks.steps.step import NotDue, advance, done_record

Outcome = Literal["promoted", "staged", "refused"]
OUTCOME: dict[str, Outcome] = {"promote": "promoted", "stage": "staged", "request": "staged", "refuse": "refused"}
"""What the last of a retraining's ledger rows makes of it."""
JUDGED = ("promoted", "staged", "refused")
"""Outcomes of a training that came as far as the gate."""


@as_task("decide about {fact_id}")
def decide_retraining(fact_id: str, res: Resources) -> Decision:
    """Ask the policy about a fact and write its decision down. A fact that has one keeps it.

    Raises:
        UnknownFact: no such fact.
    """
    ledger, fresh = res.ledger, False
    fact = ledger.fact(fact_id)
    decision = ledger.decision(fact_id)
    while decision is None:
        close_dead_retraining(ledger)
        asked_for = replace(decide(fact, situation(fact, res), res.config.retraining), flow_run=res.flow_run)
        try:
            decision, fresh = ledger.record_decision(asked_for), True
        except RetrainingInFlight:
            continue
    if fresh:
        emit_decision(decision, fact)
    run_log().info(
        "%s %s: %s by rule %r: %s", fact.model, fact.partition, decision.action, decision.rule, decision.reason
    )
    return decision


@as_task("write down who asks")
def record_manual_request(by: str, reason: str, as_of: datetime | None, res: Resources) -> Fact:
    """Write down that a person asks for a retraining, as a fact like any other.

    Raises:
        MissingPartition: nothing was ever validated.
    """
    ref = newest_ref(res)
    wish = person_fact(res, replace(ref, as_of=as_of) if as_of else ref, by, reason)
    res.ledger.record_fact(wish)
    return wish


def situation(fact: Fact, res: Resources) -> Situation:
    """What the policy looks at, as of the fact's moment. Labels that have matured since are collected for it."""
    ledger, budget = res.ledger, res.config.retraining.budget
    decisions, champion, staged = ledger.decisions(), ledger.champion(), ledger.challenger()
    judged = [d for d in decisions if d.outcome in JUDGED]
    waits = staged and was_requested(staged.version, champion, ledger.promotions())
    own = earlier_attempts(fact, res)
    spent = [d for d in decisions if d.action == "retrain" and fact.as_of - budget.period < d.as_of <= fact.as_of]
    spent = [d for d in spent if d.fact_id not in own]
    return Situation(
        champion=champion,
        trained=trained_at(ledger.promotions()),
        last=judged[-1] if judged else None,
        in_flight=ledger.in_flight(),
        in_shadow=None if waits else staged,
        drifted=drifted_before(fact, res),
        new_labels=new_labels(champion, fact.as_of, res, collect=True) if champion else 0,
        runs=len(spent),
        seconds=sum(d.seconds for d in spent),
        seen=newest_values(fact, res),
    )


def earlier_attempts(fact: Fact, res: Resources) -> set[str]:
    """The facts that a retry stands for: they do not spend its budget."""
    found: set[str] = set()
    while before := fact.payload.get("fact"):
        found.add(str(before))
        fact = res.ledger.fact(str(before))
    return found


def drifted_before(fact: Fact, res: Resources) -> tuple[bool, ...]:
    """Whether drift was found in each partition up to the fact's, newest last; as many as the rule looks at.

    Only partitions that the same champion scored count: drift from what an earlier one knew may be what the present one learned from.
    """
    rule = res.config.retraining.signals.drift
    records = [r for ref in over(fact, res) if (r := done_record(Stage.MONITORING, ref, res))]
    found = [bool(r.data["detected"]) for r in records if r.data["version"] == records[-1].data["version"]]
    return tuple(found[-(rule.of if rule else 1) :])


def over(fact: Fact, res: Resources) -> list[PartitionRef]:
    """Validated partitions up to the fact's own, oldest first."""
    refs = [res.ref(key) for key in res.lake.keys(Stage.VALID)]
    return [ref for ref in refs if ref.end <= fact.as_of and (not fact.partition or ref.key <= fact.partition)]


def new_labels(champion: Promotion, as_of: datetime, res: Resources, collect: bool = False) -> int:
    """How many rows after the champion's window have an outcome that was known at `as_of`."""
    count = 0
    for key in res.lake.keys(Stage.VALID):
        ref = res.ref(key, as_of)
        if ref.end > champion.window_end and ref.end <= as_of:
            count += _matured(ref, champion, res, collect)
    return count


def _matured(ref: PartitionRef, champion: Promotion, res: Resources, collect: bool) -> int:
    """The valid rows of one partition with a known outcome from after the champion's window."""
    try:
        if collect:
            advance(COLLECT, ref, res)
        return _count(ref, champion, res)
    except (NotDue, EvergreenError) as why:
        run_log().warning("labels of %s cannot be counted: %s", ref, why)
        return 0


def _count(ref: PartitionRef, champion: Promotion, res: Resources) -> int:
    raw, valid, labels = (done_record(stage, ref, res) for stage in (Stage.RAW, Stage.VALID, Stage.LABELS))
    if not (raw and valid and labels):
        return 0
    if ref.start >= champion.window_end and labels.as_of <= ref.as_of and valid.rows == raw.rows:
        return int(labels.data["mature"])  # every label is of a valid row: no need to read them
    config = res.config
    rows = res.lake.read(Stage.VALID, ref.key, [config.key, config.time])
    late = rows.loc[rows[config.time] >= champion.window_end, config.key]
    return int(read_outcomes(res, ref.key, ref.as_of)[config.key].isin(late).sum())


def newest_values(fact: Fact, res: Resources) -> dict[str, Any]:
    """The newest value of every watched signal, for the decision's row."""
    found: dict[str, Any] = {}
    loss, newest = res.config.target.judged_by, over(fact, res)[::-1]
    if watched := _newest(Stage.MONITORING, newest, res):
        found["drift"] = {name: watched.data[name] for name in ("share", "detected")} | {"partition": watched.partition}
    if estimated := _newest(Stage.ESTIMATES, newest, res):
        found["estimate"] = {"partition": estimated.partition, "loss": estimated.data["metrics"].get(loss)}
    if assessed := _newest(Stage.PERFORMANCE, [ref for ref in newest if ref.as_of <= fact.as_of], res):
        rise = decay_at(res.ref(assessed.partition), Stage.PERFORMANCE, res)
        found["decay"] = {"partition": assessed.partition, "loss": assessed.data["metrics"].get(loss)}
        found["decay"] |= {name: rise.get(name) for name in ("expected", "rise", "lower", "detected")}
    return found


def _newest(stage: Stage, refs: list[PartitionRef], res: Resources) -> Record | None:
    """The first record of a stage, from the newest partition on."""
    return next((record for ref in refs if (record := done_record(stage, ref, res))), None)


def emit_due_fact(res: Resources) -> Fact | None:
    """Tell that a training is due by time or by new labels, where model.yaml asks for it; once a partition, and after the cool-down."""
    rules, champion = res.config.retraining.signals, res.ledger.champion()
    by_labels = rules.new_labels or rules.growth
    if champion is None or not (rules.every or rules.partitions or by_labels):
        return None
    ref, judged = newest_ref(res), [d.as_of for d in res.ledger.decisions() if d.outcome in JUDGED]
    since = max([m for m in (trained_at(res.ledger.promotions()), *judged) if m], default=champion.as_of)
    if ref.as_of - since < res.config.retraining.cool_down:
        return None
    labels = new_labels(champion, ref.as_of, res) if by_labels else 0
    moments = (res.ref(key).as_of for key in res.lake.keys(Stage.VALID))
    passed = sum(since < moment <= ref.as_of for moment in moments)
    found = due_fact(ref, champion, since, labels, passed, res)
    if found and not res.ledger.has_fact(found.id):
        record_and_emit(found, res)
    return found


def follow_up(res: Resources) -> list[Fact]:
    """Forget nothing: close retrainings whose run died, try failed ones again, and send facts again that wait for a decision."""
    close_dead_retraining(res.ledger)
    for decision in res.ledger.decisions():
        again = decision.outcome == "failed" and retry_fact(
            decision, res.ledger.fact(decision.fact_id), res.config.retraining.attempts
        )
        if again and not res.ledger.has_fact(again.id):
            run_log().warning(
                "a retraining failed (%s); attempt %d is asked for", decision.detail, again.payload["attempt"]
            )
            record_and_emit(again, res)
    return resend_undecided(res)


def close_dead_retraining(ledger: Ledger) -> None:
    """Close a retraining whose flow run ended without saying how: it crashed or was killed.

    What it had already written into the ledger is its outcome.
    """
    open_one = ledger.in_flight()
    if open_one and open_one.flow_run and (seconds := ended_after(open_one.flow_run)) is not None:
        died = f"flow run {open_one.flow_run} ended without a result"
        outcome, detail, version = _came_to(open_one, ledger) or ("failed", "", "")
        why = "; ".join(part for part in (detail, died) if part)
        ledger.close_decision(open_one.fact_id, outcome, why, version, seconds)


def _came_to(decision: Decision, ledger: Ledger) -> tuple[Outcome, str, str] | None:
    """What the ledger's rows of a retraining say of it: outcome, detail and version."""
    since = decision.recorded_at
    own = [r for r in ledger.promotions() if since and r.recorded_at and r.recorded_at >= since]
    told = [(OUTCOME[r.action], r.reason, r.version) for r in own if r.as_of == decision.as_of and r.action in OUTCOME]
    return told[-1] if told else None


@dataclass
class Clock:
    """Wall seconds since it was made."""

    began: float

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self.began, 3)


class Timed(Protocol):
    """What tells how many seconds went by."""

    @property
    def seconds(self) -> float: ...


@contextmanager
def closing(decision: Decision, ledger: Ledger, watch: Timed | None = None) -> Iterator[Timed]:
    """Note on the decision how its retraining ended when the body fails, and what it cost; yields the clock that tells.

    What the body had already written into the ledger is the outcome, else it failed.
    """
    clock = watch or Clock(time.monotonic())
    try:
        yield clock
    except BaseException as error:
        outcome, detail, version = _came_to(decision, ledger) or ("failed", "", "")
        why = "; ".join(part for part in (detail, f"{type(error).__name__}: {error}") if part)
        ledger.close_decision(decision.fact_id, outcome, why, version, clock.seconds)
        raise


def close(decision: Decision, training: Training, seconds: float, ledger: Ledger) -> Decision:
    """Note on the decision what its retraining came to and cost, and what the gate said; returns it as it now stands."""
    version = training.version
    rows = [r for r in ledger.promotions() if r.version == version and r.action in OUTCOME]
    said = tuple(str(v) for v in training.decision.verdicts)
    if not rows:  # no candidate beat the baseline
        ledger.close_decision(
            decision.fact_id, "refused", "; ".join(training.decision.reasons), seconds=seconds, gate=said
        )
        return ledger.decision(decision.fact_id) or decision
    last = rows[-1]
    detail = f"version {version} is {last.to_stage}" if last.action != "refuse" else last.reason
    ledger.close_decision(decision.fact_id, OUTCOME[last.action], detail, version, seconds, said)
    return ledger.decision(decision.fact_id) or decision
