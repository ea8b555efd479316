"""Target leakage check: refuse features that use data from after the prediction time."""

from typing import TYPE_CHECKING, Any

import numpy as np

from configs.load import Model
from tasks.contracts import PartitionRef
from tasks.errors import LeakFound
from tasks.source.rows import read_source
from tasks.storage.personal import hider

if TYPE_CHECKING:
    import pandas as pd

SQL_ADVICE = "Join outcomes by the time when they became known, not by the time of their row"
FLAT_ADVICE = (
    "Remove it from the features, or correct `known_at`, `outcomes` and `outcomes_known_at` of the file in model.yaml"
)


def check_leaks(model: Model, ref: PartitionRef, threads: int = 2) -> bool:
    """Compute the partition's features twice, once with everything hidden that became known after a cutoff.

    The cutoff lies three fifths into the partition. No feature of a row at or before it may differ. When data became known is declared by
    the tables of model.yaml (`known_at`, `outcomes_known_at`). A model whose tables declare nothing is not checked.

    Returns:
        Whether the check is complete. It is not if no row was compared, as in a partition without rows.

    Raises:
        LeakFound: a feature differs. The message has the feature, the number of rows, and the first of them.
    """
    if not any(t.known_at or t.outcomes for t in model.config.source.views.values()):
        return True
    config, show = model.config, hider(model.config)
    cutoff = ref.start + (ref.end - ref.start) * 3 / 5
    full, known = (read_source(model, ref, threads, cutoff=c).to_pandas() for c in (None, cutoff))
    full, known = (f[f[config.time] <= cutoff].drop_duplicates(config.key).set_index(config.key) for f in (full, known))
    known = known.reindex(full.index)
    for name in config.features.all:
        changed = _changed(full[name], known[name])
        if changed.any():
            at = int(changed.argmax())
            flat = config.source.file
            place = flat.path if flat else model.file(config.source.sql)
            before, after = (show(name, _plain(frame[name].iloc[at])) for frame in (full, known))
            raise LeakFound(
                f"{place}: feature {name!r} uses data from after the prediction time (target "
                f"leakage). With everything hidden that became known after {cutoff.isoformat()}, earlier rows change: "
                f"{int(changed.sum()):,}, first {show(config.key, full.index[at])!r} "
                f"({before!r} becomes {after!r}). {FLAT_ADVICE if flat else SQL_ADVICE}"
            )
    return len(full) > 0


def _plain(value: Any) -> Any:
    """A number of NumPy as one of Python, for a message."""
    return value.item() if isinstance(value, np.generic) else value


def _changed(before: "pd.Series", after: "pd.Series") -> np.ndarray:
    """Where two columns differ. Two nulls are equal, and numbers may differ by rounding."""
    if before.dtype.kind == "f":
        return ~np.isclose(before.to_numpy(), after.to_numpy(), rtol=1e-9, atol=1e-12, equal_nan=True)
    return ((before != after) & ~(before.isna() & after.isna())).to_numpy(dtype=bool)
