"""The expected gain of a retraining: its estimate, and what a schedule that follows it costs in simulated worlds."""

from collections.abc import Callable

import numpy as np
import pytest

from tasks.lifecycle.expected_gain import Staleness, expected_gain

COSTS = (0.003, 0.01, 0.03, 0.1, 0.3)
PARTITIONS = 80


def measured(*pairs: tuple[float, float], champion: str = "2") -> list[Staleness]:
    return [Staleness(champion, age, gain) for age, gain in pairs]


def test_before_anything_is_measured_the_calendar_decides():
    for calendar in (1, 4, 9):
        gains = [expected_gain([], "2", k, 0.03, calendar) for k in range(1, 12)]
        due = [g.partitions for g in gains if g.value >= g.cost]
        assert (due[0], gains[0].interval) == (calendar, pytest.approx(calendar))


def test_a_known_rise_gives_the_interval_of_the_economic_order_quantity():
    """A loss that rises by .004 per partition, at a cost of .05: the mean cost of each interval by counting, not by the formula."""
    rise, cost = 0.004, 0.05
    mean_cost = {k: (cost + sum(rise * age for age in range(k))) / k for k in range(1, 30)}
    best = min(mean_cost, key=lambda k: mean_cost[k])
    evidence = measured(*[(age, rise * age) for age in range(1, 20)])
    gain = expected_gain(evidence, "2", 5, cost, 4)
    assert gain.rise == pytest.approx(rise, rel=0.01)
    assert gain.interval == pytest.approx(best, abs=0.5)
    assert gain.value == pytest.approx(rise * 25 / 2, rel=0.02)


def test_a_training_that_was_refused_leaves_an_old_champion_so_the_next_is_due_sooner():
    """The loss is .004 per partition of age. Added up by counting, from the last training on."""
    evidence = measured(*[(age, 0.004 * age) for age in range(1, 20)])
    accumulated = sum(0.004 * (6 + age + 0.5) for age in range(2))
    gain = expected_gain(evidence, "2", 2, 0.05, 4, older=6)
    assert gain.value == pytest.approx(accumulated, rel=0.01)
    assert expected_gain(evidence, "2", 1, 0.05, 4, older=6).value < 0.05 <= gain.value
    assert 1 < gain.interval <= 2


def test_a_champion_that_does_not_age_is_not_replaced_at_any_age():
    noise = np.random.default_rng(0).normal(0, 0.002, 60)
    evidence = measured(*[(age, x) for age, x in enumerate(noise, 1)])
    assert expected_gain(evidence, "2", 60, 0.05, 4).value < 0.05


def test_a_champion_that_meets_a_sudden_change_is_replaced_soon_after():
    """Champions have aged slowly so far. The present one suddenly loses .2 a partition, and that is seen on two partitions."""
    slow = measured(*[(age, 0.001 * age) for age in range(1, 20)], champion="1")
    before = measured((1, 0.001), (2, 0.002), (3, 0.003))
    cost = 0.1
    assert expected_gain(slow + before, "2", 4, cost, 4).value < cost
    assert expected_gain(slow + before + measured((4, 0.2), (5, 0.2)), "2", 6, cost, 4).value >= cost


def losses(step: Callable[[np.random.Generator, int], np.ndarray], seed: int) -> np.ndarray:
    """Return the loss of a version of each partition on each later one, if the concept moves by `step` and models learn the last."""
    rng = np.random.default_rng(seed)
    concept = np.cumsum(step(rng, PARTITIONS), axis=0)
    hard = np.cumsum(rng.normal(0, 0.005, PARTITIONS))  # all versions find the same partitions hard
    distance = ((concept[None, :, :] - concept[:, None, :]) ** 2).sum(axis=2) / 2
    return 0.5 + hard[None, :] + distance + autocorrelated(rng, distance.shape)


def autocorrelated(rng: np.random.Generator, shape: tuple[int, int], rho: float = 0.6) -> np.ndarray:
    """Return each version's own errors over time: standard deviation .004, neighbours correlated by `rho`."""
    noise = rng.normal(0, 0.004, shape)
    for m in range(1, shape[1]):
        noise[:, m] = rho * noise[:, m - 1] + (1 - rho**2) ** 0.5 * noise[:, m]
    return noise


def cost_of(loss: np.ndarray, cost: float, retrains: Callable[[int, list[Staleness], str, int], bool]) -> float:
    """Return the mean loss plus cost of a policy that is asked before each partition."""
    current, evidence, total = 0, list[Staleness](), loss[0, 0]
    for m in range(1, PARTITIONS):
        if m - 1 > current:
            evidence.append(Staleness(str(current), m - 1 - current, loss[current, m - 1] - loss[m - 1, m - 1]))
        if retrains(m, evidence, str(current), m - current):
            current, total = m, total + cost
        total += loss[current, m]
    return float(total / PARTITIONS)


WORLDS = {
    "moves a little each time": lambda rng, n: rng.normal(0, 0.04, (n, 3)),
    "jumps about every 25 partitions": lambda rng, n: rng.normal(0, 0.25, (n, 3)) * (rng.random((n, 1)) < 0.04),
}


def mean_costs(world: Callable[[np.random.Generator, int], np.ndarray], cost: float, intervals: range) -> np.ndarray:
    """Return the mean loss plus cost of the policy and of calendars with these intervals, over simulated histories."""

    def expects_gain(m: int, evidence: list[Staleness], champion: str, age: int) -> bool:
        return expected_gain(evidence, champion, age, cost, 4).value >= cost

    calendars = [lambda m, evidence, champion, age, k=k: age >= k for k in intervals]
    histories = [losses(world, seed) for seed in range(16)]
    return np.mean(
        [[cost_of(loss, cost, policy) for policy in (expects_gain, *calendars)] for loss in histories], axis=0
    )


@pytest.mark.parametrize("world", WORLDS)
def test_loss_plus_cost_is_near_that_of_the_best_calendar_in_hindsight(world):
    """The policy closes 90 % of the gap between never and the best interval, at every cost, with one and the same prior."""
    for cost in COSTS:
        ours, *calendars = mean_costs(WORLDS[world], cost, range(1, PARTITIONS + 1))
        never, best = calendars[-1], min(calendars)
        assert never - ours >= 0.9 * (never - best), (
            f"{world}, cost {cost}: {ours:.5f}, best {best:.5f}, never {never:.5f}"
        )


def test_where_nothing_changes_it_costs_hardly_more_than_never():
    """Errors have a standard deviation of .004 and resemble their neighbours. The calendar of the prior would cost up to .075."""
    for cost in COSTS:
        ours, never = mean_costs(lambda rng, n: np.zeros((n, 3)), cost, range(PARTITIONS, PARTITIONS + 1))
        assert ours - never <= 0.001, f"cost {cost}: {ours:.5f}, never {never:.5f}"
