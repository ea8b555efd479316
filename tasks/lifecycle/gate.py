"""The gate: every rule that a version must pass, each with its number and its threshold. Decides, and touches nothing.

Each rule passes, fails, or could not be judged. Doubt fails: NaN is never passed, and what could not be
judged only lets through where model.yaml says `unjudged: pass`.
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
"""Rules that model.yaml cannot soften."""


def verdict(
    rule: str, passed: bool | None, value: float, threshold: float, note: str = "", config: Rule = STRICT
) -> Verdict:
    """A rule's verdict; `passed` is None, or `value` NaN, where it could not be judged."""
    if passed is None or value != value:
        return Verdict(rule, "could not be judged", config.unjudged == "pass", value, threshold, note)
    outcome: Literal["passed", "failed"] = "passed" if passed else "failed"
    return Verdict(rule, outcome, passed, value, threshold, note)


def judge(comparison: Comparison, config: ModelConfig, looks: int = 1) -> GateDecision:
    """Return the gate's decision on a challenger, rule by rule.

    Without a champion there is no gain to show, and the challenger must only hold the rules about
    itself. `looks` counts this judgement among those against the same champion.
    """
    enough = comparison.challenger.rows >= config.gate.min_rows
    verdicts = [
        *_about_itself(comparison, config, enough),
        *_against_champion(comparison, config, looks),
        *_fairness(comparison, config),
        *query_verdicts(comparison.query, config.gate.budgets),
    ]
    against = comparison.champion.version if comparison.champion else None
    return GateDecision(comparison.challenger.version, against, tuple(verdicts))


def _about_itself(comparison: Comparison, config: ModelConfig, enough: bool) -> Iterator[Verdict]:
    """Floors, better than the prior, calibration."""
    gate, metrics, loss = config.gate, comparison.challenger.metrics, config.target.judged_by
    note = "" if enough else f"{comparison.challenger.rows} labelled rows, gate.min_rows is {gate.min_rows}"
    for name, bound in gate.floor.items():
        value = metrics.get(name, NAN)
        held = value >= bound if name in HIGHER_IS_BETTER else value <= bound
        yield verdict(f"floor: {name}", held if enough else None, value, bound, note)
    value, prior = metrics.get(loss, NAN), comparison.prior.metrics.get(loss, NAN)
    yield verdict(
        f"better than the prior: {loss}", value < prior if enough and prior == prior else None, value, prior, note
    )
    if rule := gate.calibration:
        error = metrics.get("calibration_error", NAN)
        yield verdict("calibration error", error <= rule.at_most if enough else None, error, rule.at_most, note, rule)


def _against_champion(comparison: Comparison, config: ModelConfig, looks: int) -> Iterator[Verdict]:
    """The gain over the champion, and no segment that pays for it."""
    if comparison.champion is None and comparison.impossible == NO_CHAMPION:
        return
    rule = config.gate.gain
    name = f"gain over the champion ({rule.test.replace('_', '-')}), lower bound"
    if comparison.gain is None:
        yield verdict(name, None, NAN, rule.least, comparison.impossible, rule)
    else:
        lower = comparison.gain.lower
        yield verdict(name, lower > rule.least, lower, rule.least, _gain_note(comparison, rule.confidence, looks), rule)
    segments = config.gate.segments
    if segments is None:
        return
    large = [s for s in comparison.segments if s.rows >= segments.min_rows and s.gain]
    if not large:
        why = f"no segment of {segments.min_rows} rows"
        yield verdict("no segment worse off, upper bound of its gain", None, NAN, -segments.max_loss, why, segments)
        return
    # A segment without a bound (one block) is the worst of all: doubt fails.
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


def _gain_note(comparison: Comparison, confidence: float, looks: int) -> str:
    """The mean, and how often an equal challenger would have come through by now."""
    assert comparison.gain
    parts = [f"mean gain {comparison.gain.value:.5f} over {comparison.blocks} blocks", comparison.note]
    if looks > 1:
        chance = 1 - confidence**looks
        parts.append(
            f"look {looks} against this champion: an equal challenger passes one of them with chance {chance:.0%}"
        )
    return "; ".join(part for part in parts if part)


