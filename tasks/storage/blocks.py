"""Blocks of time: rows of one are taken as dependent, another is what a further sample would bring."""

from typing import TYPE_CHECKING

import numpy as np

from configs.base import Every
from configs.schema import ModelConfig
from tasks.storage.partitions import floor, format_key

if TYPE_CHECKING:
    import pandas as pd


def block_numbers(times: "pd.Series", every: Every, zone: str) -> np.ndarray:
    """The block of each row as a number that grows with time; `times` are aware, blocks are the zone's, hours UTC."""
    # local hours can occur twice, so hours are UTC
    local = times.dt.tz_convert("UTC" if every == "H" else zone).dt.tz_localize(None)
    freq = {"H": "h", "W": "W-SUN"}.get(every, every)
    return local.dt.to_period(freq).astype("int64").to_numpy()


def block_categories(times: "pd.Series", every: Every, zone: str) -> "pd.Categorical":
    """The block of each row by its name as a partition's (`2013-05-14`), as one of those that occur; they ascend."""
    import pandas as pd

    position, numbers = pd.factorize(block_numbers(times, every, zone), sort=True)
    first = np.full(len(numbers), len(position))
    np.minimum.at(first, position, np.arange(len(position)))
    local = pd.DatetimeIndex(times.iloc[first]).tz_convert("UTC" if every == "H" else zone).tz_localize(None)
    names = [format_key(floor(moment.to_pydatetime(), every), every) for moment in local]
    return pd.Categorical.from_codes(position, names, ordered=True)


def block_names(times: "pd.Series", every: Every, zone: str) -> np.ndarray:
    """The same as text, `(rows,)`."""
    return np.asarray(block_categories(times, every, zone), dtype=str)


def labelled_blocks(rows: "pd.DataFrame", config: ModelConfig) -> np.ndarray:
    """The block of time of each row, by `gate.gain.block` in the model's time zone, as a number that grows with time."""
    return block_numbers(rows[config.time], config.gate.gain.block, config.partition.timezone)
