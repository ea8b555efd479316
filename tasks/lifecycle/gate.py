"""The gate: the rules that a version must pass, each with a value and a threshold. Pure functions.

A refresh of the champion must not be surely worse. A change must be surely better, or not worse by a margin.

Each rule passes, fails or could not be judged. A NaN never passes. A rule that could not be judged refuses the version, unless
model.yaml has `unjudged: pass` for it.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from configs.gate import Budgets, Rule
from configs.kinds import HIGHER_IS_BETTER
from configs.schema import ModelConfig
from tasks.contracts import Comparison, GateDecision, Query, Selection, Verdict
from tasks.lifecycle.repeated_tests import confidence_of_test
from tasks.training.evaluation import NO_CHAMPION

NAN = float("nan")
STRICT = Rule()
"""For rules that model.yaml cannot relax."""
MOST_MOVE = 2.0
"""How many times as far as the champion's refit a refit may always move: in a year of change, every refit moves far."""
POWER = 0.8
MOVE = "refit: mean move of predictions"


def verdict(
    rule: str, passed: bool | None, value: float, threshold: float, note: str = "", config: Rule = STRICT
) -> Verdict:
    """Return the verdict of a rule. If `passed` is None or `value` is NaN, the rule could not be judged."""
    if passed is None or value != value:
        return Verdict(rule, "could not be judged", config.unjudged == "pass", value, threshold, note)
    outcome: Literal["passed", "failed"] = "passed" if passed else "failed"
    return Verdict(rule, outcome, passed, value, threshold, note)


def waived(decision: GateDecision) -> GateDecision:
    """Return the decision with every rule passed. The outcomes of the rules stay."""
    return replace(decision, verdicts=tuple(replace(v, passed=True) for v in decision.verdicts))


def judge(comparison: Comparison, config: ModelConfig, against: str | None = None) -> GateDecision:
    """Return the gate's decision on a challenger, with the verdict of each rule.

    Without a champion, the rules that compare with the champion are left out.

    Args:
        comparison: Challenger and champion on the holdout.
        config: The model's config.
        against: The champion's version. Default: that of the champion's scorecard.
    """
    enough = comparison.challenger.rows >= config.gate.min_rows
    verdicts = [
        *_own_rules(comparison, config, enough),
        *_against_champion(comparison, config),
        *_fairness(comparison, config),
        *query_verdicts(comparison.query, config.gate.budgets),
    ]
    if against is None and comparison.champion:
        against = comparison.champion.version
    return GateDecision(comparison.challenger.version, against, tuple(verdicts))


def _own_rules(comparison: Comparison, config: ModelConfig, enough: bool) -> Iterator[Verdict]:
    """Rules about the challenger alone: floors, better than the prior, calibration."""
    gate, metrics, loss = config.gate, comparison.challenger.metrics, config.target.eval_loss
    note = "" if enough else f"{comparison.challenger.rows} labelled rows, gate.min_rows is {gate.min_rows}"

    def limit(name: str, within: bool | None, value: float, bound: float, rule: Rule = STRICT) -> Verdict:
        return _limit(name, within if enough else None, value, bound, comparison, note, rule)

    for name, bound in gate.floor.items():
        value = metrics.get(name, NAN)
        within = value >= bound if name in HIGHER_IS_BETTER else value <= bound
        yield limit(f"floor: {name}", within, value, bound)
    value, prior = metrics.get(loss, NAN), comparison.prior.metrics.get(loss, NAN)
    yield limit(f"better than the prior: {loss}", value < prior if prior == prior else None, value, prior)
    if rule := gate.calibration:
        error = metrics.get("calibration_error", NAN)
        yield limit("calibration error", error <= rule.at_most, error, rule.at_most, rule)


def _limit(
    name: str, within: bool | None, value: float, bound: float, comparison: Comparison, note: str, rule: Rule
) -> Verdict:
    """Return the verdict of a limit on the version itself. Where the champion breaks it too, it is relative to the champion."""
    excess = comparison.excess.get(name)
    if within is not False or excess is None or excess.lower != excess.lower:
        return verdict(name, within, value, bound, note, rule)
    text = (
        f"the champion breaks this limit too; the challenger by {excess.value:+.4g} more, at least {excess.lower:+.4g}"
    )
    return verdict(name, excess.lower <= 0, value, bound, "; ".join(part for part in (note, text) if part), rule)


