"""What a replay found: costs, gains and advice, from plays made by hand."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy import stats

from configs.load import load_model
from tasks.contracts import Decision, PartitionResult, PolicyRun
from tasks.replay.oracle import Table
from tasks.replay.policies import LIVE, NEVER
from tasks.replay.standings import UNCLEAR, compare, find, mean_of

START, ROWS = datetime(2024, 3, 1, tzinfo=UTC), 100


@pytest.fixture
def config(tiny):
    return load_model("tiny").config


def play(name: str, losses: list[float], retrained: tuple[int, ...] = (), noise: int = 0) -> PolicyRun:
    """A play of so many partitions with ten blocks each; it retrained after some of them."""
    rng = np.random.default_rng(noise)
    steps = []
    for at, loss in enumerate(losses):
        sums = loss * 10 + rng.normal(0, 0.2, 10)
        blocks = tuple((10 * at + b, 10.0, float(s)) for b, s in enumerate(sums))
        metrics = {"log_loss": float(sums.sum() / ROWS), "accuracy": 0.8}
        steps.append(PartitionResult(f"p{at}", START + timedelta(days=at), "1", ROWS, metrics, {}, blocks))
    decisions = [
        Decision(
            f"{name}{at}",
            "tiny",
            steps[at].as_of,
            "retrain",
            "due",
            "",
            outcome="refused" if at % 2 else "promoted",
            seconds=3.0,
        )
        for at in retrained
    ]
    return PolicyRun(name, tuple(steps), (), tuple(decisions), (), ())


def test_the_cost_is_the_loss_and_what_retrainings_cost_a_partition(config):
    plays = [play(LIVE, [0.5] * 8, (0, 1, 7)), play(NEVER, [0.6] * 8)]
    found = find(plays, None, "log_loss", 0.08, config)
    live, never = (next(s for s in found.standings if s.policy == name) for name in (LIVE, NEVER))
    assert (live.retrainings, live.refused, live.seconds) == (2, 1, 6.0), "the one after the last serves nothing"
    assert live.cost == pytest.approx(mean_of(plays[0], "log_loss") + 0.08 * 2 / 8)
    assert live.area == pytest.approx(live.cost), "the range of costs is twice the cost, and the cost is linear"
    assert live.gain_each == pytest.approx((mean_of(plays[1], "log_loss") - mean_of(plays[0], "log_loss")) / 2)
    assert never.gain_each is None
    assert [s.policy for s in found.standings] == [LIVE, NEVER]


def test_a_metric_that_is_better_when_higher_is_shown_as_it_is(config):
    one = play(LIVE, [0.5] * 4)
    better = replace(one, policy="better", steps=tuple(replace(s, metrics={"accuracy": 0.9}) for s in one.steps))
    found = find([one, better], None, "accuracy", 0.0, config)
    assert [(s.policy, s.mean) for s in found.standings] == [("better", pytest.approx(0.9)), (LIVE, pytest.approx(0.8))]


def test_partitions_weigh_by_their_rows_and_what_has_no_outcomes_does_not_count(config):
    one = play(LIVE, [0.2, 0.8])
    steps = (
        replace(one.steps[0], rows=300),
        one.steps[1],
        PartitionResult("p2", START + timedelta(days=2), "1", note="no outcomes"),
    )
    a, b = (s.metrics["log_loss"] for s in one.steps)
    assert mean_of(replace(one, steps=steps), "log_loss") == pytest.approx((300 * a + 100 * b) / 400)


def test_the_paired_gain_is_about_students_over_blocks(config):
    """Blocks are equal, so the mean is the blocks' mean, and the bounds are no narrower than Student's."""
    one, other = play("a", [0.5] * 6, noise=1), play("b", [0.52] * 6, noise=2)
    found = compare(one, other, config)
    sums = [[loss for step in p.steps for _, _, loss in step.blocks] for p in (one, other)]
    differences = (np.array(sums[1]) - np.array(sums[0])) / 10
    low, high = stats.t.interval(0.95, len(differences) - 1, differences.mean(), stats.sem(differences))
    assert found.value == pytest.approx(differences.mean())
    assert found.lower <= low
    assert found.upper >= high
    assert found.upper - found.lower < 2 * (high - low)


def test_the_advice_is_chosen_on_the_first_half_and_confirmed_on_the_rest(config):
    steady, held, lucky = (
        play(LIVE, [0.5] * 8, noise=1),
        play("held", [0.4] * 8, noise=2),
        play("lucky", [0.3] * 4 + [0.7] * 4, noise=3),
    )
    found = find([steady, held], None, "log_loss", 0.0, config).advice
    assert (found.policy, found.against, found.verdict) == ("held", LIVE, "better")
    assert (found.first, found.rest) == (("p0", "p3"), ("p4", "p7"))
    assert find([steady, held, lucky], None, "log_loss", 0.0, config).advice.verdict == "worse"
    same = play("same", [0.499] * 8, noise=4)
    assert find([steady, same], None, "log_loss", 0.0, config).advice.verdict == UNCLEAR
    dear = play("dear", [0.45] * 8, (0, 1, 2), noise=2)
    assert find([steady, dear], None, "log_loss", 1.0, config).advice.policy == LIVE


def test_the_advice_counts_what_retrainings_cost_on_the_rest_too(config):
    """Never is a little worse and costs nothing: chosen, and better once the price is high enough."""
    live, never = play(LIVE, [0.5] * 8, tuple(range(8)), noise=1), play(NEVER, [0.52] * 8, noise=2)
    assert find([live, never], None, "log_loss", 0.0, config).advice.policy == LIVE
    dear = find([live, never], None, "log_loss", 0.2, config).advice
    assert (dear.policy, dear.against, dear.verdict) == (NEVER, LIVE, "better")
    assert dear.gain.value == pytest.approx(compare(never, live, config, ["p4", "p5", "p6", "p7"]).value + 0.2 * 3 / 4)


def test_where_metric_and_judged_loss_disagree_there_is_no_clear_difference(config):
    live, other = play(LIVE, [0.5] * 8, noise=1), play("other", [0.4] * 8, noise=2)
    first, rest = ({"accuracy": 0.9}, {"accuracy": 0.7})
    steps = tuple(replace(s, metrics=first if at < 4 else rest) for at, s in enumerate(other.steps))
    advice = find([live, replace(other, steps=steps)], None, "accuracy", 0.0, config).advice
    assert advice.policy == "other"
    assert advice.gain.lower > 0
    assert advice.verdict == UNCLEAR


def test_without_a_cost_or_an_oracle_the_range_of_costs_ends_where_the_best_retrainings_pay_no_more(config):
    found = find([play(LIVE, [0.5] * 8, (0, 1)), play(NEVER, [0.6] * 8, noise=0)], None, "log_loss", 0.0, config)
    assert found.costs == (0.0, pytest.approx(0.1 * 8 / 2))


def test_regret_is_above_the_oracles_cost_which_counts_its_own_retrainings(config):
    values = np.array([[0.5, 0.6, 0.7], [np.nan, 0.4, 0.5], [np.nan, np.nan, 0.3]])
    found = tuple(tuple(None if np.isnan(v) else ({"log_loss": float(v)}, ROWS, []) for v in line) for line in values)
    table = Table((START,) * 3, ("p0", "p1", "p2"), found)
    free = find([play(LIVE, [0.5, 0.6, 0.7])], table, "log_loss", 0.0, config)
    assert free.oracle.trainings == (1, 2)
    assert free.standings[0].regret == pytest.approx(free.standings[0].cost - (0.5 + 0.4 + 0.3) / 3)
    dear = find([play(LIVE, [0.5, 0.6, 0.7])], table, "log_loss", 0.3, config)
    assert dear.oracle.trainings == (1,), "the second gains .2 and costs .3"
