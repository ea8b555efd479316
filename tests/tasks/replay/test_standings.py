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
from tasks.replay.result import advice_of, cost_ranges, policy_rows, range_table
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


def with_accuracy(run: PolicyRun, values: list[float]) -> PolicyRun:
    """Return the run with these accuracies by partition and its losses unchanged."""
    steps = tuple(replace(s, metrics={**s.metrics, "accuracy": v}) for s, v in zip(run.steps, values, strict=True))
    return replace(run, steps=steps)


def test_the_advice_and_the_gain_over_live_are_in_the_metric_that_was_asked_for(config):
    """The other policy has the lower loss and the lower accuracy. By accuracy it is worse."""
    live, other = policy_run(LIVE, [0.5] * 16, seed=1), policy_run("other", [0.4] * 16, seed=2)
    noise = np.random.default_rng(0).normal(0, 0.01, 16)
    first, rest = [0.9] * 8, list(0.7 + noise[8:])
    findings = evaluate_policies([live, with_accuracy(other, first + rest)], None, "accuracy", 0.0, config)
    advice, gain = findings.advice, next(s.gain for s in findings.standings if s.policy == "other")
    assert (advice.policy, advice.verdict) == ("other", "worse")
    assert advice.gain.value == pytest.approx(np.mean(rest) - 0.8)
    low, _ = stats.t.interval(0.95, 7, np.mean(rest) - 0.8, stats.sem(rest))
    assert advice.gain.lower <= low
    assert gain.value == pytest.approx((0.1 * 8 + sum(rest) - 0.8 * 8) / 16)
    assert "gain in accuracy: -0.1" in advice_of(findings)
    assert "loss" not in advice_of(findings)


def test_a_metric_without_sums_over_blocks_has_no_interval_on_few_partitions(config):
    live, other = policy_run(LIVE, [0.5] * 8, seed=1), policy_run("other", [0.4] * 8, seed=2)
    findings = evaluate_policies([live, with_accuracy(other, [0.9] * 8)], None, "accuracy", 0.0, config)
    assert (findings.advice.gain, findings.advice.verdict) == (None, UNCLEAR), "four partitions are the rest"
    assert "too few for an interval of accuracy" in advice_of(findings)


@pytest.mark.parametrize(
    ("equals", "text"),
    [
        ((), "decay cost least on"),
        (("drift",), "decay and drift equally cost least on"),
        (("drift", "every"), "decay and 2 other policies equally cost least on"),
    ],
)
def test_the_advice_names_the_policies_that_cost_as_little(config, equals: tuple[str, ...], text: str) -> None:
    runs = [policy_run(LIVE, [0.6] * 8), *(policy_run(name, [0.5] * 8) for name in ("decay", *equals))]
    advice = advice_of(evaluate_policies(runs, None, "log_loss", 0.0, config))
    assert advice.startswith(text)
    assert ("log_loss of decay is" in advice) == bool(equals)


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


def test_for_each_cost_of_a_retraining_the_best_gated_policy_is_named(config):
    """Losses without noise: every .40 with 9 retrainings, twice .42 with 2, never .50, of ten partitions.

    Every costs as much as twice at c = (.42 - .40) * 10 / (9 - 2), twice as much as never at c = (.50 - .42) * 10 / 2.
    """

    def exact(name: str, loss: float, retrained: tuple[int, ...] = ()) -> PolicyRun:
        run = policy_run(name, [loss] * 10, retrained)
        return replace(run, steps=tuple(replace(s, metrics={"log_loss": loss}) for s in run.steps))

    runs = [
        exact(LIVE, 0.49, (0, 4, 5)),
        exact(NEVER, 0.50),
        exact("drift", 0.50),
        exact("every", 0.40, tuple(range(9))),
        exact("twice", 0.42, (0, 4)),
        exact("always", 0.30, tuple(range(9))),
    ]
    findings = evaluate_policies(runs, None, "log_loss", 0.0, config)
    assert [r.line.names for r in findings.ranges] == [("every",), ("twice",), (NEVER, "drift")]
    assert [r.lower for r in findings.ranges] == pytest.approx([0.0, 0.2 / 7, 0.4])
    assert [r.upper for r in findings.ranges] == pytest.approx([0.2 / 7, 0.4, np.inf])
    assert cost_ranges(findings) == (
        "The best policy by the cost of one retraining, in log_loss over one partition: every below 0.0286, twice between 0.0286 and 0.4, "
        "never or drift above 0.4. The live policy is best for no cost."
    )
    assert range_table(findings)[1][1] == ["twice", "0.0286", "0.4", "2", "0.4200"]


def test_the_best_calendar_in_hindsight_and_the_oracle_have_a_line_of_their_own(config):
    values = np.array([[0.5, 0.6, 0.7], [np.nan, 0.4, 0.5], [np.nan, np.nan, 0.3]])
    cells = tuple(tuple(None if np.isnan(v) else ({"log_loss": float(v)}, ROWS, []) for v in row) for row in values)
    table = TrainingTable((START,) * 3, ("p0", "p1", "p2"), cells)
    findings = evaluate_policies([policy_run(LIVE, [0.5, 0.6, 0.7])], table, "log_loss", 0.3, config)
    live, calendar, oracle = policy_rows(findings)
    assert (calendar[0], calendar[1], calendar[3], calendar[6]) == ("best calendar: every_2nd", "0.4667", "1", "0.5667")
    assert (oracle[0], oracle[1], oracle[3], oracle[6]) == ("oracle", "0.4667", "1", "0.5667")
    assert len(live) == len(calendar) == len(oracle)
