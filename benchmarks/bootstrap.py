"""The gate's bounds of a gain, 2,000 resamples of whole days on 30,000 rows, and the simplest matrix form of that bootstrap."""

from collections.abc import Callable

import numpy as np

from benchmarks.harness import Row, in_this_process, in_turns, row
from tasks.models.bootstrap import draw_blocks, paired_gain

ROWS, DAYS, RESAMPLES, CALLS = 30_000, 30, 2_000, 20


def rows() -> list[Row]:
    rng = np.random.default_rng(0)
    one, two, days = rng.random(ROWS), rng.random(ROWS), np.sort(rng.integers(0, DAYS, ROWS))

    def plain() -> None:
        """Resample the mean by matrix products of block sums and draw counts, and take percentiles, without studentising."""
        sums, counts = np.bincount(days, weights=one - two), np.bincount(days)
        draws = draw_blocks(DAYS, RESAMPLES, 0)
        np.quantile((draws @ sums) / (draws @ counts), [0.05, 0.95])

    def ours() -> None:
        paired_gain(one, two, days, 0.9, RESAMPLES, 0)

    def repeat(call: Callable[[], None]) -> None:
        for _ in range(CALLS):
            call()

    mine, other = in_turns(in_this_process(lambda: repeat(ours)), in_this_process(lambda: repeat(plain)))
    subject = f"gate: bootstrap of {RESAMPLES:,} resamples on {ROWS:,} rows"
    return [row(subject, "NumPy matrix form, percentiles only", mine, other, aim=1.5)]
