"""Evaluation of a replay: costs, gains and advice of constructed policy runs."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy import stats

from configs.load import load_model
from tasks.contracts import Decision, PartitionResult, PolicyRun
from tasks.replay.oracle import TrainingTable
from tasks.replay.policies import LIVE, NEVER
from tasks.replay.standings import UNCLEAR, compare, evaluate_policies, highest_gain_per_retraining, mean_loss

START, ROWS = datetime(2024, 3, 1, tzinfo=UTC), 100


@pytest.fixture
def config(tiny):
    return load_model("tiny").config


def policy_run(name: str, losses: list[float], retrained: tuple[int, ...] = (), seed: int = 0) -> PolicyRun:
    """Return a run with these mean losses, ten blocks a partition, and retrainings after some partitions."""
    rng = np.random.default_rng(seed)
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


def test_the_cost_is_the_loss_plus_the_cost_of_retrainings_per_partition(config):
    runs = [policy_run(LIVE, [0.5] * 8, (0, 1, 7)), policy_run(NEVER, [0.6] * 8)]
    findings = evaluate_policies(runs, None, "log_loss", 0.08, config)
    live, never = (next(s for s in findings.standings if s.policy == name) for name in (LIVE, NEVER))
    assert (live.retrainings, live.refused, live.seconds) == (2, 1, 6.0), (
        "the version of the last training scores no partition"
    )
    assert live.cost == pytest.approx(mean_loss(runs[0], "log_loss") + 0.08 * 2 / 8)
    assert live.area == pytest.approx(live.cost), "the range of costs is twice the cost, and the cost is linear"
    assert live.gain_each == pytest.approx((mean_loss(runs[1], "log_loss") - mean_loss(runs[0], "log_loss")) / 2)
    assert never.gain_each is None
    assert [s.policy for s in findings.standings] == [LIVE, NEVER]


def test_a_metric_that_is_better_when_higher_is_not_shown_as_a_loss(config):
    one = policy_run(LIVE, [0.5] * 4)
    better = replace(one, policy="better", steps=tuple(replace(s, metrics={"accuracy": 0.9}) for s in one.steps))
    findings = evaluate_policies([one, better], None, "accuracy", 0.0, config)
    assert [(s.policy, s.mean) for s in findings.standings] == [
        ("better", pytest.approx(0.9)),
        (LIVE, pytest.approx(0.8)),
    ]


def test_partitions_are_weighted_by_their_rows_and_those_without_outcomes_are_left_out(config):
    one = policy_run(LIVE, [0.2, 0.8])
    steps = (
        replace(one.steps[0], rows=300),
        one.steps[1],
        PartitionResult("p2", START + timedelta(days=2), "1", note="no outcomes"),
    )
    a, b = (s.metrics["log_loss"] for s in one.steps)
    assert mean_loss(replace(one, steps=steps), "log_loss") == pytest.approx((300 * a + 100 * b) / 400)


def test_the_interval_of_the_paired_gain_is_close_to_students_t_over_blocks(config):
    """Blocks have equal sizes, so the mean is the blocks' mean, and the bounds are not narrower than Student's."""
    one, other = policy_run("a", [0.5] * 6, seed=1), policy_run("b", [0.52] * 6, seed=2)
    gain = compare(one, other, config)
    sums = [[loss for step in p.steps for _, _, loss in step.blocks] for p in (one, other)]
    differences = (np.array(sums[1]) - np.array(sums[0])) / 10
    low, high = stats.t.interval(0.95, len(differences) - 1, differences.mean(), stats.sem(differences))
    assert gain.value == pytest.approx(differences.mean())
    assert gain.lower <= low
    assert gain.upper >= high
    assert gain.upper - gain.lower < 2 * (high - low)


def test_the_advice_is_selected_on_the_first_half_and_confirmed_on_the_rest(config):
    live, confirmed, overfitted = (
        policy_run(LIVE, [0.5] * 8, seed=1),
        policy_run("confirmed", [0.4] * 8, seed=2),
        policy_run("overfitted", [0.3] * 4 + [0.7] * 4, seed=3),
    )
    advice = evaluate_policies([live, confirmed], None, "log_loss", 0.0, config).advice
    assert (advice.policy, advice.against, advice.verdict) == ("confirmed", LIVE, "better")
    assert (advice.first, advice.rest) == (("p0", "p3"), ("p4", "p7"))
    assert evaluate_policies([live, confirmed, overfitted], None, "log_loss", 0.0, config).advice.verdict == "worse"
    same = policy_run("same", [0.499] * 8, seed=4)
    assert evaluate_policies([live, same], None, "log_loss", 0.0, config).advice.verdict == UNCLEAR
    frequent = policy_run("frequent", [0.45] * 8, (0, 1, 2), seed=2)
    assert evaluate_policies([live, frequent], None, "log_loss", 1.0, config).advice.policy == LIVE


def test_the_gain_of_the_advice_includes_the_cost_of_retrainings_on_the_rest(config):
    """Never retraining is slightly worse and costs nothing: it is selected and better if the cost is high enough."""
    live, never = policy_run(LIVE, [0.5] * 8, tuple(range(8)), seed=1), policy_run(NEVER, [0.52] * 8, seed=2)
    assert evaluate_policies([live, never], None, "log_loss", 0.0, config).advice.policy == LIVE
    expensive = evaluate_policies([live, never], None, "log_loss", 0.2, config).advice
    assert (expensive.policy, expensive.against, expensive.verdict) == (NEVER, LIVE, "better")
    assert expensive.gain.value == pytest.approx(
        compare(never, live, config, ["p4", "p5", "p6", "p7"]).value + 0.2 * 3 / 4
    )


def test_there_is_no_clear_difference_if_metric_and_loss_disagree(config):
    live, other = policy_run(LIVE, [0.5] * 8, seed=1), policy_run("other", [0.4] * 8, seed=2)
    first, rest = ({"accuracy": 0.9}, {"accuracy": 0.7})
    steps = tuple(replace(s, metrics=first if at < 4 else rest) for at, s in enumerate(other.steps))
    advice = evaluate_policies([live, replace(other, steps=steps)], None, "accuracy", 0.0, config).advice
    assert advice.policy == "other"
    assert advice.gain.lower > 0
    assert advice.verdict == UNCLEAR


def test_without_a_cost_and_an_oracle_the_range_of_costs_ends_at_the_highest_gain_per_retraining(config):
    findings = evaluate_policies(
        [policy_run(LIVE, [0.5] * 8, (0, 1)), policy_run(NEVER, [0.6] * 8, seed=0)], None, "log_loss", 0.0, config
    )
    assert findings.costs == (0.0, pytest.approx(0.1 * 8 / 2))


def test_regret_is_the_cost_above_that_of_the_oracle_with_its_retrainings(config):
    values = np.array([[0.5, 0.6, 0.7], [np.nan, 0.4, 0.5], [np.nan, np.nan, 0.3]])
    cells = tuple(tuple(None if np.isnan(v) else ({"log_loss": float(v)}, ROWS, []) for v in row) for row in values)
    table = TrainingTable((START,) * 3, ("p0", "p1", "p2"), cells)
    free = evaluate_policies([policy_run(LIVE, [0.5, 0.6, 0.7])], table, "log_loss", 0.0, config)
    assert free.oracle.trainings == (1, 2)
    assert free.standings[0].regret == pytest.approx(free.standings[0].cost - (0.5 + 0.4 + 0.3) / 3)
    expensive = evaluate_policies([policy_run(LIVE, [0.5, 0.6, 0.7])], table, "log_loss", 0.3, config)
    assert expensive.oracle.trainings == (1,), "the second training gains .2 and costs .3"


def test_a_policy_without_the_gate_is_ranked_and_never_advised(config):
    runs = [policy_run(LIVE, [0.5] * 8), policy_run(NEVER, [0.6] * 8), policy_run("always", [0.3] * 8, (0, 1, 2))]
    findings = evaluate_policies(runs, None, "log_loss", 0.0, config)
    assert findings.standings[0].policy == "always"
    assert findings.advice.policy == LIVE
    assert highest_gain_per_retraining(runs, "log_loss") == 0.0, "of the policies that can be chosen none retrains"
