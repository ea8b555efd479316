"""Serving skew: compare the predictions that serving answered with those of the batch score of the same rows."""

import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.contracts import PartitionRef, Promotion, Record, Stage
from tasks.errors import MissingSource
from tasks.resources import Resources
from tasks.source.extent import is_served
from tasks.storage.answer_log import CANARY, CHAMPION, SHADOW, served_rows

if TYPE_CHECKING:
    import pandas as pd

ROLES = {Stage.PREDICTIONS: (CHAMPION, CANARY), Stage.SHADOW: (SHADOW, CANARY)}
"""The roles whose answers are compared with a stage's predictions. A challenger with a share of requests answers those as `CANARY`,
and all others as `SHADOW`."""
BATCH = " (batch)"
"""Suffix of the columns of batch scoring beside those of serving. `_batch` could be that of a feature."""
ANSWER_KEY = ["request_id", "request_row"]


def compare_with_served(stage: Stage, promotion: Promotion, ref: PartitionRef, res: Resources) -> dict[str, Any]:
    """Compare a stage's predictions with the answers of serving, apart from rounding.

    Only answers of the promotion's version are compared, and only if the request had the same feature values as the row has here.

    Returns:
        Under `served`: the number of `answers`, their number `by_version`, and how many are the `same` and how many `differ`.
        Empty for partitions that were not served.
    """
    if stage not in ROLES or not is_served(res.model, ref.key):
        return {}
    import pandas as pd

    try:
        online = _read_answers(stage, ref, res)
    except MissingSource:
        return {}
    key, outputs = res.config.key, ["prediction", *(f"p_{name}" for name in res.config.target.classes)]
    batch = pd.read_parquet(io.BytesIO(res.lake.path(stage, ref.key).read_bytes()))[[key, *outputs]]
    rows = res.lake.read(Stage.VALID, ref.key)
    values = [name for name in res.config.features.all if name in rows and name in online]
    here = rows[[key, *values]].merge(batch, on=key)
    both = online[online["model_version"] == promotion.version].merge(here, on=key, suffixes=("", BATCH))
    both = both[_equal_values(both, values)]
    same = _equal_predictions(both, outputs)
    counts = online["model_version"].value_counts().sort_index().to_dict()
    differ = int((~same).sum())
    return {"served": {"answers": len(online), "by_version": counts, "same": int(same.sum()), "differ": differ}}


def _read_answers(stage: Stage, ref: PartitionRef, res: Resources) -> "pd.DataFrame":
    """Every answer in the stage's roles, with the feature values of its request."""
    answers = served_rows(res.model, ref.key, (CHAMPION, CANARY, SHADOW)).to_pandas()
    in_roles = answers[answers["role"].isin(ROLES[stage])]
    if stage is not Stage.SHADOW:
        return in_roles
    requests = answers[answers["role"] != SHADOW]
    values = [name for name in res.config.features.all if name in requests]
    distinct = in_roles.drop_duplicates([*ANSWER_KEY, "model_version"])
    return distinct.drop(columns=values).merge(requests[[*ANSWER_KEY, *values]], on=ANSWER_KEY)


def _equal_values(both: "pd.DataFrame", names: Iterable[str]) -> np.ndarray:
    """Where columns equal those with the suffix `BATCH`; two nulls are equal. Bool of shape (rows,)."""
    equal: np.ndarray = np.ones(len(both), dtype=bool)
    for name in names:
        online, batch = both[name], both[f"{name}{BATCH}"]
        equal &= ((online == batch) | (online.isna() & batch.isna())).to_numpy(dtype=bool)
    return equal


def _equal_predictions(both: "pd.DataFrame", names: Iterable[str]) -> np.ndarray:
    """Like `_equal_values` for predictions, with the tolerance of `tasks/models/smoke_test.py`: batch size affects rounding."""
    equal: np.ndarray = np.ones(len(both), dtype=bool)
    for name in names:
        online, batch = both[name], both[f"{name}{BATCH}"]
        numeric = online.dtype.kind == "f"
        equal &= np.isclose(online, batch, rtol=1e-5, atol=1e-7) if numeric else (online == batch).to_numpy(dtype=bool)
    return equal


def count_differing(records: Sequence[Record | None]) -> int | None:
    """How many answers of serving differ from batch, over the records of some partitions; None if none was served."""
    served = [record.data["served"] for record in records if record and record.data.get("served")]
    return sum(counts["differ"] for counts in served) if served else None
