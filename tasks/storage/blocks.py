"""Blocks of time: rows of one block are treated as dependent, blocks as independent units of a sample."""

from typing import TYPE_CHECKING

import numpy as np

from configs.base import Every
from configs.schema import ModelConfig
from tasks.storage.partitions import floor, format_key

if TYPE_CHECKING:
    import pandas as pd


def block_numbers(times: "pd.Series", every: Every, zone: str) -> np.ndarray:
    """The block of each row as a number that grows with time, int64 `(rows,)`.

    Args:
        times: Aware times, `(rows,)`.
        every: Length of a block.
        zone: Blocks start at midnight in this time zone. Hours are UTC, because local hours can occur twice.
    """
    local = times.dt.tz_convert("UTC" if every == "H" else zone).dt.tz_localize(None)
    freq = {"H": "h", "W": "W-SUN"}.get(every, every)
    return local.dt.to_period(freq).astype("int64").to_numpy()


def block_categories(times: "pd.Series", every: Every, zone: str) -> "pd.Categorical":
    """The block of each row by its name, such as `2013-05-14`. Categories are the blocks that occur, ascending."""
    import pandas as pd

    codes, numbers = pd.factorize(block_numbers(times, every, zone), sort=True)
    first = np.full(len(numbers), len(codes))
    np.minimum.at(first, codes, np.arange(len(codes)))
    local = pd.DatetimeIndex(times.iloc[first]).tz_convert("UTC" if every == "H" else zone).tz_localize(None)
    names = [format_key(floor(time.to_pydatetime(), every), every) for time in local]
    return pd.Categorical.from_codes(codes, names, ordered=True)


def block_names(times: "pd.Series", every: Every, zone: str) -> np.ndarray:
    """The same as `block_categories`, as an array of str, `(rows,)`."""
    return np.asarray(block_categories(times, every, zone), dtype=str)


def labelled_blocks(rows: "pd.DataFrame", config: ModelConfig) -> np.ndarray:
    """The block of each row by `gate.gain.block`, in the model's time zone, as a number that grows with time."""
    return block_numbers(rows[config.time], config.gate.gain.block, config.partition.timezone)
