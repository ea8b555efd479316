"""One signal of all features together: how well a classifier tells a partition's rows from the champion's window.

The ROC AUC of a domain classifier (Lopez-Paz and Oquab 2017, "Revisiting classifier two-sample tests"), out of fold.
Folds are made of whole blocks of time: split by rows, the weather of an hour names the day, and even odd against
even days of one month score 1.00. Under chance blocks change sides, in the same folds, and the classifier learns
anew each time: a permutation test, exact where blocks are exchangeable.
"""

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from configs.monitoring import Monitoring, Multivariate
from configs.schema import ModelConfig
from tasks.contracts import ColumnDrift
from tasks.drift.permutations import permute_blocks
from tasks.storage.blocks import block_names

if TYPE_CHECKING:
    import pandas as pd

NAME, METHOD = "(all features)", "domain classifier"
FOLDS = 2
LEAST = 4
"""Blocks of either side below which folds would lack one side."""


def multivariate_drift(
    reference: "pd.DataFrame", current: "pd.DataFrame", version: str, rules: Multivariate, config: ModelConfig
) -> ColumnDrift:
    """The signal for one partition. Columns that are declared seasonal are left out: they tell the time of the year.

    Args:
        reference: Rows of the champion's window: the time column and features.
        current: Rows of the partition, with the same columns.
        version: The champion, for the text of the result.
        rules: `monitoring.multivariate` of model.yaml.
        config: The model's config.
    """
    frames = [reference, current]
    blocks = [block_names(f[config.time], config.monitoring.block, config.partition.timezone) for f in frames]
    other = ~np.isin(blocks[0], blocks[1])
    both = [c for c in config.features.all if all(c in frame for frame in frames)]
    names = [c for c in both if c not in config.monitoring.seasonal]
    x = encoded([reference[other], current], names, config)
    sides = np.r_[np.zeros(int(other.sum()), bool), np.ones(len(current), bool)]
    told = f"{int(other.sum()):,} rows of version {version}'s window"
    return judged(x, np.r_[blocks[0][other], blocks[1]], sides, rules, config.monitoring, config.training.seed, told)


def judged(
    x: np.ndarray, blocks: np.ndarray, current: np.ndarray, rules: Multivariate, watch: Monitoring, seed: int, told: str
) -> ColumnDrift:
    """The AUC with its threshold and p-value. `blocks` names each row's block, `current` marks the partition's rows."""
    names, at = np.unique(blocks, return_inverse=True)
    now: np.ndarray = np.zeros(len(names), bool)
    now[at[current]] = True
    if min(now.sum(), (~now).sum()) < LEAST:
        note = f"not calibrated: {now.sum()} blocks against {(~now).sum()}, {LEAST} of each are needed"
        return ColumnDrift(NAME, METHOD, None, None, drifted=False, effect=rules.auc, reference=told, note=note)
    score = auc_by_blocks(x, at, now, seed)
    drawn = max(rules.resamples, ceil(1 / watch.alpha))
    chance = np.sort([auc_by_blocks(x, at, side, seed) for side in _permutations(now, drawn, seed)])
    p_value = (1 + int((chance >= score).sum())) / (len(chance) + 1)
    bound = chance[len(chance) - int(watch.alpha * (len(chance) + 1))]
    threshold = max(rules.auc, float(np.nextafter(bound, 1)))
    return ColumnDrift(NAME, METHOD, score, threshold, score >= threshold, rules.auc, p_value, reference=told)


def _permutations(now: np.ndarray, resamples: int, seed: int) -> Sequence[np.ndarray]:
    """Which blocks play the partition in each deal."""
    found = []
    for chosen in permute_blocks(len(now), int(now.sum()), resamples, seed)[:resamples]:
        side: np.ndarray = np.zeros(len(now), bool)
        side[chosen] = True
        found.append(side)
    return found


def auc_by_blocks(x: np.ndarray, at: np.ndarray, now: np.ndarray, seed: int) -> float:
    """Mean ROC AUC over folds of whole blocks, which chance alone makes; one half where a fold has one side only.

    `at` is each row's block, `now` says which blocks are the partition's.
    """
    from sklearn.metrics import roc_auc_score
    from xgboost import XGBClassifier

    label, found = now[at], []
    fold = (np.random.default_rng(seed).permutation(len(now)) % FOLDS)[at]
    for held in range(FOLDS):
        test = fold == held
        if len(np.unique(label[test])) < 2 or len(np.unique(label[~test])) < 2:
            found.append(0.5)
            continue
        model = XGBClassifier(
            n_estimators=20, max_depth=3, n_jobs=1, random_state=seed
        )  # threads would hold small fits up
        model.fit(x[~test], label[~test])
        found.append(float(roc_auc_score(label[test], model.predict_proba(x[test])[:, 1])))
    return float(np.mean(found))


def encoded(frames: "Sequence[pd.DataFrame]", names: Sequence[str], config: ModelConfig) -> np.ndarray:
    """Features of both sides as numbers; categories by their place among all that occur, columns without a value left out."""
    import pandas as pd

    rows = pd.concat([f[list(names)] for f in frames], ignore_index=True)
    columns = []
    for name in names:
        if name in config.features.categorical:
            codes = pd.Categorical(rows[name].astype(object)).codes
            columns.append(np.where(codes < 0, np.nan, codes))
        else:
            columns.append(rows[name].to_numpy(dtype="float64"))
    found = np.column_stack(columns)
    return np.where(np.isfinite(found), found, np.nan)[:, np.isfinite(found).any(axis=0)]
