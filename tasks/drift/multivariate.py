"""Drift of all features together: how well a classifier separates the partition's rows from the champion's window.

The score is the out-of-fold ROC AUC of a domain classifier (Lopez-Paz and Oquab 2017, "Revisiting classifier two-sample tests").
Folds consist of whole blocks of time. With folds of single rows, the weather of an hour identifies its day, and odd against even days of
one month already score 1.00. For the null distribution blocks are assigned to the sides at random, with the same folds, and the classifier
is fitted again each time. This is a permutation test, exact if blocks are exchangeable. It does not
take into account that blocks resemble their neighbours.
"""

from collections.abc import Collection, Iterator, Sequence
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
MIN_BLOCKS = 4
"""Blocks that each side needs. With fewer, a fold may lack one side."""


def multivariate_drift(
    reference: "pd.DataFrame",
    current: "pd.DataFrame",
    version: str,
    rules: Multivariate,
    config: ModelConfig,
    left_out: Collection[str] = (),
) -> ColumnDrift:
    """Test one partition. Columns that are declared seasonal are left out, because they identify the time of the year.

    Args:
        reference: Rows of the champion's window: the time column and features.
        current: Rows of the partition, with the same columns.
        version: The champion, for the text of the result.
        rules: `monitoring.multivariate` of model.yaml.
        config: The model's config.
        left_out: Other columns that do not count.
    """
    frames = [reference, current]
    blocks = [block_names(f[config.time], config.monitoring.block, config.partition.timezone) for f in frames]
    other = ~np.isin(blocks[0], blocks[1])
    shared = [c for c in config.features.all if all(c in frame for frame in frames)]
    names = [c for c in shared if c not in config.monitoring.seasonal and c not in left_out]
    x = encode_features([reference[other], current], names, config)
    is_current = np.r_[np.zeros(int(other.sum()), bool), np.ones(len(current), bool)]
    description = f"{int(other.sum()):,} rows of version {version}'s window"
    row_blocks = np.r_[blocks[0][other], blocks[1]]
    return domain_classifier_drift(
        x, row_blocks, is_current, rules, config.monitoring, config.training.seed, description
    )


def domain_classifier_drift(
    x: np.ndarray,
    blocks: np.ndarray,
    is_current: np.ndarray,
    rules: Multivariate,
    monitoring: Monitoring,
    seed: int,
    description: str,
) -> ColumnDrift:
    """Return the AUC with its threshold and p-value.

    Args:
        x: Encoded features, `(rows, features)`.
        blocks: Name of each row's block, `(rows,)`.
        is_current: Which rows belong to the partition, bool `(rows,)`.
        rules: `monitoring.multivariate` of model.yaml.
        monitoring: `monitoring` of model.yaml, for alpha.
        seed: Makes folds, fits and permutations repeatable.
        description: What the reference is.
    """
    names, block = np.unique(blocks, return_inverse=True)
    current_blocks: np.ndarray = np.zeros(len(names), bool)
    current_blocks[block[is_current]] = True
    n_current, n_reference = current_blocks.sum(), (~current_blocks).sum()
    if min(n_current, n_reference) < MIN_BLOCKS:
        note = (
            f"not calibrated: {n_current} current and {n_reference} reference blocks, {MIN_BLOCKS} of each are needed"
        )
        return ColumnDrift(NAME, METHOD, None, None, drifted=False, effect=rules.auc, reference=description, note=note)
    score = auc_by_blocks(x, block, current_blocks, seed)
    n_permutations = max(rules.resamples, ceil(1 / monitoring.alpha))
    null_scores = np.sort(
        [auc_by_blocks(x, block, side, seed) for side in _permutations(current_blocks, n_permutations, seed)]
    )
    p_value = (1 + int((null_scores >= score).sum())) / (len(null_scores) + 1)
    bound = null_scores[len(null_scores) - int(monitoring.alpha * (len(null_scores) + 1))]
    threshold = max(rules.auc, float(np.nextafter(bound, 1)))
    return ColumnDrift(NAME, METHOD, score, threshold, score >= threshold, rules.auc, p_value, reference=description)


def _permutations(current_blocks: np.ndarray, n_permutations: int, seed: int) -> Iterator[np.ndarray]:
    """Yield which blocks are current in each permutation, bool `(blocks,)`."""
    n_blocks, n_current = len(current_blocks), int(current_blocks.sum())
    for positions in permute_blocks(n_blocks, n_current, n_permutations, seed)[:n_permutations]:
        side: np.ndarray = np.zeros(n_blocks, bool)
        side[positions] = True
        yield side


def auc_by_blocks(x: np.ndarray, block: np.ndarray, current_blocks: np.ndarray, seed: int) -> float:
    """Mean ROC AUC over folds of whole blocks. A fold that has only one side counts as 0.5.

    Args:
        x: Encoded features, `(rows, features)`.
        block: Position of each row's block, int `(rows,)`.
        current_blocks: Which blocks are current, bool `(blocks,)`.
        seed: Makes folds and fits repeatable. The folds do not depend on `current_blocks`.
    """
    from sklearn.metrics import roc_auc_score
    from xgboost import XGBClassifier

    label, scores = current_blocks[block], []
    folds = (np.random.default_rng(seed).permutation(len(current_blocks)) % FOLDS)[block]
    for fold in range(FOLDS):
        test = folds == fold
        if len(np.unique(label[test])) < 2 or len(np.unique(label[~test])) < 2:
            scores.append(0.5)
            continue
        model = XGBClassifier(n_estimators=20, max_depth=3, n_jobs=1, random_state=seed)  # small: threads only slow it
        model.fit(x[~test], label[~test])
        scores.append(float(roc_auc_score(label[test], model.predict_proba(x[test])[:, 1])))
    return float(np.mean(scores))


def encode_features(frames: "Sequence[pd.DataFrame]", names: Sequence[str], config: ModelConfig) -> np.ndarray:
    """Encode features of both sides as float64 `(rows, features)`. Columns without any finite value are left out.

    A category becomes its position among all that occur. Nulls and infinities become NaN.
    """
    import pandas as pd

    rows = pd.concat([f[list(names)] for f in frames], ignore_index=True)
    columns = []
    for name in names:
        if name in config.features.categorical:
            codes = pd.Categorical(rows[name].astype(object)).codes
            columns.append(np.where(codes < 0, np.nan, codes))
        else:
            columns.append(rows[name].to_numpy(dtype="float64"))
    x = np.column_stack(columns)
    return np.where(np.isfinite(x), x, np.nan)[:, np.isfinite(x).any(axis=0)]