def _against_champion(comparison: Comparison, config: ModelConfig) -> Iterator[Verdict]:
    """Rules that compare with the champion: the gain, and the loss of the worst segment."""
    if comparison.champion is None and comparison.impossible == NO_CHAMPION:
        return
    yield from (
        _gain_of_refresh(comparison, config) if comparison.burden == "refresh" else _gain_of_change(comparison, config)
    )
    segments = config.gate.segments
    if segments is None:
        return
    name, bound = "no segment worse off, upper bound of its gain", -segments.max_loss
    large = [s for s in comparison.segments if s.rows >= segments.min_rows and s.gain]
    if not large:
        yield verdict(name, None, NAN, bound, f"no segment of {segments.min_rows} rows", segments)
        return
    # A segment without a bound (only one block) counts as the worst, so that the rule cannot be judged.
    worst = min(large, key=lambda s: s.gain.upper if s.gain and s.gain.upper == s.gain.upper else -float("inf"))
    assert worst.gain
    note = f"worst of {len(large)}: {worst.name}, mean gain {worst.gain.value:.5f} on {worst.rows} rows"
    yield verdict(name, worst.gain.upper >= bound, worst.gain.upper, bound, note, segments)


def _gain_of_change(comparison: Comparison, config: ModelConfig) -> Iterator[Verdict]:
    """The gain of a change over the champion: surely positive, or surely above minus the margin."""
    rule = config.gate.gain
    name = f"gain over the champion ({rule.test.replace('_', '-')}), lower bound"
    gain = comparison.gain
    if gain is None:
        yield verdict(name, None, NAN, rule.min_gain, comparison.impossible, rule)
        return
    yield verdict(name, gain.lower > rule.min_gain, gain.lower, rule.min_gain, gain_note(comparison, config), rule)
    if (other := comparison.anchor_gain) is not None:
        name = f"gain over version {comparison.anchor}, since other rows were learned too, upper bound"
        yield verdict(name, other.upper >= 0, other.upper, 0, f"mean gain {other.value:.5f}", rule)


def _gain_of_refresh(comparison: Comparison, config: ModelConfig) -> Iterator[Verdict]:
    """The gain of a refresh over the champion, and over the last champion that was judged as a change: not surely negative.

    A refresh that is surely better than the champion replaces it, also if that earlier champion would be better still.
    """
    rule, gain, better = config.gate.refresh, comparison.gain, bool(comparison.gain and comparison.gain.lower > 0)
    limit = 0.0 - rule.margin  # not -0.0
    name = "gain over the champion (refresh), upper bound"
    if gain is None:
        yield verdict(name, None, NAN, limit, comparison.impossible, rule)
    else:
        yield verdict(name, gain.upper >= limit, gain.upper, limit, gain_note(comparison, config), rule)
    if (gain := comparison.anchor_gain) is not None:
        name = f"gain over version {comparison.anchor}, the last change, upper bound"
        note = f"mean gain {gain.value:.5f}" + (
            "; surely better than the champion, so it may be worse" if better else ""
        )
        passed = better or gain.upper >= limit
        yield verdict(name, passed, gain.upper, limit, note, rule)


def gain_note(comparison: Comparison, config: ModelConfig | None = None) -> str:
    """Return the mean gain, the smallest one that these blocks can show, over which version, and the number of tests.

    Args:
        config: The model's config. Without it, the note has no smallest gain.
    """
    gain = comparison.gain
    assert gain
    parts = [f"mean gain {gain.value:.5f} over {comparison.blocks} blocks"]
    least = smallest_visible(comparison, config) if config else NAN
    if least == least:
        what = "a harm" if comparison.burden == "refresh" else "a gain"
        end = "is refused" if comparison.burden == "refresh" else "passes"
        parts.append(f"{what} of {least:.4g} {end} in 4 of 5 cases with these blocks")
    if comparison.reference:
        parts.append(f"compared with {comparison.reference}")
    if comparison.differences:
        parts.append(f"a change of {', '.join(comparison.differences)}")
    if comparison.tests > 1:
        parts.append(
            f"test {comparison.tests} of this change, with all their days; the error rate is divided among the tests"
        )
    return "; ".join([*parts, *([comparison.note] if comparison.note else [])])


def smallest_visible(comparison: Comparison, config: ModelConfig) -> float:
    """Return the smallest harm of a refresh, or gain of a change, that the rule sees in 4 of 5 cases; NaN if it is unknown."""
    gain, rules = comparison.gain, config.gate
    assert gain
    if comparison.burden == "refresh":
        confidence, distance, limit = rules.refresh.confidence, gain.upper - gain.value, rules.refresh.margin
    else:
        confidence = confidence_of_test(rules.gain.confidence, comparison.tests)
        distance, limit = gain.value - gain.lower, rules.gain.min_gain
    return visible_in_most_cases(distance, confidence, limit)


def visible_in_most_cases(distance: float, confidence: float, limit: float) -> float:
    """Return the smallest mean whose bound is beyond the limit in 4 of 5 cases.

    It is the limit plus (z_c + z_.8) standard errors, which follow from the distance of the bound from the mean, z_c standard errors
    (Cohen 1988, 2.4). So it does not depend on the measured mean itself.
    """
    from scipy.special import ndtri

    return float(limit + distance * (1 + ndtri(POWER) / ndtri(confidence)))


