"""Whether serving and batch say the same of a served partition's rows, but for rounding. Else training does not fit serving."""

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
"""Whose answers a stage's predictions are held to. A challenger with a share says in the shadow only what it has not said in its share."""
ANSWER = ["request_id", "request_row"]


def with_served(stage: Stage, by: Promotion, ref: PartitionRef, res: Resources) -> dict[str, Any]:
    """What a record of predictions says of the answers that serving gave; empty for partitions that were not served.

    `answers` that were given, `by_version` how many; of those by the version that scores here, about rows as they are here, how
    many are the `same` and how many `differ`. A row that was asked about again with other values is another row.
    """
    if stage not in ROLES or not is_served(res.model, ref.key):
        return {}
    import pandas as pd

    try:
        online = _answers(stage, ref, res)
    except MissingSource:
        return {}
    key, said = res.config.key, ["prediction", *(f"p_{name}" for name in res.config.target.classes)]
    batch = pd.read_parquet(io.BytesIO(res.lake.path(stage, ref.key).read_bytes()))[[key, *said]]
    rows = res.lake.read(Stage.VALID, ref.key)
    values = [name for name in res.config.features.all if name in rows and name in online]
    here = rows[[key, *values]].merge(batch, on=key)
    both = online[online["model_version"] == by.version].merge(here, on=key, suffixes=("", "_batch"))
    both = both[_equal(both, values)]
    same = _alike(both, said)
    counts = online["model_version"].value_counts().sort_index().to_dict()
    found = {"answers": len(online), "by_version": counts, "same": int(same.sum()), "differ": int((~same).sum())}
    return {"served": found}


def _answers(stage: Stage, ref: PartitionRef, res: Resources) -> "pd.DataFrame":
    """Every answer in the stage's roles, with the values that were asked about."""
    everything = served_rows(res.model, ref.key, (CHAMPION, CANARY, SHADOW)).to_pandas()
    found = everything[everything["role"].isin(ROLES[stage])]
    if stage is not Stage.SHADOW:
        return found
    asked = everything[everything["role"] != SHADOW]
    values = [name for name in res.config.features.all if name in asked]
    once = found.drop_duplicates([*ANSWER, "model_version"])
    return once.drop(columns=values).merge(asked[[*ANSWER, *values]], on=ANSWER)


def _equal(both: "pd.DataFrame", names: Iterable[str]) -> np.ndarray:
    """Rows in which some columns and their namesakes of batch are the same, nulls too; bool `(rows,)`."""
    found: np.ndarray = np.ones(len(both), dtype=bool)
    for name in names:
        mine, theirs = both[name], both[f"{name}_batch"]
        found &= ((mine == theirs) | (mine.isna() & theirs.isna())).to_numpy(dtype=bool)
    return found


def _alike(both: "pd.DataFrame", names: Iterable[str]) -> np.ndarray:
    """The same for predictions; a sum over one row may round otherwise than over a thousand, as `tasks/models/smoke_test.py` allows too."""
    found: np.ndarray = np.ones(len(both), dtype=bool)
    for name in names:
        mine, theirs = both[name], both[f"{name}_batch"]
        numbers = mine.dtype.kind == "f"
        found &= np.isclose(mine, theirs, rtol=1e-5, atol=1e-7) if numbers else (mine == theirs).to_numpy(dtype=bool)
    return found


def differing(records: Sequence[Record | None]) -> int | None:
    """Rows of some partitions about which serving said something else; None where serving was asked about none."""
    told = [record.data["served"] for record in records if record and record.data.get("served")]
    return sum(one["differ"] for one in told) if told else None
