"""The retraining policy: decides whether a fact leads to a retraining, and touches nothing.

Every moment in it is as-of time, so a demo that plays a year in minutes, a backfill and a replay decide as production would have.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from configs.retraining import Retraining
from tasks.contracts import Decision, Fact, Situation


def decide(fact: Fact, now: Situation, rules: Retraining) -> Decision:
    """The decision about one fact. The first rule that refuses decides; when none does, the fact's own kind is the rule.

    A person's wish passes every rule but those that keep one training at a time; its retry also yields to a later training.
    """
    seen = signals(fact, now)
    for rule, reason in refusals(fact, now, rules):
        return Decision(fact.id, fact.model, fact.as_of, "decline", rule, reason, signals=seen)
    return Decision(fact.id, fact.model, fact.as_of, "retrain", fact.kind, reason_for(fact, now), signals=seen)


def refusals(fact: Fact, now: Situation, rules: Retraining) -> Iterator[tuple[str, str]]:
    """Every rule that refuses, with its reason, in the order in which they decide."""
    yield from _one_at_a_time(now)
    if fact.payload.get("kind", fact.kind) == "person":
        yield from _overtaken(fact, now) if fact.kind == "retry" else ()
        return
    if not rules.enabled:
        yield "disabled", "retraining.enabled is false"
    yield from _counts(fact, now, rules)
    about = fact.payload.get("champion")
    if about and now.champion and about != now.champion.version:
        yield "superseded", f"it was seen of version {about}, and version {now.champion.version} is champion now"
    since = last_training(now)
    if since is None:
        return
    yield from _overtaken(fact, now)
    passed = fact.as_of - since
    if passed < rules.cool_down:
        yield "cool-down", f"{days(passed)} since the last training, {days(rules.cool_down)} must pass"
    yield from _budget(now, rules)
    if now.new_labels == 0 and now.champion:
        yield (
            "nothing new",
            f"no labels have matured since {now.champion.window_end:%Y-%m-%d}, where the champion's window ends",
        )


def _one_at_a_time(now: Situation) -> Iterator[tuple[str, str]]:
    if now.champion is None:
        yield "no champion", "there is no champion to replace; run `train`"
    if now.in_flight:
        yield "in flight", f"the retraining as of {now.in_flight.as_of:%Y-%m-%d} has not ended"
    if staged := now.in_shadow:
        yield "in shadow", f"version {staged.version} scores in the champion's shadow; it is promoted or refused first"


def _overtaken(fact: Fact, now: Situation) -> Iterator[tuple[str, str]]:
    """Whether a training has come after what a fact saw."""
    since = last_training(now)
    if since and fact.as_of <= since:
        yield "superseded", f"a training as of {since:%Y-%m-%d} came after what this fact saw"


def _counts(fact: Fact, now: Situation, rules: Retraining) -> Iterator[tuple[str, str]]:
    """Whether this kind of fact counts by model.yaml, and there is enough of it."""
    kind, wanted = fact.payload.get("kind", fact.kind), rules.signals
    if kind == "drift":
        name = "target" if fact.payload.get("of") == "outcomes" else "drift"
        if not (wanted.target if name == "target" else wanted.drift):
            yield "does not count", f"retraining.signals.{name} is off"
        elif name == "drift" and wanted.drift and sum(now.drifted[-wanted.drift.of :]) < wanted.drift.times:
            found, of = sum(now.drifted[-wanted.drift.of :]), wanted.drift.of
            yield "not often enough", f"drift in {found} of the last {of} partitions, {wanted.drift.times} are needed"
    elif kind == "decay" and not wanted.decay:
        yield "does not count", "retraining.signals.decay is off"
    elif kind == "estimate":
        if wanted.estimate is None:
            yield "does not count", "retraining.signals.estimate is off"
        elif why := fact.payload.get("not_trusted", "nothing is known of its past errors"):
            yield "not trusted", str(why)


def _budget(now: Situation, rules: Retraining) -> Iterator[tuple[str, str]]:
    budget = rules.budget
    if budget.runs is not None and now.runs >= budget.runs:
        yield "budget", f"{now.runs} retrainings within {days(budget.period)}, {budget.runs} are allowed"
    if budget.seconds is not None and now.seconds >= budget.seconds:
        yield (
            "budget",
            f"{now.seconds:.0f} s of training within {days(budget.period)}, {budget.seconds:.0f} s are allowed",
        )


def last_training(now: Situation) -> datetime | None:
    """As-of of the newest training that ended with a verdict of the gate; a return to an earlier champion is none."""
    moments = [now.trained, now.last.as_of if now.last else None]
    return max((m for m in moments if m), default=None)


def reason_for(fact: Fact, now: Situation) -> str:
    """Why a fact leads to a retraining, in words."""
    payload, since = fact.payload, last_training(now)
    told = str(payload.get("told", fact.kind))
    if fact.kind == "person":
        return f"{payload.get('by')}: {payload.get('reason')}"
    if fact.kind == "retry":
        return f"attempt {payload.get('attempt')} after {payload.get('error')}; {told}"
    return f"{told}, {days(fact.as_of - since)} since the last training" if since else told


def signals(fact: Fact, now: Situation) -> dict[str, Any]:
    """What the policy saw, for the decision's row."""
    since = last_training(now)
    return {
        "kind": fact.kind,
        "told": fact.payload.get("told", ""),
        "drifted": list(now.drifted),
        "new_labels": now.new_labels,
        "last_training": since.isoformat() if since else None,
        "runs": now.runs,
        "seconds": round(now.seconds, 1),
        **now.seen,
    }


def days(span: timedelta) -> str:
    return f"{span / timedelta(days=1):.3g} days"
