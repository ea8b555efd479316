"""A change that is judged again and again: pool the evidence of all its tests, and spend the error rate over them.

Each training of a change has a new holdout. The gains of its days are added to those of earlier trainings of the same change, a day only
once. Test k uses the share 1 / (k (k + 1)) of the declared error rate. The shares add up to 1, so by the union bound an equal change
passes at least one of any number of tests with at most the declared probability, however dependent the tests are (alpha spending:
Lan and DeMets 1983, Biometrika 70(3)).
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np

from configs.schema import ModelConfig
from tasks.contracts import Comparison, Promotion
from tasks.ledger.history import earlier_gains
from tasks.models.bootstrap import mean_bounds


def confidence_of_test(confidence: float, test: int) -> float:
    """Return the one-sided confidence of the bound in a test, of which the first has number 1."""
    return 1 - (1 - confidence) / (test * (test + 1))


def pool_tests(comparison: Comparison, rows: Sequence[Promotion], config: ModelConfig, as_of: datetime) -> Comparison:
    """Return the comparison of a change with the gain over all tests of it so far.

    Args:
        comparison: The newest test.
        rows: The model's promotions, oldest first.
        config: The model's config.
        as_of: As-of of the test. Tests as of later moments do not count.
    """
    rules, earlier = config.gate.gain, earlier_gains(comparison.change, rows, as_of)
    mine = [list(gain) for gain in comparison.gains]
    tests = [*(gains for gains in earlier if gains != mine), mine]
    pooled: dict[float, tuple[float, float]] = {}
    for block, count, total in (entry for entries in tests for entry in entries):
        pooled.setdefault(block, (count, total))
    comparison = replace(comparison, tests=len(tests))
    if len(pooled) < rules.min_blocks or not mine:
        return comparison
    counts, sums = np.array([pooled[block] for block in sorted(pooled)], dtype="float64").T
    confidence = confidence_of_test(rules.confidence, len(tests))
    gain = mean_bounds(sums, counts, confidence, rules.resamples, config.training.seed)
    return replace(comparison, gain=gain, blocks=len(pooled), impossible="")
