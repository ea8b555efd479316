"""Whether this machine can hold a training's window, said before anything is read, and the sample where it cannot."""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
import psutil

from configs.schema import ModelConfig
from configs.settings import Settings
from tasks.contracts import PartitionRef, Stage, Window
from tasks.errors import TooMuchData
from tasks.resources import Resources

if TYPE_CHECKING:
    import pandas as pd

NUMBER, TEXT, COPIES = 8, 60, 5
"""Bytes of a value in a frame, and how many copies of the rows there are at a training's peak: as read, joined with their
outcomes, put together, as the model's inputs, and as its matrix. `benchmarks/training.py` holds the estimate to the measured peak."""


def require_memory(window: Window, res: Resources) -> None:
    """Refuse a window that is too large for this machine. Its records tell its rows, so nothing is read.

    Raises:
        TooMuchData: naming the rows, the budget and `training.window.max_rows`.
    """
    settings, most = res.settings, res.config.training.window.max_rows
    counted = rows_of(window, res)
    rows = min(counted, most) if most else counted
    needed, budget = memory_of(rows, res.config), memory_budget(settings)
    told = f"{res.title}: the window {window.partitions[0]} to {window.partitions[-1]} has {counted:,} rows"
    way_out = "set training.window.max_rows in model.yaml to learn from a seeded sample, or training.window.partitions to learn from fewer"
    if most is None and rows > settings.window_rows:
        raise TooMuchData(f"{told}, and EVERGREEN_WINDOW_ROWS allows {settings.window_rows:,}; {way_out}")
    if needed > budget:
        many = f"{rows:,} of them" if most else "them"
        raise TooMuchData(
            f"{told}; training on {many} takes some {needed:,.3g} MB, and EVERGREEN_WINDOW_MB allows {budget:,.3g}; "
            + (f"lower training.window.max_rows ({most:,}) in model.yaml" if most else way_out)
        )


def rows_of(window: Window, res: Resources) -> int:
    """The valid rows of a window's partitions, by their records."""
    return sum(res.lake.done(Stage.VALID, key).rows for key in window.partitions)


def memory_of(rows: int, config: ModelConfig) -> float:
    """MB that a training on so many rows needs at its peak, about."""
    numbers = len(config.features.numeric) + 2  # time and outcome
    texts = len({*config.features.categorical, *config.groups, config.key})
    return rows * (numbers * NUMBER + texts * TEXT) * COPIES / 1e6


def memory_budget(settings: Settings) -> float:
    """MB that a training may plan with: what the setting says, else half of what the machine has."""
    return settings.window_mb or psutil.virtual_memory().total / 2e6


def sampled(rows: "pd.DataFrame", ref: PartitionRef, count: int, seed: int) -> "pd.DataFrame":
    """So many of a partition's rows, in their order; the same rows, count and seed give the same ones."""
    if count >= len(rows):
        return rows
    chosen = np.random.default_rng([seed, crc32(ref.key.encode())]).choice(len(rows), count, replace=False)
    return rows.iloc[np.sort(chosen)]


def allotted(counts: Sequence[int], most: int) -> list[int]:
    """How many rows of each partition make a sample of `most`: by their shares, what is left over to the largest remainders."""
    total = sum(counts)
    if total <= most:
        return list(counts)
    shares = [count * most / total for count in counts]
    found = [int(share) for share in shares]
    largest = sorted(range(len(counts)), key=lambda at: (found[at] - shares[at], at))
    for at in largest[: most - sum(found)]:
        found[at] += 1
    return found
