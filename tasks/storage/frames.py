"""Filter and concatenate frames of partitions."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tasks.errors import MissingFeature

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


def filter_rows(rows: "pd.DataFrame", which: "pd.Series | np.ndarray") -> "pd.DataFrame":
    """The rows that a mask without NA selects. If it selects all, the frame itself and not a copy."""
    return rows if which.all() else rows[which]


def concatenate(frames: "Sequence[pd.DataFrame]", required: Iterable[str]) -> "pd.DataFrame":
    """The rows of several partitions as one frame.

    Raises:
        MissingFeature: some partitions have a column of `required` and others do not. It would be null in their rows.
    """
    import pandas as pd

    parts = [frame for frame in frames if len(frame)] or list(frames)
    for name in required:
        if len({name in frame for frame in parts}) > 1:
            raise MissingFeature(
                f"some of these partitions have {name} and others do not; run `backfill` with mode=stale for the older ones, or "
                f"put it back into model.yaml, in `features.retired`"
            )
    return pd.concat(parts, ignore_index=True)
