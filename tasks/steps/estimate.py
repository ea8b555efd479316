"""What the champion's performance on a partition probably is, before its labels are there.

classifiers  CBPE, confidence-based performance estimation (NannyML; Bialek et al. 2024, arXiv 2401.08348): the model's own
             probabilities, calibrated on the holdout where that helps, say how often each outcome is to be expected, and so
             the expected loss and ROC AUC.
regression   DLE, direct loss estimation (NannyML): a model of the loss, learned on the holdout from features and prediction.

Both assume that the outcome depends on the features as it did on the holdout, and that the champion, where it is a refit,
errs as the version that was judged there. So they see harder rows, and are blind to a world that has changed its
rules: then the realised performance is worse than the estimate. An estimate never promotes and never rolls back.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from configs.schema import ModelConfig, Target
from tasks.contracts import PartitionRef, Stage
from tasks.errors import UnknownVersion
from tasks.models.bootstrap import block_sums, mean_bounds
from tasks.models.metrics import LEVEL, finite, row_loss
from tasks.models.targets import outcomes, prediction_array
from tasks.resources import Resources
from tasks.steps.decay import by_block
from tasks.steps.holdout import labelled_holdout
from tasks.steps.score import champion_of, model_input
from tasks.steps.step import Step, StepOutput, upstream_record
from tasks.storage.blocks import labelled_blocks
from tasks.storage.files import digest_json

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
LEAST = 100
"""Labelled rows of the holdout below which nothing is estimated."""


def estimate(ref: PartitionRef, res: Resources) -> StepOutput:
    """Write the estimated metrics of a scored partition, or why there are none."""
    config, champion = res.config, champion_of(ref, res)
    rows = res.lake.read(Stage.VALID, ref.key)
    said = res.lake.read(Stage.PREDICTIONS, ref.key).drop(columns=[config.time])
    rows = rows.merge(said, on=config.key, how="inner", validate="one_to_one")
    try:
        known = labelled_holdout(champion, res)
        note = "" if len(known) >= LEAST else f"{len(known)} labelled rows in the holdout, {LEAST} are needed"
    except UnknownVersion as error:
        known, note = rows.iloc[:0], str(error)
    if rows.empty:
        note = note or "the partition has no rows"
    data = {"version": champion.version, "note": note, "metrics": {}, "intervals": {}, "blocks": []}
    if not note:
        data |= _estimated(rows, known, config)
    return StepOutput(rows=len(rows), data=data)


def _estimated(rows: "pd.DataFrame", known: "pd.DataFrame", config: ModelConfig) -> dict[str, Any]:
    """Metrics, and the loss's interval over blocks: of which days there were, not of the assumption."""
    target = config.target
    if target.kind == "regression":
        losses = learned_loss(rows, known, config)
        metrics: dict[str, float] = {target.judged_by: float(losses.mean())}
        if target.judged_by == "squared_error":
            metrics["rmse"] = float(losses.mean()) ** 0.5
    else:
        said = prediction_array(rows, target)
        chance = calibrate(said, prediction_array(known, target), outcomes(known, target), target)
        losses = expected_loss(said, chance, target)
        metrics = {"log_loss": float(losses.mean())} | _expected_scores(said, chance, target)
    blocks = labelled_blocks(rows, config)
    bounds = mean_bounds(*block_sums(losses, blocks), LEVEL, config.gate.gain.resamples, config.training.seed)
    interval = [*finite({"lower": bounds.lower, "upper": bounds.upper}).values()]
    return {
        "metrics": finite(metrics),
        "intervals": {target.judged_by: interval},
        "blocks": by_block(losses, blocks),
    }


def calibrate(said: np.ndarray, known: np.ndarray, outcome: np.ndarray, target: Target) -> np.ndarray:
    """How often outcomes are to be expected where a model says `said`, in its shape.

    Isotonic regression on the labelled rows `known` (one class against the rest), where that lowers the loss of their
    newer half when learned from the older; else `said` itself.
    """
    half = len(known) // 2
    one, two = slice(None, half), slice(half, None)
    before = row_loss(outcome[two], known[two], target).mean()
    after = row_loss(outcome[two], _isotonic(known[two], known[one], outcome[one]), target).mean()
    return _isotonic(said, known, outcome) if after < before else said


