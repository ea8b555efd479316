"""Estimate of a training's memory, checked before anything is read, and the sample for windows that are too large."""

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
"""Bytes of a value in a frame, and the number of copies of the rows at a training's peak: as read, joined with outcomes,
concatenated, as the model's inputs, and as its matrix. `benchmarks/training.py` compares the estimate with the measured peak."""


def require_memory(window: Window, res: Resources) -> None:
    """Require that a training window fits into this machine's memory. Rows are counted by the partitions' records.

    Raises:
        TooMuchData: The window is larger than EVERGREEN_WINDOW_ROWS or EVERGREEN_WINDOW_MB allows.
    """
    settings, max_rows = res.settings, res.config.training.window.max_rows
    counted = window_rows(window, res)
    rows = min(counted, max_rows) if max_rows else counted
    needed, budget = estimated_memory(rows, res.config), memory_budget(settings)
    message = f"{res.title}: the window {window.partitions[0]} to {window.partitions[-1]} has {counted:,} rows"
    action = "set training.window.max_rows in model.yaml to train on a seeded sample, or training.window.partitions to use fewer partitions"
    if max_rows is None and rows > settings.window_rows:
        raise TooMuchData(f"{message}, and EVERGREEN_WINDOW_ROWS allows {settings.window_rows:,}; {action}")
    if needed > budget:
        amount = f"{rows:,} of them" if max_rows else "them"
        raise TooMuchData(
            f"{message}; training on {amount} takes about {needed:,.3g} MB, and EVERGREEN_WINDOW_MB allows {budget:,.3g}; "
            + (f"lower training.window.max_rows ({max_rows:,}) in model.yaml" if max_rows else action)
        )


def window_rows(window: Window, res: Resources) -> int:
    """Count the valid rows of a window's partitions by their records."""
    return sum(res.lake.done(Stage.VALID, key).rows for key in window.partitions)


def estimated_memory(rows: int, config: ModelConfig) -> float:
    """Estimate the memory that a training on `rows` rows needs at its peak, in MB."""
    numbers = len(config.features.numeric) + 2  # time and outcome
    texts = len({*config.features.categorical, *config.groups, config.key})
    return rows * (numbers * NUMBER + texts * TEXT) * COPIES / 1e6


def memory_budget(settings: Settings) -> float:
    """Return the memory that a training may use in MB: EVERGREEN_WINDOW_MB, by default half of the machine's."""
    return settings.window_mb or psutil.virtual_memory().total / 2e6


def sample_rows(rows: "pd.DataFrame", ref: PartitionRef, count: int, seed: int) -> "pd.DataFrame":
    """Draw `count` of a partition's rows without replacement, in their order. Repeatable for the same rows, count and seed."""
    if count >= len(rows):
        return rows
    chosen = np.random.default_rng([seed, crc32(ref.key.encode())]).choice(len(rows), count, replace=False)
    return rows.iloc[np.sort(chosen)]


def allocate_sample(counts: Sequence[int], size: int) -> list[int]:
    """Split a sample of `size` rows over partitions in proportion to their rows, by the largest remainder method."""
    total = sum(counts)
    if total <= size:
        return list(counts)
    quotas = [count * size / total for count in counts]
    allocated = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(counts)), key=lambda at: (allocated[at] - quotas[at], at))
    for at in by_remainder[: size - sum(allocated)]:
        allocated[at] += 1
    return allocated
