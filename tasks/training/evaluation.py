"""Compare challenger and champion on the same rows: metrics, gain with confidence bounds, segments, fairness, and the smoke test."""

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
from tasks.storage.personal import hide_categories
from tasks.training.window import read_rows, training_inputs

if TYPE_CHECKING:
    import pandas as pd

NO_CHAMPION = "there is no champion yet"


def evaluation_start(challenger: Version, champion: Promotion | None, window: Window) -> tuple[datetime, str]:
    """Find the start of the holdout rows on which neither version was trained.

    Returns:
        The start, and a note if it is later than the holdout's start, else "".
    """
    window_ends = {f"version {v.version}": v.window_end for v in (challenger, champion) if v}
    start = max([window.holdout_start, *window_ends.values()])
    if start == window.holdout_start:
        return start, ""
    latest = [name for name, end in window_ends.items() if end == start]
    return start, (
        f"{latest[0]} was trained on rows up to {start:%Y-%m-%d}, so rows of the holdout from {window.holdout_start:%Y-%m-%d} on are "
        f"used only from {start:%Y-%m-%d} on"
    )


def evaluation_rows(window: Window, start: datetime, res: Resources) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """Read the labelled rows of the holdout.

    Returns:
        All of them, and those from `start` on, which may be none.
    """
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
    """Measure challenger, champion and prior on labelled rows on which neither version was trained.

    Args:
        rows: The labelled rows of `span`.
        span: Start (inclusive) and end (exclusive).
        note: A restriction of the rows, for the reader of the comparison.

    Raises:
        UnknownVersion: MLflow no longer has one of the two versions, and there is no local copy.
    """
    config, gate = res.config, res.config.gate
    outcome, blocks = outcomes(rows, config.target), labelled_blocks(rows, config)
    count = len(np.unique(blocks))
    challenger_prediction = predict(res.load(challenger.version), rows, config)
    prior_prediction = predict_prior(challenger.prior, len(rows), config.target)
    challenger_loss = row_loss(outcome, challenger_prediction, config.target)
    champion_card, champion_loss = None, None
    if champion:
        champion_prediction = predict(res.load(champion.version), rows, config)
        champion_card = _scorecard(champion.version, outcome, champion_prediction, blocks, config)
        champion_loss = row_loss(outcome, champion_prediction, config.target)
    gain, impossible = None, ""
    if champion_loss is None:
        impossible = NO_CHAMPION
    elif len(rows) < gate.min_rows:
        impossible = f"{len(rows)} labelled rows, gate.min_rows is {gate.min_rows}"
    elif count < gate.gain.min_blocks:
        impossible = f"{count} blocks of labelled rows, gate.gain.min_blocks is {gate.gain.min_blocks}"
    if note and impossible and champion_loss is not None:
        impossible = f"{impossible}; {note}"
    if not impossible and champion_loss is not None:
        settings = gate.gain.confidence, gate.gain.resamples, config.training.seed
        gain = paired_gain(champion_loss, challenger_loss, blocks, *settings)
    return Comparison(
        challenger=_scorecard(challenger.version, outcome, challenger_prediction, blocks, config),
        champion=champion_card,
        prior=_scorecard("prior", outcome, prior_prediction, blocks, config),
        gain=gain,
        blocks=count,
        start=span[0],
        end=span[1],
        impossible=impossible,
        note=note,
        segments=tuple(measure_segments(rows, challenger_loss, champion_loss, blocks, config)),
        fairness=tuple(measure_gap(rule, rows, outcome, challenger_prediction, config) for rule in gate.fairness),
        query=query(challenger, rows, challenger_prediction, res),
    )


def _scorecard(
    version: str, outcome: np.ndarray, prediction: np.ndarray, blocks: np.ndarray, config: ModelConfig
) -> Scorecard:
    bounds = intervals(outcome, prediction, blocks, config.target, config.gate.gain.resamples, config.training.seed)
    return Scorecard(version, len(outcome), measure(outcome, prediction, config.target), bounds)


