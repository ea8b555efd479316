"""The retraining policy: whether a fact leads to a retraining. Pure functions.

All times are as-of times and no clock is read. So a demo that processes a year in minutes, a backfill and a replay decide as
production would have decided.
"""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from configs.retraining import Budget, Retraining
from tasks.contracts import Decision, ExpectedGain, Fact, PolicyInputs
from tasks.contracts.words import counted


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
    if not rules.signals.expected_gain:
        yield from _signal_rules(fact, now, rules)
    version = fact.payload.get("champion")
    if version and now.champion and version != now.champion.version:
        yield "superseded", f"the fact is about version {version}, but version {now.champion.version} is champion now"
    yield from _superseded(fact, now)
    if rules.signals.expected_gain:
        yield from _expected_gain(fact, now, rules)
    since = last_training(now)
    if since is None:
        return
    elapsed = fact.as_of - since
    if elapsed < rules.cool_down:
        yield "cool-down", f"{days_text(elapsed)} since the last training, {days_text(rules.cool_down)} must pass"
    yield from _budget(fact.as_of, now, rules.budget)
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


def _expected_gain(fact: Fact, now: PolicyInputs, rules: Retraining) -> Iterator[tuple[str, str]]:
    """Refuse a fact while a retraining is not expected to gain what it costs. Without a cost only the calendar counts."""
    if now.gain is not None:
        if not is_worth_it(now.gain):
            yield "expected gain", gain_text(now.gain)
    elif rules.cost is None and fact.payload.get("kind", fact.kind) != "due":
        yield "does not count", "retraining.cost is not set, so the calendar of signals.expected_gain alone decides"


def is_worth_it(gain: ExpectedGain) -> bool:
    """Return whether a retraining is expected to gain what it costs."""
    return gain.value >= gain.cost


def gain_text(gain: ExpectedGain) -> str:
    """Describe an expected gain, what it follows from, and when a retraining is due."""
    if gain.measured:
        times = f"{gain.measured} partition{'s' if gain.measured > 1 else ''}"
        source = f"the champion's loss rises by {gain.rise:.4f} per partition, as measured on {times}"
    else:
        source = f"staleness is not measured yet, a rise of the loss by {gain.rise:.4f} per partition is assumed"
    text = (
        f"a retraining is expected to gain {gain.value:.4f} (95 % {gain.lower:.4f} to {gain.upper:.4f}) and costs {gain.cost:g}: {source}, "
        f"{gain.partitions} partition{'s' if gain.partitions != 1 else ''} since the last training"
    )
    if is_worth_it(gain):
        return text
    due = "none is due" if gain.interval is None else f"one is due after {ceil(gain.interval)}"
    return f"{text}; at this rise {due}"


def _signal_rules(fact: Fact, now: PolicyInputs, rules: Retraining) -> Iterator[tuple[str, str]]:
    """Refuse a kind of fact that `retraining.signals` in model.yaml does not count, or that has not occurred often enough."""
    kind, config = fact.payload.get("kind", fact.kind), rules.signals
    if kind == "drift":
        name = "target" if fact.payload.get("of") == "outcomes" else "drift"
        if not (config.target if name == "target" else config.drift):
            yield "does not count", f"retraining.signals.{name} is off"
        elif name == "drift" and config.drift and sum(now.drifted[-config.drift.of :]) < config.drift.times:
            recent, needed = now.drifted[-config.drift.of :], f"{config.drift.times} of {config.drift.of} are required"
            scored = f"{counted(len(recent), 'partition')} that this champion scored"
            yield "not often enough", f"drift in {sum(recent)} of the newest {scored}, {needed}"
    elif kind == "decay" and not config.decay:
        yield "does not count", "retraining.signals.decay is off"
    elif kind == "estimate":
        if config.estimate is None:
            yield "does not count", "retraining.signals.estimate is off"
        elif reason := fact.payload.get("not_trusted", "its past errors are unknown"):
            yield "not trusted", str(reason)


def _budget(as_of: datetime, now: PolicyInputs, budget: Budget) -> Iterator[tuple[str, str]]:
    """Refuse if the period's budget is spent, or if the retrainings of its last half, quarter and so on have used their share of it."""
    for part in _parts(budget.runs):
        allowed, span = ceil(budget.runs / part) if budget.runs else 0, budget.period / part
        runs = len(now.spent_since(as_of - span))
        if budget.runs and runs >= allowed:
            text = f"{runs} {'retraining' if runs == 1 else 'retrainings'} within {days_text(span)}, {allowed} allowed"
            yield (
                "budget",
                text if part == 1 else f"{text}: {budget.runs} in {days_text(budget.period)} are spread evenly",
            )
            return
    for part in (1, 2, 4, 8):
        if budget.seconds is None:
            return
        allowed_seconds, span = budget.seconds / part, budget.period / part
        if (seconds := sum(now.spent_since(as_of - span))) >= allowed_seconds:
            text = f"{seconds:.0f} s of training within {days_text(span)}, {allowed_seconds:.0f} s are allowed"
            yield "budget", text if part == 1 else f"{text}: the budget is spread over {days_text(budget.period)}"
            return


def _parts(runs: int | None) -> list[int]:
    """Return 1, 2, 4 ... until a part of the period allows a single retraining."""
    parts = [1] if runs else []
    while runs and ceil(runs / parts[-1]) > 1:
        parts.append(2 * parts[-1])
    return parts


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
    if now.gain is not None and fact.kind != "due":
        message = f"{message}; {gain_text(now.gain)}"
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
        "runs": len(now.spent),
        "seconds": round(sum(seconds for _, seconds in now.spent), 1),
        **({"expected_gain": _rounded(now.gain)} if now.gain else {}),
        **now.latest,
    }


def _rounded(gain: ExpectedGain) -> dict[str, Any]:
    """Return the fields with at most four significant digits, for the decision's row."""
    return {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in asdict(gain).items()}


def days_text(span: timedelta) -> str:
    """Return a duration in days, such as `45 days` or `1 day`."""
    number = f"{span / timedelta(days=1):.3g}"
    return f"{number} day" if number == "1" else f"{number} days"
