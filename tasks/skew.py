"""Whether serving and batch say the same of a served partition's rows. They should, to the bit; else training does not fit serving.

Imports no Prefect.
"""

import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.contracts import PartitionRef, Promotion, Record, Stage
from tasks.errors import MissingSource
from tasks.resources import Resources
from tasks.served import CANARY, CHAMPION, SHADOW, newest_rows
from tasks.source.extent import is_served

if TYPE_CHECKING:
    import pandas as pd

ROLES = {Stage.PREDICTIONS: (CHAMPION, CANARY), Stage.SHADOW: (SHADOW,)}


def with_served(stage: Stage, by: Promotion, ref: PartitionRef, res: Resources) -> dict[str, Any]:
    """What a record of predictions says of the answers that serving gave; empty for partitions that were not served.

    `rows` that were answered, `by_version` how many; of those by the version that scores them here, how many are the `same` and
    how many `differ`.
    """
    if stage not in ROLES or not is_served(res.model, ref.key):
        return {}
    import pandas as pd

    try:
        online = newest_rows(res.model, ref.key, ROLES[stage]).to_pandas()
    except MissingSource:
        return {}
    batch = pd.read_parquet(io.BytesIO(res.lake.path(stage, ref.key).read_bytes()))
    own = online[online["model_version"] == by.version]
    said = [name for name in ("prediction", *(f"p_{name}" for name in res.config.target.classes)) if name in batch]
    both = own.merge(batch, on=res.config.key, suffixes=("", "_batch"))
    same = _equal(both, said)
    counts = online["model_version"].value_counts().sort_index().to_dict()
    found = {"rows": len(online), "by_version": counts, "same": int(same.sum()), "differ": int((~same).sum())}
    return {"served": found}


def _equal(both: "pd.DataFrame", names: Iterable[str]) -> np.ndarray:
    """Rows about which both say the same, bool `(rows,)`."""
    found: np.ndarray = np.ones(len(both), dtype=bool)
    for name in names:
        found &= (both[name] == both[f"{name}_batch"]).to_numpy(dtype=bool)
    return found


def differing(records: Sequence[Record | None]) -> int | None:
    """Rows of some partitions about which serving said something else; None where serving was asked about none."""
    told = [record.data["served"] for record in records if record and record.data.get("served")]
    return sum(one["differ"] for one in told) if told else None
