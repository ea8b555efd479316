"""The retraining policy: whether a fact leads to a retraining. Pure functions.

All times are as-of times and no clock is read. So a demo that processes a year in minutes, a backfill and a replay decide as
production would have decided.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from configs.retraining import Retraining
from tasks.contracts import Decision, Fact, PolicyInputs


def decide(fact: Fact, now: PolicyInputs, rules: Retraining) -> Decision:
    """Return the decision about one fact.

    The first rule that refuses is the decision's rule. If none refuses, the rule is the kind of the fact. For a person's request
    only the rules apply that allow one training at a time, and for its retry also the rule about a later training.
    """
    values = signals(fact, now)
    for rule, reason in refusals(fact, now, rules):
        return Decision(fact.id, fact.model, fact.as_of, "decline", rule, reason, signals=values)
    return Decision(fact.id, fact.model, fact.as_of, "retrain", fact.kind, reason_for(fact, now), signals=values)


def refusals(fact: Fact, now: PolicyInputs, rules: Retraining) -> Iterator[tuple[str, str]]:
    """Yield every rule that refuses, with its reason, in the order of precedence."""
    yield from _one_at_a_time(now)
    if fact.payload.get("kind", fact.kind) == "person":
        yield from _superseded(fact, now) if fact.kind == "retry" else ()
        return
    if not rules.enabled:
        yield "disabled", "retraining.enabled is false"
    yield from _signal_rules(fact, now, rules)
    version = fact.payload.get("champion")
    if version and now.champion and version != now.champion.version:
        yield "superseded", f"the fact is about version {version}, but version {now.champion.version} is champion now"
    since = last_training(now)
    if since is None:
        return
    yield from _superseded(fact, now)
    elapsed = fact.as_of - since
    if elapsed < rules.cool_down:
        yield "cool-down", f"{days_text(elapsed)} since the last training, {days_text(rules.cool_down)} must pass"
    yield from _budget(now, rules)
    if now.new_labels == 0 and now.champion:
        yield (
            "nothing new",
            f"no labels have matured since {now.champion.window_end:%Y-%m-%d}, where the champion's window ends",
        )


def _one_at_a_time(now: PolicyInputs) -> Iterator[tuple[str, str]]:
    if now.champion is None:
        yield "no champion", "there is no champion to replace; run `train`"
    if now.in_flight:
        yield "in flight", f"the retraining as of {now.in_flight.as_of:%Y-%m-%d} has not ended"
    if staged := now.in_shadow:
        yield "in shadow", f"version {staged.version} is in shadow mode; it must be promoted or refused first"


def _superseded(fact: Fact, now: PolicyInputs) -> Iterator[tuple[str, str]]:
    """Refuse if there was a training at or after the fact's as-of."""
    since = last_training(now)
    if since and fact.as_of <= since:
        yield "superseded", f"there was a training as of {since:%Y-%m-%d}, at or after the as-of of this fact"


def _signal_rules(fact: Fact, now: PolicyInputs, rules: Retraining) -> Iterator[tuple[str, str]]:
    """Refuse a kind of fact that `retraining.signals` in model.yaml does not count, or that has not occurred often enough."""
    kind, config = fact.payload.get("kind", fact.kind), rules.signals
    if kind == "drift":
        name = "target" if fact.payload.get("of") == "outcomes" else "drift"
        if not (config.target if name == "target" else config.drift):
            yield "does not count", f"retraining.signals.{name} is off"
        elif name == "drift" and config.drift and sum(now.drifted[-config.drift.of :]) < config.drift.times:
            count, of = sum(now.drifted[-config.drift.of :]), config.drift.of
            yield "not often enough", f"drift in {count} of the last {of} partitions, {config.drift.times} are required"
    elif kind == "decay" and not config.decay:
        yield "does not count", "retraining.signals.decay is off"
    elif kind == "estimate":
        if config.estimate is None:
            yield "does not count", "retraining.signals.estimate is off"
        elif reason := fact.payload.get("not_trusted", "its past errors are unknown"):
            yield "not trusted", str(reason)


def _budget(now: PolicyInputs, rules: Retraining) -> Iterator[tuple[str, str]]:
    budget = rules.budget
    if budget.runs is not None and now.runs >= budget.runs:
        yield (
            "budget",
            f"{now.runs} {'retraining' if now.runs == 1 else 'retrainings'} within {days_text(budget.period)}, {budget.runs} allowed",
        )
    if budget.seconds is not None and now.seconds >= budget.seconds:
        yield (
            "budget",
            f"{now.seconds:.0f} s of training within {days_text(budget.period)}, {budget.seconds:.0f} s are allowed",
        )


def last_training(now: PolicyInputs) -> datetime | None:
    """Return the as-of of the newest training that the gate judged. A rollback is not a training."""
    moments = [now.trained_at, now.last_judged.as_of if now.last_judged else None]
    return max((m for m in moments if m), default=None)


def reason_for(fact: Fact, now: PolicyInputs) -> str:
    """Return the reason text of a decision to retrain."""
    payload, since = fact.payload, last_training(now)
    message = str(payload.get("told", fact.kind))
    if fact.kind == "person":
        return f"{payload.get('by')}: {payload.get('reason')}"
    if fact.kind == "retry":
        return f"attempt {payload.get('attempt')} after {payload.get('error')}; {message}"
    return f"{message}, {days_text(fact.as_of - since)} since the last training" if since else message


def signals(fact: Fact, now: PolicyInputs) -> dict[str, Any]:
    """Return the values that the policy used, for the decision's row."""
    since = last_training(now)
    return {
        "kind": fact.kind,
        "told": fact.payload.get("told", ""),
        "drifted": list(now.drifted),
        "new_labels": now.new_labels,
        "last_training": since.isoformat() if since else None,
        "runs": now.runs,
        "seconds": round(now.seconds, 1),
        **now.latest,
    }


def days_text(span: timedelta) -> str:
    """Return a duration in days, such as `45 days` or `1 day`."""
    number = f"{span / timedelta(days=1):.3g}"
    return f"{number} day" if number == "1" else f"{number} days"
