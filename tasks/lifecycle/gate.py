"""The gate: the rules that a version must pass, each with a value and a threshold. Pure functions.

Each rule passes, fails or could not be judged. A NaN never passes. A rule that could not be judged refuses the version, unless
model.yaml has `unjudged: pass` for it.
"""

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any, Literal

from configs.gate import Budgets, Rule
from configs.kinds import HIGHER_IS_BETTER
from configs.schema import ModelConfig
from tasks.contracts import BASELINE, Comparison, GateDecision, Query, Selection, Verdict
from tasks.models.metrics import finite
from tasks.training.evaluation import NO_CHAMPION

NAN = float("nan")
STRICT = Rule()
"""For rules that model.yaml cannot relax."""


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


def judge(comparison: Comparison, config: ModelConfig, n_tests: int = 1) -> GateDecision:
    """Return the gate's decision on a challenger, with the verdict of each rule.

    Without a champion, the rules that compare with the champion are left out.

    Args:
        comparison: Challenger and champion on the holdout.
        config: The model's config.
        n_tests: Number of tests against the same champion, this one included.
    """
    enough = comparison.challenger.rows >= config.gate.min_rows
    verdicts = [
        *_own_rules(comparison, config, enough),
        *_against_champion(comparison, config, n_tests),
        *_fairness(comparison, config),
        *query_verdicts(comparison.query, config.gate.budgets),
    ]
    against = comparison.champion.version if comparison.champion else None
    return GateDecision(comparison.challenger.version, against, tuple(verdicts))


def _own_rules(comparison: Comparison, config: ModelConfig, enough: bool) -> Iterator[Verdict]:
    """Rules about the challenger alone: floors, better than the prior, calibration."""
    gate, metrics, loss = config.gate, comparison.challenger.metrics, config.target.eval_loss
    note = "" if enough else f"{comparison.challenger.rows} labelled rows, gate.min_rows is {gate.min_rows}"
    for name, bound in gate.floor.items():
        value = metrics.get(name, NAN)
        within = value >= bound if name in HIGHER_IS_BETTER else value <= bound
        yield verdict(f"floor: {name}", within if enough else None, value, bound, note)
    value, prior = metrics.get(loss, NAN), comparison.prior.metrics.get(loss, NAN)
    yield verdict(
        f"better than the prior: {loss}", value < prior if enough and prior == prior else None, value, prior, note
    )
    if rule := gate.calibration:
        error = metrics.get("calibration_error", NAN)
        yield verdict("calibration error", error <= rule.at_most if enough else None, error, rule.at_most, note, rule)


def _against_champion(comparison: Comparison, config: ModelConfig, n_tests: int) -> Iterator[Verdict]:
    """Rules that compare with the champion: the gain, and the loss of the worst segment."""
    if comparison.champion is None and comparison.impossible == NO_CHAMPION:
        return
    rule = config.gate.gain
    name = f"gain over the champion ({rule.test.replace('_', '-')}), lower bound"
    if comparison.gain is None:
        yield verdict(name, None, NAN, rule.min_gain, comparison.impossible, rule)
    else:
        lower = comparison.gain.lower
        yield verdict(
            name, lower > rule.min_gain, lower, rule.min_gain, _gain_note(comparison, rule.confidence, n_tests), rule
        )
    segments = config.gate.segments
    if segments is None:
        return
    large = [s for s in comparison.segments if s.rows >= segments.min_rows and s.gain]
    if not large:
        note = f"no segment of {segments.min_rows} rows"
        yield verdict("no segment worse off, upper bound of its gain", None, NAN, -segments.max_loss, note, segments)
        return
    # A segment without a bound (only one block) counts as the worst, so that the rule cannot be judged.
    worst = min(large, key=lambda s: s.gain.upper if s.gain and s.gain.upper == s.gain.upper else -float("inf"))
    assert worst.gain
    note = f"worst of {len(large)}: {worst.name}, mean gain {worst.gain.value:.5f} on {worst.rows} rows"
    upper = worst.gain.upper
    yield verdict(
        "no segment worse off, upper bound of its gain",
        upper >= -segments.max_loss,
        upper,
        -segments.max_loss,
        note,
        segments,
    )


def _gain_note(comparison: Comparison, confidence: float, n_tests: int) -> str:
    """Return the mean gain, and after several tests the probability of at least one false positive."""
    assert comparison.gain
    parts = [f"mean gain {comparison.gain.value:.5f} over {comparison.blocks} blocks", comparison.note]
    if n_tests > 1:
        parts.append(
            f"test {n_tests} against this champion: an equally good challenger passes at least one of them "
            f"with probability {1 - confidence**n_tests:.0%}"
        )
    return "; ".join(part for part in parts if part)


