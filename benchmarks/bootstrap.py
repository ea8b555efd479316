"""The gate's bounds of a gain, 2,000 resamples of whole days on 30,000 rows, beside the plainest matrix form of that bootstrap."""

import numpy as np

from benchmarks.harness import Row, here, in_turns, row
from tasks.models.bootstrap import draw_blocks, paired_gain

ROWS, DAYS, RESAMPLES, CALLS = 30_000, 30, 2_000, 20


def rows() -> list[Row]:
    rng = np.random.default_rng(0)
    one, two, days = rng.random(ROWS), rng.random(ROWS), np.sort(rng.integers(0, DAYS, ROWS))

    def plain() -> None:
        """Sums of blocks, how often each is drawn as a matrix, resampled means, their percentiles; no studentising."""
        sums, counts = np.bincount(days, weights=one - two), np.bincount(days)
        draws = draw_blocks(DAYS, RESAMPLES, 0)
        np.quantile((draws @ sums) / (draws @ counts), [0.05, 0.95])

    def ours() -> None:
        paired_gain(one, two, days, 0.9, RESAMPLES, 0)

    found = in_turns(here(lambda: [ours() for _ in range(CALLS)]), here(lambda: [plain() for _ in range(CALLS)]))
    subject = f"gate: bootstrap of {RESAMPLES:,} resamples on {ROWS:,} rows"
    return [row(subject, "NumPy matrix form, percentiles only", *found, aim=1.5)]