def _fairness(comparison: Comparison, config: ModelConfig) -> Iterator[Verdict]:
    for rule, measured in zip(config.gate.fairness, comparison.fairness, strict=True):
        groups = ", ".join(f"{name} {rows}" for name, rows in measured.groups.items())
        name, within = f"fairness: {rule.metric} by {rule.column}", measured.gap <= rule.at_most
        yield _limit(name, within, measured.gap, rule.at_most, comparison, f"rows: {groups}", rule)


def refuse_all_candidates(selection: Selection, champion: str | None) -> GateDecision:
    """Return the refusal of a training in which nothing beats the prior on the validation splits."""
    prior = selection.trials[0]
    verdicts = [
        verdict(f"{trial.name} beats the prior on the validation splits", False, trial.loss, prior.loss, trial.note)
        for trial in selection.trials[1:]
    ]
    return GateDecision("", champion, tuple(verdicts))


def query_verdicts(query: Query | None, budgets: Budgets) -> Iterator[Verdict]:
    """Yield the verdicts of the smoke test: load and query, latency and size."""
    if query is None:
        yield verdict("load and query in a fresh process", None, NAN, 0, "was not run")
        return
    problems = 1.0 if query.problem else 0.0
    yield verdict(
        "load and query in a fresh process",
        not query.problem,
        problems,
        0,
        query.problem or f"{query.rows} rows of each kind",
    )
    for name, value, bound in (
        ("latency of one row, ms", query.one_row_ms, budgets.one_row_ms),
        ("latency of a thousand rows, ms", query.thousand_rows_ms, budgets.thousand_rows_ms),
        ("size, MB", query.size / 1e6 if query.size else NAN, budgets.size_mb),
    ):
        yield verdict(name, value <= bound, value, bound, config=budgets)


def judge_refit(
    query: Query, moved: float, decision: GateDecision, version: str, config: ModelConfig, last_move: float = 0.0
) -> GateDecision:
    """Return the decision on the refit of a version that passed: smoke test, budgets, and the change of its predictions.

    The refit was trained on the holdout, so its loss is not measured there. It keeps the verdicts of the judged version.

    Args:
        query: Result of the refit's smoke test.
        moved: Mean absolute difference of the predictions of refit and judged version on the holdout.
        decision: The decision on the judged version.
        version: The refit's version.
        config: The model's config.
        last_move: The same difference of the champion's refit, 0 if unknown.
    """
    rule = config.gate.refit
    most, note = rule.max_move, ""
    if MOST_MOVE * last_move > most:
        most, note = MOST_MOVE * last_move, f"{MOST_MOVE:g} times that of the champion's refit, {last_move:.4g}"
    move = verdict("mean move of predictions", moved <= most, moved, most, note, rule)
    own = _prefix_rules("refit", move, *query_verdicts(query, config.gate.budgets))
    return GateDecision(version, decision.against, (*decision.verdicts, *own))


def _prefix_rules(prefix: str, *verdicts: Verdict) -> tuple[Verdict, ...]:
    """Return the verdicts with a prefix before the names of their rules, since the same rules may apply twice."""
    return tuple(replace(v, rule=f"{prefix}: {v.rule}") for v in verdicts)


def judge_shadow(
    comparison: Comparison, partitions: int, config: ModelConfig, differing: int | None = None
) -> GateDecision:
    """Return the decision on a challenger after its shadow test on matured partitions.

    The floors apply as before, and the smoke test is repeated because the first one was weeks ago. The gain of a refresh must not be
    surely below minus `promotion.shadow.margin`. The gain of a change must be surely above it.

    Args:
        comparison: Challenger and champion on the shadow partitions.
        partitions: Number of these partitions.
        config: The model's config.
        differing: Rows for which the challenger's online prediction differs from its batch prediction. None if it answered no
            requests.
    """
    least, gain = -config.promotion.shadow.margin, comparison.gain
    enough = comparison.challenger.rows >= config.gate.min_rows
    side = "upper" if comparison.burden == "refresh" else "lower"
    name = f"gain on {partitions} matured partition{'s' if partitions > 1 else ''}, {side} bound"
    if gain is None:
        judged = verdict(name, None, NAN, least, comparison.impossible)
    elif comparison.burden == "refresh":
        judged = verdict(name, gain.upper >= least, gain.upper, least, gain_note(comparison))
    else:
        judged = verdict(name, gain.lower > least, gain.lower, least, gain_note(comparison))
    own = [*_own_rules(comparison, config, enough), *query_verdicts(comparison.query, config.gate.budgets)]
    if differing is not None:
        own.append(verdict("answers to requests that batch does not give", differing == 0, differing, 0))
    against = comparison.champion.version if comparison.champion else None
    return GateDecision(comparison.challenger.version, against, _prefix_rules("shadow", judged, *own))
