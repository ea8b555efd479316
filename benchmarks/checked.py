"""Our drift check by itself: what the sketch stage and the watch stage do for a partition, without the page."""

from typing import TYPE_CHECKING

from benchmarks.generated import features, model
from tasks.drift.alarms import MISSING, NEW, OUTSIDE, Check, check
from tasks.drift.columns import methods
from tasks.drift.sketches import Sketch, sketch
from tasks.storage.blocks import block_categories

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = 20


def counted(frame: "pd.DataFrame") -> Sketch:
    """A sketch by day, as the sketch stage makes it."""
    config = model().config
    blocks = block_categories(frame[config.time], "D", config.partition.timezone)
    return sketch(frame, blocks, features(COLUMNS), config.features.categorical)


def checked(stored: Sketch, current: "pd.DataFrame") -> Check:
    """What the sketch stage and the watch stage do for a partition, without the page."""
    config = model().config
    rules = config.monitoring
    chosen = {n: m for n, m in methods(config).items() if n in features(COLUMNS)}
    effects = {MISSING: rules.missing, NEW: rules.new_categories, OUTSIDE: rules.outside}
    return check(stored, counted(current), chosen, effects, alpha=rules.alpha, resamples=rules.resamples)
