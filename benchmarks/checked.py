"""Our drift check alone: the steps sketch and watch of a partition, without the page."""

from typing import TYPE_CHECKING

from benchmarks.generated import features, model
from tasks.drift.alarms import MISSING, NEW, OUTSIDE, Check, check
from tasks.drift.columns import methods
from tasks.drift.sketches import Sketch, sketch
from tasks.storage.blocks import block_categories

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = 20


def sketch_by_day(frame: "pd.DataFrame") -> Sketch:
    """Return a sketch by day, as the step sketch makes it."""
    config = model().config
    blocks = block_categories(frame[config.time], "D", config.partition.timezone)
    return sketch(frame, blocks, features(COLUMNS), config.features.categorical)


def check_partition(stored: Sketch, current: "pd.DataFrame") -> Check:
    """Run the drift check of a partition against a stored sketch, without the page."""
    config = model().config
    rules = config.monitoring
    chosen = {n: m for n, m in methods(config).items() if n in features(COLUMNS)}
    effects = {MISSING: rules.missing, NEW: rules.new_categories, OUTSIDE: rules.outside}
    return check(stored, sketch_by_day(current), chosen, effects, alpha=rules.alpha, resamples=rules.resamples)
