"""A decay is a significant and relevant rise of the loss. If the rise cannot be judged, there is no decay."""

from datetime import UTC, datetime

import numpy as np
import pytest

from configs.monitoring import Decay
from tasks.contracts import Action, Interval, Promotion, Recipe, Record, Stage, Version
from tasks.models.bootstrap import block_sums, mean_bounds
from tasks.models.metrics import LEVEL
from tasks.steps.decay import judge_rise, losses_by_block, pool_blocks, scorecard_loss

AS_OF = datetime(2013, 4, 2, tzinfo=UTC)
EXPECTED = Interval(0.40, 0.38, 0.42)
RULES = Decay(least=0.05, min_rows=100)


def test_a_significant_and_relevant_rise_is_a_decay():
    result = judge_rise(Interval(0.50, 0.47, 0.53), EXPECTED, 1000, RULES)
    assert result["rise"] == pytest.approx(0.10)
    assert result["lower"] == pytest.approx(0.10 - (0.03**2 + 0.02**2) ** 0.5)
    assert (result["detected"], result["note"]) == (True, "")


@pytest.mark.parametrize(
    ("loss", "expected", "rows", "note"),
    [
        (Interval(0.43, 0.39, 0.47), EXPECTED, 1000, ""),
        (Interval(0.415, 0.414, 0.416), Interval(0.40, 0.399, 0.401), 1000, ""),
        (Interval(0.35, 0.34, 0.36), EXPECTED, 1000, ""),
        (Interval(0.50, 0.47, 0.53), EXPECTED, 99, "min_rows"),
        (Interval(0.50, float("nan"), float("nan")), EXPECTED, 1000, "too few blocks"),
        (Interval(0.50, float("-inf"), float("inf")), EXPECTED, 1000, "too few blocks"),
        (Interval(0.50, 0.47, 0.53), None, 1000, "no loss of this version"),
    ],
    ids=["not significant", "not relevant", "better", "few rows", "one block", "equal blocks", "no expected loss"],
)
def test_no_decay_is_detected_without_evidence_and_the_note_has_the_reason(loss, expected, rows, note):
    result = judge_rise(loss, expected, rows, RULES)
    assert result["detected"] is False
    assert note in result["note"]


def test_the_false_alarm_rate_of_equal_losses_is_at_most_the_stated_one():
    """Two samples of days from the same distribution. The level is one-sided 97.5 %, and the least rise is close to 0."""
    rng, runs, alarms = np.random.default_rng(0), 400, 0
    for run in range(runs):
        sums, rows = rng.gamma(4, 0.1, 44) * 100, np.full(44, 100.0)
        one, two = (mean_bounds(sums[s], rows[s], LEVEL, 400, run) for s in (slice(0, 30), slice(30, 44)))
        alarms += judge_rise(one, two, 3000, Decay(least=1e-9))["detected"]
    assert alarms / runs < 0.025 + 3 * (0.025 * 0.975 / runs) ** 0.5


def version(number: str, judged_as: str = "") -> Version:
    return Version("m", number, "r", "d", AS_OF, AS_OF, AS_OF, Recipe("a", "xgboost", {}), (0.2,), 100, judged_as)


def row(number: str, action: Action, scorecards: dict) -> Promotion:
    return Promotion("m", 1, action, number, None, AS_OF, AS_OF, "evergreen", "", {"scorecards": scorecards})


def card(loss: float) -> dict:
    return {"metrics": {"log_loss": loss}, "intervals": {"log_loss": [loss - 0.02, loss + 0.02]}}


def test_the_loss_at_promotion_is_on_the_newest_scorecard_of_the_version_or_of_the_version_it_refits():
    rows = [
        row("2", "refuse", {"2": card(0.9)}),
        row("3", "stage", {"2": card(0.40), "1": card(0.8), "prior": card(0.7)}),
    ]
    assert scorecard_loss(version("3", "2"), "log_loss", rows) == Interval(
        0.40, pytest.approx(0.38), pytest.approx(0.42)
    )
    rows.append(row("3", "promote", {"3": card(0.45), "1": card(0.8)}))
    assert scorecard_loss(version("3", "2"), "log_loss", rows).value == 0.45
    assert scorecard_loss(version("4"), "log_loss", rows) is None
    assert scorecard_loss(version("3", "2"), "rmse", rows) is None


def record(blocks: list) -> Record:
    return Record("m", Stage.PERFORMANCE, "p", AS_OF, 1, "done", 0, "", {}, {"blocks": blocks})


def test_a_block_that_spans_partitions_counts_once():
    """For example, a week in seven daily partitions is one block."""
    rows, sums = pool_blocks([record([[7, 10, 5.0], [8, 4, 1.0]]), record([[7, 20, 4.0]]), record([])])
    assert (rows.tolist(), sums.tolist()) == ([30, 4], [9.0, 1.0])


def test_the_interval_follows_from_the_losses_by_block():
    rng = np.random.default_rng(1)
    losses, blocks = rng.random(200), rng.integers(5, 12, 200)
    recorded = losses_by_block(losses, blocks)
    assert [b for b, _, _ in recorded] == sorted(set(blocks.tolist()))
    rows, sums = (np.array([block[at] for block in recorded], dtype=float) for at in (1, 2))
    assert mean_bounds(sums, rows, LEVEL, 200, 0) == mean_bounds(*block_sums(losses, blocks), LEVEL, 200, 0)
    assert losses_by_block(np.empty(0), np.empty(0, int)) == []
