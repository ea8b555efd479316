"""A decay is a significant and relevant fall of skill. If it cannot be judged, there is no decay."""

from datetime import UTC, datetime

import numpy as np
import pytest

from configs.monitoring import Decay
from configs.target import Target
from tasks.contracts import Action, Interval, Period, Promotion, Recipe, Record, Stage, Version
from tasks.models.bootstrap import block_sums, mean_bounds
from tasks.models.metrics import LEVEL
from tasks.steps.decay import judge_period, judge_rise, losses_by_block, scorecard_loss
from tasks.steps.periods import block_totals, join_periods, period_of, staged_periods

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


BINARY = Target(column="y", delay="1D")


def days(rng: np.random.Generator, count: int, level: float = 0.8, share: float = 0.25, spread: float = 0.08) -> Period:
    """Days of 500 rows with autocorrelated base rates and losses: on average `level` of that of the day's own prior."""
    noise = np.zeros((2, count))
    for day in range(count):
        noise[:, day] = 0.6 * noise[:, day - 1] * (day > 0) + 0.8 * rng.normal(0, 1, 2)
    p = share * np.exp(0.3 * noise[0])
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p))
    losses = 500 * entropy * level * (1 + spread * noise[1])
    return Period(
        tuple((day, 500, float(loss)) for day, loss in enumerate(losses)), tuple((float(500 * x),) for x in p)
    )


def test_a_base_rate_that_moves_is_no_decay_and_a_fall_of_skill_is_one():
    """The days of 40 % have a loss that is a quarter higher than those of 25 %, and the same skill."""
    rng = np.random.default_rng(5)
    references = [days(rng, 14) for _ in range(4)]
    moved = judge_period(days(rng, 14, share=0.42), references, BINARY, RULES)
    assert moved["rise"] > 0.1 * moved["expected"]
    assert (moved["detected"], moved["judged_by"], moved["note"]) == (False, "skill", "")
    assert moved["skill"] == pytest.approx(moved["expected_skill"], abs=0.05)
    fallen = judge_period(days(rng, 14, level=0.95), references, BINARY, RULES)
    assert fallen["detected"]
    assert fallen["expected_skill"] == pytest.approx(0.2, abs=0.05)
    assert fallen["skill"] == pytest.approx(0.05, abs=0.05)
    assert fallen["skill_lower"] < fallen["expected_skill"] - fallen["skill"]


def test_periods_that_differ_among_themselves_raise_the_threshold():
    """Fortnights at 0.6, 0.8 and 1.0 of their prior's loss: another one at 0.95 is nothing new, and it is after three at 0.8."""
    rng = np.random.default_rng(6)
    current = days(rng, 14, level=0.95)
    alike, unlike = ([days(rng, 14, level) for level in levels] for levels in ((0.8, 0.8, 0.8), (0.6, 0.8, 1.0)))
    assert judge_period(current, alike, BINARY, RULES)["detected"]
    assert not judge_period(current, unlike, BINARY, RULES)["detected"]


def test_the_false_alarm_rate_of_an_unchanging_world_is_near_the_stated_one():
    """Days resemble their neighbours, the base rate moves, and any rise is relevant."""
    rng, runs = np.random.default_rng(7), 400
    alarms = sum(
        judge_period(days(rng, 7), [days(rng, 14) for _ in range(4)], BINARY, Decay(least=1e-9))["detected"]
        for _ in range(runs)
    )
    assert alarms / runs < 0.025 + 3 * (0.025 * 0.975 / runs) ** 0.5


def test_a_period_without_outcomes_is_judged_by_its_loss_and_one_block_not_at_all():
    rng = np.random.default_rng(8)
    references = [days(rng, 14) for _ in range(4)]
    old = judge_period(Period(days(rng, 14, level=1.2).blocks), references, BINARY, RULES)
    assert (old["judged_by"], old["detected"]) == ("loss", True)
    assert "skill" not in old
    one = judge_period(days(rng, 1, level=1.2), references, BINARY, RULES)
    assert (one["detected"], one["note"]) == (False, "the loss cannot be judged: too few blocks")


def test_the_periods_of_a_version_are_read_from_the_row_that_staged_it():
    periods = [{"blocks": [[1, 10, 5.0]], "outcomes": [[3.0]], "estimated": [4.0]}]
    staged = Promotion("m", 1, "stage", "3", None, AS_OF, AS_OF, "evergreen", "", {"references": periods})
    rows = [staged, row("3", "promote", {}), row("4", "stage", {})]
    assert staged_periods("3", rows) == [Period(((1, 10, 5.0),), ((3.0,),), (4.0,))]
    assert staged_periods("4", rows) == []


def record(blocks: list) -> Record:
    return Record("m", Stage.PERFORMANCE, "p", AS_OF, 1, "done", 0, "", {}, {"blocks": blocks})


def test_a_block_that_spans_partitions_counts_once():
    """For example, a week in seven daily partitions is one block."""
    records = [record([[7, 10, 5.0], [8, 4, 1.0]]), record([[7, 20, 4.0]]), record([])]
    rows, sums = block_totals(join_periods([period_of(r) for r in records]))
    assert (rows.tolist(), sums.tolist()) == ([30, 4], [9.0, 1.0])


def test_the_interval_follows_from_the_losses_by_block():
    rng = np.random.default_rng(1)
    losses, blocks = rng.random(200), rng.integers(5, 12, 200)
    recorded = losses_by_block(losses, blocks)
    assert [b for b, _, _ in recorded] == sorted(set(blocks.tolist()))
    rows, sums = (np.array([block[at] for block in recorded], dtype=float) for at in (1, 2))
    assert mean_bounds(sums, rows, LEVEL, 200, 0) == mean_bounds(*block_sums(losses, blocks), LEVEL, 200, 0)
    assert losses_by_block(np.empty(0), np.empty(0, int)) == []