def _fairness(comparison: Comparison, config: ModelConfig) -> Iterator[Verdict]:
    for rule, measured in zip(config.gate.fairness, comparison.fairness, strict=True):
        groups = ", ".join(f"{name} {rows}" for name, rows in measured.groups.items())
        yield verdict(
            f"fairness: {rule.metric} by {rule.column}",
            measured.gap <= rule.at_most,
            measured.gap,
            rule.at_most,
            f"rows: {groups}",
            rule,
        )


def refuse_all_candidates(selection: Selection, champion: str | None) -> GateDecision:
    """Return the refusal of a training in which no candidate beats the baseline on the validation splits."""
    trials = {trial.name: trial for trial in selection.trials}
    threshold = min(trial.loss for trial in selection.trials if trial.name.startswith(BASELINE))
    verdicts = [
        verdict(f"{name} beats the baseline on the validation splits", False, trial.loss, threshold, trial.note)
        for name, trial in trials.items()
        if not trial.name.startswith(BASELINE)
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


def judge_refit(query: Query, moved: float, decision: GateDecision, version: str, config: ModelConfig) -> GateDecision:
    """Return the decision on the refit of a version that passed: smoke test, budgets, and the change of its predictions.

    The refit was trained on the holdout, so its loss is not measured there. It keeps the verdicts of the judged version.

    Args:
        query: Result of the refit's smoke test.
        moved: Mean absolute difference of the predictions of refit and judged version on the holdout.
        decision: The decision on the judged version.
        version: The refit's version.
        config: The model's config.
    """
    rule = config.gate.refit
    bound = verdict("mean move of predictions", moved <= rule.max_move, moved, rule.max_move, config=rule)
    own = _prefix_rules("refit", bound, *query_verdicts(query, config.gate.budgets))
    return GateDecision(version, decision.against, (*decision.verdicts, *own))


def _prefix_rules(prefix: str, *verdicts: Verdict) -> tuple[Verdict, ...]:
    """Return the verdicts with a prefix before the names of their rules, since the same rules may apply twice."""
    return tuple(replace(v, rule=f"{prefix}: {v.rule}") for v in verdicts)


def judge_shadow(
    comparison: Comparison, partitions: int, config: ModelConfig, n_tests: int = 1, differing: int | None = None
) -> GateDecision:
    """Return the decision on a challenger after its shadow test on matured partitions.

    The floors apply as before, the lower bound of the gain must be above minus `promotion.shadow.margin`, and the smoke test is
    repeated because the first one was weeks ago.

    Args:
        comparison: Challenger and champion on the shadow partitions.
        partitions: Number of these partitions.
        config: The model's config.
        n_tests: Number of tests against the same champion, this one included.
        differing: Rows for which the challenger's online prediction differs from its batch prediction. None if it answered no
            requests.
    """
    rule, least = config.gate.gain, -config.promotion.shadow.margin
    enough = comparison.challenger.rows >= config.gate.min_rows
    name = f"gain on {partitions} matured partition{'s' if partitions > 1 else ''}, lower bound"
    if comparison.gain is None:
        gain = verdict(name, None, NAN, least, comparison.impossible)
    else:
        lower = comparison.gain.lower
        gain = verdict(name, lower > least, lower, least, _gain_note(comparison, rule.confidence, n_tests))
    own = [*_own_rules(comparison, config, enough), *query_verdicts(comparison.query, config.gate.budgets)]
    if differing is not None:
        own.append(verdict("answers to requests that batch does not give", differing == 0, differing, 0))
    against = comparison.champion.version if comparison.champion else None
    return GateDecision(comparison.challenger.version, against, _prefix_rules("shadow", gain, *own))


def decision_evidence(decision: GateDecision, comparison: Comparison) -> dict[str, Any]:
    """Return the evidence of a decision for the ledger: JSON values, with null for NaN."""
    cards = [c for c in (comparison.challenger, comparison.champion, comparison.prior) if c]
    verdicts = [asdict(v) | finite({"value": v.value, "threshold": v.threshold}) for v in decision.verdicts]
    gain = comparison.gain
    return {
        "judged": comparison.challenger.version,
        "against": decision.against,
        "passed": decision.passed,
        "verdicts": verdicts,
        "rows": [comparison.start.isoformat(), comparison.end.isoformat()],
        "blocks": comparison.blocks,
        "gain": finite({"mean": gain.value, "lower": gain.lower, "upper": gain.upper}) if gain else None,
        "scorecards": {
            c.version: {"rows": c.rows, "metrics": finite(c.metrics)}
            | {"intervals": {k: list(finite({"l": i.lower, "u": i.upper}).values()) for k, i in c.intervals.items()}}
            for c in cards
        },
        "note": comparison.note or comparison.impossible,
    }
