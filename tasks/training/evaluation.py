"""Challenger and champion on the same rows: scorecards, the gain with its uncertainty, segments, fairness, and the fresh process."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.gate import Fairness as FairnessRule
from configs.schema import ModelConfig
from tasks.contracts import Comparison, Fairness, Promotion, Query, Scorecard, Segment, Version, Window
from tasks.models.bootstrap import paired_gain
from tasks.models.features import predict
from tasks.models.metrics import intervals, measure, row_loss
from tasks.models.targets import outcomes, predict_prior
from tasks.orchestration.prefect_tasks import as_task, run_log
from tasks.resources import Resources
from tasks.storage.blocks import labelled_blocks
from tasks.training.window import learning_inputs, read_rows

if TYPE_CHECKING:
    import pandas as pd

NO_CHAMPION = "there is no champion yet"


def judged_from(challenger: Version, champion: Promotion | None, window: Window) -> tuple[datetime, str]:
    """Where the rows begin that neither has learned from, and what a reader must know of it."""
    seen = {f"version {v.version}": v.window_end for v in (challenger, champion) if v}
    start = max([window.holdout_start, *seen.values()])
    if start == window.holdout_start:
        return start, ""
    late = [name for name, end in seen.items() if end == start]
    return start, (
        f"{late[0]} learned from rows up to {start:%Y-%m-%d}, so the holdout from {window.holdout_start:%Y-%m-%d} counts only from there"
    )


def judged_rows(window: Window, start: datetime, res: Resources) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """The labelled rows of the holdout, and of those the ones from `start` on; there may be none."""
    holdout = read_rows(res, window, window.holdout_start, window.end)
    return holdout, holdout[holdout[res.config.time] >= start].reset_index(drop=True)


def compare(
    challenger: Version,
    champion: Promotion | None,
    rows: "pd.DataFrame",
    span: tuple[datetime, datetime],
    res: Resources,
    note: str = "",
) -> Comparison:
    """Measure both on the labelled rows of `span`, which neither has learned from, and the prior beside them.

    Raises:
        UnknownVersion: MLflow no longer has one of the two, and there is no local copy.
    """
    config, gate = res.config, res.config.gate
    outcome, blocks = outcomes(rows, config.target), labelled_blocks(rows, config)
    count = len(np.unique(blocks))
    mine = predict(res.load(challenger.version), rows, config)
    base = predict_prior(challenger.prior, len(rows), config.target)
    theirs = predict(res.load(champion.version), rows, config) if champion else None
    cards = {
        name: _scorecard(name, outcome, said, blocks, config)
        for name, said in ((challenger.version, mine), ("prior", base))
    }
    other = _scorecard(champion.version, outcome, theirs, blocks, config) if champion and theirs is not None else None
    gain, impossible = None, ""
    if theirs is None:
        impossible = NO_CHAMPION
    elif len(rows) < gate.min_rows:
        impossible = f"{len(rows)} labelled rows, gate.min_rows is {gate.min_rows}"
    elif count < gate.gain.min_blocks:
        impossible = f"{count} blocks of labelled rows, gate.gain.min_blocks is {gate.gain.min_blocks}"
    if note and impossible and theirs is not None:
        impossible = f"{impossible}; {note}"
    losses = (
        row_loss(outcome, mine, config.target),
        None if theirs is None else row_loss(outcome, theirs, config.target),
    )
    if not impossible and losses[1] is not None:
        gain = paired_gain(
            losses[1], losses[0], blocks, gate.gain.confidence, gate.gain.resamples, config.training.seed
        )
    return Comparison(
        challenger=cards[challenger.version],
        champion=other,
        prior=cards["prior"],
        gain=gain,
        blocks=count,
        start=span[0],
        end=span[1],
        impossible=impossible,
        note=note,
        segments=tuple(measure_segments(rows, losses[0], losses[1], blocks, config)),
        fairness=tuple(measure_gap(rule, rows, outcome, mine, config) for rule in gate.fairness),
        query=query(challenger, rows, mine, res),
    )


def _scorecard(
    version: str, outcome: np.ndarray, prediction: np.ndarray, blocks: np.ndarray, config: ModelConfig
) -> Scorecard:
    bounds = intervals(outcome, prediction, blocks, config.target, config.gate.gain.resamples, config.training.seed)
    return Scorecard(version, len(outcome), measure(outcome, prediction, config.target), bounds)


def measure_segments(
    rows: "pd.DataFrame", mine: np.ndarray, theirs: np.ndarray | None, blocks: np.ndarray, config: ModelConfig
) -> list[Segment]:
    """Both losses on every value of the declared columns, null as a value of its own, the largest first."""
    found, rules = [], config.gate.segments
    for column in rules.columns if rules else ():
        values = rows[column].astype(object).where(rows[column].notna(), "(null)")
        for value in values.value_counts().index:
            at = (values == value).to_numpy()
            gain = None
            if theirs is not None:
                settings = config.gate.gain.confidence, config.gate.gain.resamples, config.training.seed
                gain = paired_gain(theirs[at], mine[at], blocks[at], *settings)
            loss = None if theirs is None else float(theirs[at].mean())
            found.append(Segment(column, str(value), int(at.sum()), float(mine[at].mean()), loss, gain))
    return found


def measure_gap(
    rule: FairnessRule, rows: "pd.DataFrame", outcome: np.ndarray, prediction: np.ndarray, config: ModelConfig
) -> Fairness:
    """The gap between the groups of a column, by fairlearn; NaN where a group has fewer rows than the rule asks for.

    Differences are between the largest and the smallest value of any group (fairlearn's `method="between_groups"`).
    """
    groups = rows[rule.column].astype(object).where(rows[rule.column].notna(), "(null)")
    sizes: Mapping[str, int] = {str(k): int(v) for k, v in groups.value_counts().sort_index().items()}
    if len(sizes) < 2 or min(sizes.values()) < rule.min_rows:
        return Fairness(rule.column, rule.metric, float("nan"), sizes)
    return Fairness(rule.column, rule.metric, _gap(rule, groups, outcome, prediction, config), sizes)


def _gap(
    rule: FairnessRule, groups: "pd.Series", outcome: np.ndarray, prediction: np.ndarray, config: ModelConfig
) -> float:
    from fairlearn import metrics
    from sklearn.metrics import accuracy_score, mean_absolute_error

    if rule.metric == "mean_error_difference":
        frame = metrics.MetricFrame(
            metrics=mean_absolute_error, y_true=outcome, y_pred=prediction, sensitive_features=groups
        )
        return float(frame.difference())
    binary = config.target.kind == "binary"
    said = (prediction >= rule.threshold).astype(int) if binary else prediction.argmax(axis=1)
    if rule.metric == "accuracy_difference":
        frame = metrics.MetricFrame(metrics=accuracy_score, y_true=outcome, y_pred=said, sensitive_features=groups)
        return float(frame.difference())
    return float(getattr(metrics, rule.metric)(outcome, said, sensitive_features=groups))


def query(version: Version, rows: "pd.DataFrame", expected: np.ndarray, res: Resources) -> Query:
    """The load-and-query check of a registered version, its files fetched from MLflow."""
    if rows.empty:
        return Query("there are no rows to ask about", float("nan"), float("nan"), 0, float("nan"), 0)
    return res.registry.query(version.version, res.config, rows, expected)


def mean_move(judged: Version, final: Version, rows: "pd.DataFrame", res: Resources) -> float:
    """How far a refit's predictions are from the judged version's: the mean absolute difference on some rows.

    Of probabilities for classes, of all classes for several; in standard deviations of the outcome for regression.
    """
    config = res.config
    before, after = (predict(res.load(v.version), rows, config) for v in (judged, final))
    moved = float(np.abs(after - before).mean()) if len(rows) else float("nan")
    if config.target.kind != "regression":
        return moved
    spread = float(outcomes(rows, config.target).std())
    return moved / spread if spread > 0 else float("nan")


def _compare_on_holdout(challenger: Version, champion: Promotion | None, window: Window, res: Resources) -> Comparison:
    start, note = judged_from(challenger, champion, window)
    holdout, rows = judged_rows(window, start, res)
    comparison = compare(challenger, champion, rows, (start, window.end), res, note)
    if rows.empty:  # nothing to compare on, but whether it loads and answers can still be said
        said = predict(res.load(challenger.version), holdout, res.config)
        comparison = replace(comparison, query=query(challenger, holdout, said, res))
    return comparison


@as_task("compare v{challenger.version} with the champion")
def compare_versions(challenger: Version, champion: Promotion | None, window: Window, res: Resources) -> Comparison:
    """Run the comparison on the holdout, and leave the scorecards in the run log."""

    def made_of() -> list[Any]:
        other = [champion.version, champion.window_end.isoformat()] if champion else []
        return ["compare", challenger.version, challenger.digest, other, *learning_inputs(window, res)]

    comparison: Comparison = res.once(
        Comparison, made_of, lambda: _compare_on_holdout(challenger, champion, window, res)
    )
    log = run_log()
    for card in (comparison.challenger, comparison.champion, comparison.prior):
        if card:
            shown = {k: round(v, 4) for k, v in card.metrics.items()}
            log.info("%s on %d holdout rows: %s", card.version, card.rows, shown)
    return comparison
