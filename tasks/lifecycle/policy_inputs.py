"""Collect what the retraining policy decides on, as of a fact's moment: labels, drift, trainings, budget, and the expected gain."""

from datetime import datetime
from typing import Any

from tasks.contracts import ExpectedGain, Fact, PartitionRef, PolicyInputs, Promotion, Record, Stage
from tasks.errors import EvergreenError
from tasks.ledger.history import trained_at, was_requested
from tasks.ledger.values import storable
from tasks.lifecycle.expected_gain import expected_gain
from tasks.lifecycle.policy import gain_text
from tasks.lifecycle.staleness import measured_staleness
from tasks.orchestration.prefect_tasks import run_log
from tasks.resources import Resources
from tasks.steps.collect import COLLECT, read_outcomes
from tasks.steps.decay import decay_at
from tasks.steps.drift_verdict import drift_verdicts
from tasks.steps.order import newest_moment, newest_ref
from tasks.steps.step import NotDue, advance, done_record

DECAY_VALUES = ("expected", "rise", "lower", "skill", "expected_skill", "skill_lower", "detected")
JUDGED = ("promoted", "staged", "refused")
"""Outcomes of a retraining that the gate has judged."""


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
        spent=tuple((d.as_of, d.seconds) for d in spent),
        gain=current_gain(fact.as_of, res),
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
    keys = [r.partition for r in records if r.data["version"] == records[-1].data["version"]][
        -(rule.of if rule else 1) :
    ]
    return tuple(bool(verdict["detected"]) for verdict in drift_verdicts(keys, res).values())


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
        verdict = drift_verdicts([drift.partition], res)[drift.partition]
        values["drift"] = {name: verdict[name] for name in ("share", "detected")} | {"partition": drift.partition}
    if estimate := _newest_record(Stage.ESTIMATES, newest, res):
        values["estimate"] = {"partition": estimate.partition, "loss": estimate.data["metrics"].get(loss)}
    if assessed := _newest_record(Stage.PERFORMANCE, [ref for ref in newest if ref.matured <= fact.as_of], res):
        rise = decay_at(res.ref(assessed.partition), res)
        values["decay"] = {"partition": assessed.partition, "loss": assessed.data["metrics"].get(loss)}
        values["decay"] |= {name: rise.get(name) for name in DECAY_VALUES}
    return values


def _newest_record(stage: Stage, refs: list[PartitionRef], res: Resources) -> Record | None:
    """Return the first record of an output among `refs`."""
    return next((record for ref in refs if (record := done_record(stage, ref, res))), None)


def last_training_of(res: Resources) -> datetime | None:
    """Return the as-of of the newest training that gave a challenger or that the gate judged."""
    judged = [d.as_of for d in res.ledger.decisions() if d.outcome in JUDGED]
    return max([m for m in (trained_at(res.ledger.promotions()), *judged) if m], default=None)


def partitions_since(since: datetime, until: datetime, res: Resources) -> int:
    """Count the partitions with a validation record, blocked ones included, that were complete after `since` and by `until`."""
    moments = (res.ref(key).complete for key in res.lake.keys(Stage.VALID))
    return sum(since < moment <= until for moment in moments)


def current_gain(as_of: datetime, res: Resources) -> ExpectedGain | None:
    """Return what a retraining is expected to gain as of a moment; None without `signals.expected_gain`, a cost, or a champion."""
    rules, champion = res.config.retraining, res.ledger.champion()
    if rules.signals.expected_gain is None or rules.cost is None or champion is None:
        return None
    since, calendar = last_training_of(res) or champion.as_of, rules.signals.expected_gain.calendar
    newest = newest_ref(res, as_of)
    older = (since - res.config.target.delay - champion.window_end) // (newest.end - newest.start)
    partitions = partitions_since(since, as_of, res)
    measured = measured_staleness(res, as_of)
    return expected_gain(measured, champion.version, partitions, rules.cost, calendar, max(older, 0))


def gain_now(res: Resources) -> str:
    """Describe what a retraining is expected to gain as of the newest partition, empty if the policy does not estimate it."""
    gain = current_gain(newest_moment(res), res) if res.lake.keys(Stage.VALID) else None
    return gain_text(gain) if gain else ""