def _fairness(comparison: Comparison, config: ModelConfig) -> Iterator[Verdict]:
    for rule, found in zip(config.gate.fairness, comparison.fairness, strict=True):
        groups = ", ".join(f"{name} {rows}" for name, rows in found.groups.items())
        yield verdict(
            f"fairness: {rule.metric} by {rule.column}",
            found.gap <= rule.at_most,
            found.gap,
            rule.at_most,
            f"rows: {groups}",
            rule,
        )


def judge_nothing(selection: Selection, champion: str | None) -> GateDecision:
    """The decision where no candidate beats the baseline on the validation splits."""
    best = {trial.name: trial for trial in selection.trials}
    verdicts = [
        verdict(f"{name} beats the baseline on the validation splits", False, trial.loss, _least(selection), trial.note)
        for name, trial in best.items()
        if not trial.name.startswith(BASELINE)
    ]
    return GateDecision("", champion, tuple(verdicts))


def _least(selection: Selection) -> float:
    return min(trial.loss for trial in selection.trials if trial.name.startswith(BASELINE))


def query_verdicts(query: Query | None, budgets: Budgets) -> Iterator[Verdict]:
    """Load-and-query, and the budgets it measured."""
    if query is None:
        yield verdict("load and query in a fresh process", None, NAN, 0, "was not asked")
        return
    problems = 1.0 if query.problem else 0.0
    yield verdict(
        "load and query in a fresh process",
        not query.problem,
        problems,
        0,
        query.problem or f"{query.rows} rows of each sort",
    )
    for name, value, bound in (
        ("latency of one row, ms", query.one_row_ms, budgets.one_row_ms),
        ("latency of a thousand rows, ms", query.thousand_rows_ms, budgets.thousand_rows_ms),
        ("size, MB", query.size / 1e6 if query.size else NAN, budgets.size_mb),
    ):
        yield verdict(name, value <= bound, value, bound, config=budgets)


def judge_refit(query: Query, moved: float, decision: GateDecision, version: str, config: ModelConfig) -> GateDecision:
    """The refit of a version that passed: it must load and answer, keep the budgets, and not predict something else.

    It has learned from the holdout, so it is not measured there again; the judged version's verdicts stand for it.
    """
    rule = config.gate.refit
    bound = verdict("mean move of predictions", moved <= rule.max_move, moved, rule.max_move, config=rule)
    own = _named("refit", bound, *query_verdicts(query, config.gate.budgets))
    return GateDecision(version, decision.against, (*decision.verdicts, *own))


def _named(part: str, *verdicts: Verdict) -> tuple[Verdict, ...]:
    """Verdicts of one part of the judgement, told apart from the same rules in another."""
    return tuple(replace(v, rule=f"{part}: {v.rule}") for v in verdicts)


def judge_shadow(
    comparison: Comparison, partitions: int, config: ModelConfig, looks: int = 1, differing: int | None = None
) -> GateDecision:
    """Whether a challenger holds up on matured partitions that it scored beside the champion.

    It must hold its floors there, the lower bound of its gain must be above minus `promotion.shadow.margin`,
    and a fresh process must still load it and answer: weeks have gone by since it was asked. Where serving let it answer
    requests, it must have said what it says in batch: `differing` are the rows about which it did not.
    """
    rule, least = config.gate.gain, -config.promotion.shadow.margin
    enough = comparison.challenger.rows >= config.gate.min_rows
    name = f"gain on {partitions} matured partition{'s' if partitions > 1 else ''}, lower bound"
    if comparison.gain is None:
        shown = verdict(name, None, NAN, least, comparison.impossible)
    else:
        lower = comparison.gain.lower
        shown = verdict(name, lower > least, lower, least, _gain_note(comparison, rule.confidence, looks))
    own = [*_about_itself(comparison, config, enough), *query_verdicts(comparison.query, config.gate.budgets)]
    if differing is not None:
        own.append(verdict("answers to requests that batch does not give", differing == 0, differing, 0))
    against = comparison.champion.version if comparison.champion else None
    return GateDecision(comparison.challenger.version, against, _named("shadow", shown, *own))


def evidence(decision: GateDecision, comparison: Comparison) -> dict[str, Any]:
    """What the ledger keeps of a judgement: numbers and thresholds, NaN as null."""
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
