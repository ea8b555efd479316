"""Blocks of time: rows of one are taken as dependent, another is what a further sample would bring. Imports no Prefect."""

from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from configs.base import Every
from tasks.partitions import floor, format_key

if TYPE_CHECKING:
    import pandas as pd


def block_numbers(times: "pd.Series", every: Every, zone: str) -> np.ndarray:
    """The block of each row as a number that grows with time; `times` are aware, blocks are the zone's, hours UTC."""
    # local hours can occur twice, so hours are UTC
    local = times.dt.tz_convert("UTC" if every == "H" else zone).dt.tz_localize(None)
    freq = {"H": "h", "W": "W-SUN"}.get(every, every)
    return local.dt.to_period(freq).astype("int64").to_numpy()


def block_names(times: "pd.Series", every: Every, zone: str) -> np.ndarray:
    """The block of each row by its name as a partition's (`2013-05-14`); names sort as the blocks do."""
    import pandas as pd

    _, first, position = np.unique(block_numbers(times, every, zone), return_index=True, return_inverse=True)
    local = pd.DatetimeIndex(times.iloc[first]).tz_convert("UTC" if every == "H" else zone).tz_localize(None)
    starts: list[datetime] = [floor(moment.to_pydatetime(), every) for moment in local]
    return (
        np.array([format_key(start, every) for start in starts], dtype=str)[position]
        if len(first)
        else np.empty(0, str)
    )