def _isotonic(said: np.ndarray, known: np.ndarray, outcome: np.ndarray) -> np.ndarray:
    from sklearn.isotonic import IsotonicRegression

    def one(x: np.ndarray, learned: np.ndarray, happened: np.ndarray) -> np.ndarray:
        return IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(learned, happened).predict(x)

    if said.ndim == 1:
        return one(said, known, outcome)
    found = np.stack([one(said[:, k], known[:, k], outcome == k) for k in range(said.shape[1])], axis=1)
    total = found.sum(axis=1, keepdims=True)
    return np.where(total > 0, found / np.where(total > 0, total, 1), said)


def expected_loss(said: np.ndarray, chance: np.ndarray, target: Target) -> np.ndarray:
    """The log loss of each row that is to be expected when outcomes come with probability `chance`."""
    if target.kind == "binary":
        ones, noughts = (row_loss(np.full(len(said), y), said, target) for y in (1, 0))
        return chance * ones + (1 - chance) * noughts
    losses = [row_loss(np.full(len(said), k), said, target) for k in range(said.shape[1])]
    return (np.stack(losses, axis=1) * chance).sum(axis=1)


def _expected_scores(said: np.ndarray, chance: np.ndarray, target: Target) -> dict[str, float]:
    if target.kind == "binary":
        return {"roc_auc": expected_auc(said, chance)}
    return {"accuracy": float(chance[np.arange(len(said)), said.argmax(axis=1)].mean())}


def expected_auc(said: np.ndarray, chance: np.ndarray) -> float:
    """ROC AUC when each row is positive with probability `chance`: every row counts as both, by weight; ties count half.

    A row is not compared with itself. NaN where one class is not to be expected.
    """
    order = np.argsort(said, kind="stable")
    firsts = np.flatnonzero(np.r_[True, np.diff(said[order]) > 0])
    up, down = (np.add.reduceat(w[order], firsts) for w in (chance, 1 - chance))
    itself = float((chance * (1 - chance)).sum())
    both = float(up.sum() * down.sum()) - itself
    won = float((up * (np.cumsum(down) - down / 2)).sum()) - itself / 2
    return won / both if both > 0 else float("nan")


def learned_loss(rows: "pd.DataFrame", known: "pd.DataFrame", config: ModelConfig) -> np.ndarray:
    """The loss of each row by a model that learned the losses of the labelled rows `known`; never negative."""
    from xgboost import XGBRegressor

    target = config.target
    losses = row_loss(outcomes(known, target), prediction_array(known, target), target)
    model = XGBRegressor(n_estimators=100, max_depth=4, learning_rate=0.1, n_jobs=1, random_state=config.training.seed)
    model.fit(_numbers(known, known, config), losses)
    return np.maximum(model.predict(_numbers(rows, known, config)).astype("float64"), 0)


def _numbers(rows: "pd.DataFrame", known: "pd.DataFrame", config: ModelConfig) -> np.ndarray:
    """Features and prediction as numbers; categories by their place among the known ones, others as missing."""
    import pandas as pd

    both = {name for name in config.features.all if name in rows and name in known}  # one may be younger than the known
    names = [name for name in config.features.numeric if name in both]
    numeric = rows[[*names, "prediction"]].to_numpy(dtype="float64")
    codes = []
    for name in (name for name in config.features.categorical if name in both):
        found = pd.Categorical(rows[name], categories=sorted(known[name].dropna().unique())).codes
        codes.append(np.where(found < 0, np.nan, found))
    return np.column_stack([numeric, *codes])


def inputs(ref: PartitionRef, res: Resources) -> dict[str, str]:
    config = res.config
    rules = [
        config.target.model_dump(),
        config.features.columns,
        config.gate.gain.model_dump(),
        config.training.seed,
    ]
    return {
        "predictions": upstream_record(ref, res, Stage.PREDICTIONS).digest,
        "model": model_input(champion_of(ref, res)),
        "config": digest_json(rules),
    }


ESTIMATE = Step("estimate", Stage.ESTIMATES, VERSION, inputs, estimate)
