"""Refuse a feature that knows the future: hide what was not known yet, and see whether it changes."""

from typing import TYPE_CHECKING

import numpy as np

from configs.load import Model
from tasks.contracts import PartitionRef
from tasks.errors import LeakFound
from tasks.source.rows import read_source

if TYPE_CHECKING:
    import pandas as pd


def check_leaks(model: Model, ref: PartitionRef, threads: int = 2) -> None:
    """Compute the partition twice, once with everything hidden that became known after a moment inside it.

    No feature of a row at or before that moment, three fifths into the partition, may differ.
    What becomes known when is what the tables of model.yaml say; a model whose tables say
    nothing is not checked.

    Raises:
        LeakFound: naming the feature, the rows that change, and the first of them.
    """
    if not any(t.known_at or t.outcomes for t in model.config.source.views.values()):
        return
    config = model.config
    cut = ref.start + (ref.end - ref.start) * 3 / 5
    full, known = (read_source(model, ref, threads, cut=c).to_pandas() for c in (None, cut))
    full, known = (f[f[config.time] <= cut].drop_duplicates(config.key).set_index(config.key) for f in (full, known))
    known = known.reindex(full.index)
    for name in config.features.all:
        changed = _changed(full[name], known[name])
        if changed.any():
            at = int(changed.argmax())
            raise LeakFound(
                f"{model.folder / config.source.sql}: feature {name!r} uses what was not known yet: with everything hidden "
                f"that became known after {cut.isoformat()}, it changes for {int(changed.sum())} earlier rows, first "
                f"{full.index[at]!r} ({full[name].iloc[at]!r} becomes {known[name].iloc[at]!r}). "
                f"Join outcomes by their known-time, not by the time of their row"
            )


def _changed(before: "pd.Series", after: "pd.Series") -> np.ndarray:
    """Where two columns differ; two nulls are the same, and sums may differ by rounding."""
    if before.dtype.kind == "f":
        return ~np.isclose(before.to_numpy(), after.to_numpy(), rtol=1e-9, atol=1e-12, equal_nan=True)
    return ((before != after) & ~(before.isna() & after.isna())).to_numpy(dtype=bool)
