"""Compare challenger and champion on the same rows: metrics, gain with confidence bounds, segments, fairness, and the smoke test.

The version that stands for the champion is chosen in `tasks/training/reference.py`.
"""

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.schema import ModelConfig
from tasks.contracts import Comparison, Interval, Promotion, Query, Scorecard, Segment, Version, Window
from tasks.models.bootstrap import block_sums, paired_gain
from tasks.models.fairness import measure_gap
from tasks.models.features import predict
from tasks.models.metrics import intervals, measure, row_loss
from tasks.models.targets import outcomes, predict_prior
from tasks.orchestration.prefect_tasks import as_task, run_log
from tasks.resources import Resources
from tasks.storage.blocks import labelled_blocks
from tasks.storage.personal import hide_categories
from tasks.training.excess import measure_excess
from tasks.training.reference import Reference
from tasks.training.window import read_rows, training_inputs

if TYPE_CHECKING:
    import pandas as pd

NO_CHAMPION = "there is no champion yet"


def evaluation_start(challenger: Version, champion: Version | None, window: Window) -> tuple[datetime, str]:
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
    reference: Reference | None,
    rows: "pd.DataFrame",
    span: tuple[datetime, datetime],
    res: Resources,
    note: str = "",
) -> Comparison:
    """Measure challenger, champion and prior on labelled rows on which neither version was trained.

    Args:
        reference: What stands for the champion, and what the challenger must show. None without a champion.
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
    comparison = Comparison(
        challenger=_scorecard(challenger.version, outcome, challenger_prediction, blocks, config),
        champion=None,
        prior=_scorecard("prior", outcome, prior_prediction, blocks, config),
        gain=None,
        blocks=count,
        start=span[0],
        end=span[1],
        impossible=NO_CHAMPION,
        note=note,
        segments=tuple(measure_segments(rows, challenger_loss, None, blocks, gate.gain.confidence, config)),
        fairness=tuple(measure_gap(rule, rows, outcome, challenger_prediction, config) for rule in gate.fairness),
        query=query(challenger, rows, challenger_prediction, res),
    )
    if reference is None:
        return comparison
    predictions = predict(res.load(reference.version.version), rows, config), challenger_prediction
    return _with_reference(comparison, reference, predictions, rows, res)


def _with_reference(
    comparison: Comparison,
    reference: Reference,
    predictions: tuple[np.ndarray, np.ndarray],
    rows: "pd.DataFrame",
    res: Resources,
) -> Comparison:
    """Add the measurements against the version that stands for the champion. `predictions` are its own and the challenger's."""
    config, gate = res.config, res.config.gate
    outcome, blocks = outcomes(rows, config.target), labelled_blocks(rows, config)
    theirs, mine = (row_loss(outcome, prediction, config.target) for prediction in predictions)
    impossible = ""
    if len(rows) < gate.min_rows:
        impossible = f"{len(rows)} labelled rows, gate.min_rows is {gate.min_rows}"
    elif comparison.blocks < gate.gain.min_blocks:
        impossible = f"{comparison.blocks} blocks of labelled rows, gate.gain.min_blocks is {gate.gain.min_blocks}"
    if impossible and comparison.note:
        impossible = f"{impossible}; {comparison.note}"
    confidence = gate.refresh.confidence if reference.burden == "refresh" else gate.gain.confidence
    settings = confidence, gate.gain.resamples, config.training.seed
    sums, counts = block_sums(theirs - mine, blocks)
    per_block = zip(np.unique(blocks).tolist(), counts.tolist(), sums.tolist(), strict=True)
    comparison = replace(
        comparison,
        champion=_scorecard(reference.version.version, outcome, predictions[0], blocks, config),
        gain=None if impossible else paired_gain(theirs, mine, blocks, *settings),
        impossible=impossible,
        segments=tuple(measure_segments(rows, mine, theirs, blocks, confidence, config)),
        burden=reference.burden,
        differences=reference.differences,
        reference=reference.text,
        change=reference.key,
        gains=tuple((int(block), count, gain) for block, count, gain in per_block),
    )
    comparison = replace(comparison, excess=measure_excess(comparison, predictions, rows, config))
    if not reference.anchor:
        return comparison
    gain = _anchor_gain(reference.anchor, mine, rows, res)
    return replace(comparison, anchor=reference.anchor.version, anchor_gain=gain)


def _anchor_gain(
    anchor: Promotion | Version, mine: np.ndarray, rows: "pd.DataFrame", res: Resources
) -> Interval | None:
    """Measure the gain over another version on the rows that it has not learned. None if they are few."""
    config, gate = res.config, res.config.gate
    new = (rows[config.time] >= anchor.window_end).to_numpy()
    rows = rows[new].reset_index(drop=True)
    blocks = labelled_blocks(rows, config)
    if len(rows) < gate.min_rows or len(np.unique(blocks)) < gate.gain.min_blocks:
        return None
    theirs = row_loss(outcomes(rows, config.target), predict(res.load(anchor.version), rows, config), config.target)
    return paired_gain(theirs, mine[new], blocks, gate.refresh.confidence, gate.gain.resamples, config.training.seed)


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
    confidence: float,
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
                settings = confidence, config.gate.gain.resamples, config.training.seed
                gain = paired_gain(champion_loss[at], challenger_loss[at], blocks[at], *settings)
                loss = float(champion_loss[at].mean())
            segments.append(Segment(column, str(value), int(at.sum()), float(challenger_loss[at].mean()), loss, gain))
    return segments


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


def _compare_on_holdout(challenger: Version, reference: Reference | None, window: Window, res: Resources) -> Comparison:
    start, note = evaluation_start(challenger, reference.version if reference else None, window)
    holdout, rows = evaluation_rows(window, start, res)
    comparison = compare(challenger, reference, rows, (start, window.end), res, note)
    if rows.empty:  # there is nothing to compare on, but the smoke test can use the whole holdout
        prediction = predict(res.load(challenger.version), holdout, res.config)
        comparison = replace(comparison, query=query(challenger, holdout, prediction, res))
    return comparison


@as_task("compare v{challenger.version} with the champion")
def compare_versions(challenger: Version, reference: Reference | None, window: Window, res: Resources) -> Comparison:
    """Compare challenger and champion on the holdout, and log the metrics."""

    def inputs() -> list[Any]:
        anchor = reference.anchor.version if reference and reference.anchor else ""
        other: list[Any] = []
        if reference:
            other = [reference.version.version, reference.text, reference.differences, reference.key, anchor]
        return ["compare", challenger.version, challenger.digest, other, *training_inputs(window, res)]

    comparison: Comparison = res.cache.result(
        Comparison, inputs, lambda: _compare_on_holdout(challenger, reference, window, res)
    )
    log = run_log()
    for card in (comparison.challenger, comparison.champion, comparison.prior):
        if card:
            metrics = {k: round(v, 4) for k, v in card.metrics.items()}
            log.info("%s on %d holdout rows: %s", card.version, card.rows, metrics)
    return comparison