def measure_segments(
    rows: "pd.DataFrame",
    challenger_loss: np.ndarray,
    champion_loss: np.ndarray | None,
    blocks: np.ndarray,
    config: ModelConfig,
) -> list[Segment]:
    """Measure the mean losses of both versions on each value of the columns in `gate.segments`.

    Null counts as a value. Within a column, the value with most rows is first.
    """
    segments, rules = [], config.gate.segments
    rows = hide_categories(config, rows)
    for column in rules.columns if rules else ():
        values = rows[column].astype(object).where(rows[column].notna(), "(null)")
        for value in values.value_counts().index:
            at = (values == value).to_numpy()
            loss, gain = None, None
            if champion_loss is not None:
                settings = config.gate.gain.confidence, config.gate.gain.resamples, config.training.seed
                gain = paired_gain(champion_loss[at], challenger_loss[at], blocks[at], *settings)
                loss = float(champion_loss[at].mean())
            segments.append(Segment(column, str(value), int(at.sum()), float(challenger_loss[at].mean()), loss, gain))
    return segments


def measure_gap(
    rule: FairnessRule, rows: "pd.DataFrame", outcome: np.ndarray, prediction: np.ndarray, config: ModelConfig
) -> Fairness:
    """Measure the gap between the groups of a column with fairlearn.

    The gap is the difference between the largest and the smallest value of any group (fairlearn's `method="between_groups"`).
    It is NaN for fewer than two groups or if a group has fewer rows than `rule.min_rows`.
    """
    rows = hide_categories(config, rows[[rule.column]])
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
    predicted = (prediction >= rule.threshold).astype(int) if binary else prediction.argmax(axis=1)
    if rule.metric == "accuracy_difference":
        frame = metrics.MetricFrame(metrics=accuracy_score, y_true=outcome, y_pred=predicted, sensitive_features=groups)
        return float(frame.difference())
    return float(getattr(metrics, rule.metric)(outcome, predicted, sensitive_features=groups))


def query(version: Version, rows: "pd.DataFrame", expected: np.ndarray, res: Resources) -> Query:
    """Run the smoke test of a registered version (`tasks/models/smoke_test.py`) with its files from MLflow.

    Args:
        expected: This process's prediction of each row.
    """
    if rows.empty:
        return Query("there are no rows to predict", float("nan"), float("nan"), 0, float("nan"), 0)
    return res.registry.query(version.version, res.config, rows, expected)


def mean_prediction_change(judged: Version, final: Version, rows: "pd.DataFrame", res: Resources) -> float:
    """Compute the mean absolute difference between the predictions of a refit and of the evaluated version.

    The difference is between probabilities (for multiclass over all classes), or for regression in standard deviations of the outcome.
    """
    config = res.config
    before, after = (predict(res.load(v.version), rows, config) for v in (judged, final))
    change = float(np.abs(after - before).mean()) if len(rows) else float("nan")
    if config.target.kind != "regression":
        return change
    deviation = float(outcomes(rows, config.target).std())
    return change / deviation if deviation > 0 else float("nan")


def _compare_on_holdout(challenger: Version, champion: Promotion | None, window: Window, res: Resources) -> Comparison:
    start, note = evaluation_start(challenger, champion, window)
    holdout, rows = evaluation_rows(window, start, res)
    comparison = compare(challenger, champion, rows, (start, window.end), res, note)
    if rows.empty:  # there is nothing to compare on, but the smoke test can use the whole holdout
        prediction = predict(res.load(challenger.version), holdout, res.config)
        comparison = replace(comparison, query=query(challenger, holdout, prediction, res))
    return comparison


@as_task("compare v{challenger.version} with the champion")
def compare_versions(challenger: Version, champion: Promotion | None, window: Window, res: Resources) -> Comparison:
    """Compare challenger and champion on the holdout, and log the metrics."""

    def inputs() -> list[Any]:
        other = [champion.version, champion.window_end.isoformat()] if champion else []
        return ["compare", challenger.version, challenger.digest, other, *training_inputs(window, res)]

    comparison: Comparison = res.cache.result(
        Comparison, inputs, lambda: _compare_on_holdout(challenger, champion, window, res)
    )
    log = run_log()
    for card in (comparison.challenger, comparison.champion, comparison.prior):
        if card:
            metrics = {k: round(v, 4) for k, v in card.metrics.items()}
            log.info("%s on %d holdout rows: %s", card.version, card.rows, metrics)
    return comparison
