"""Rows of partitions as frames: some of them, and several together."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tasks.errors import MissingFeature

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


def filter_rows(rows: "pd.DataFrame", which: "pd.Series | np.ndarray") -> "pd.DataFrame":
    """The rows that a mask without NA names; where that is all of them, as mostly, the frame itself and no copy."""
    return rows if which.all() else rows[which]


def concatenate(frames: "Sequence[pd.DataFrame]", wanted: Iterable[str]) -> "pd.DataFrame":
    """The rows of several partitions as one frame.

    Raises:
        MissingFeature: some of them have a column of `wanted` and others do not, which would be nulls in one frame.
    """
    import pandas as pd

    held = [frame for frame in frames if len(frame)] or list(frames)
    for name in wanted:
        if len({name in frame for frame in held}) > 1:
            raise MissingFeature(
                f"some of these partitions have {name} and others do not; `backfill` the older ones with mode=stale, or put "
                f"it back into model.yaml, in `features.retired`"
            )
    return pd.concat(held, ignore_index=True)
