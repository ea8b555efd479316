"""Alarms have the error rate that is stated, find what changed, and say nothing where nothing can be said."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, permutation_test, wasserstein_distance

from configs.monitoring import Method
from tasks.drift.alarms import MISSING, NEW, OUTSIDE, Check, check
from tasks.drift.permutations import DENSE, choosing, neighbours, permute_blocks, playing, pooled_sketch, sums
from tasks.drift.sketches import Sketch, sketch, union
from tasks.drift.tails import Tail, beyond_the_others

NUMERIC, WORDED = Method(method="wasserstein", threshold=0.1), Method(method="jensenshannon", threshold=0.1)
METHODS = {"x": NUMERIC, "y": NUMERIC, "word": WORDED}
EFFECTS = {MISSING: 0.1, NEW: 0.01, OUTSIDE: 0.01}


def days(seed: int, count: int, rows: int = 40, spread: float = 0.0, first: int = 0) -> pd.DataFrame:
    """Days of rows; with `spread`, each day is off by an amount of its own that all its rows share."""
    rng = np.random.default_rng(seed)
    day = np.repeat(np.arange(first, first + count), rows)
    off = np.repeat(rng.normal(0, spread, count), rows)
    return pd.DataFrame(
        {
            "day": [f"{d:04d}" for d in day],
            "x": rng.normal(off, 1),
            "y": rng.normal(-off, 2),
            "word": rng.choice(["a", "b", "c"], len(day), p=[0.5, 0.3, 0.2]),
        }
    )


def sketched(held: pd.DataFrame) -> Sketch:
    return sketch(held, held["day"].to_numpy(), list(METHODS), ["word"])


def compare(reference: pd.DataFrame, current: pd.DataFrame, resamples: int = 400, alpha: float = 0.05) -> Check:
    return check(sketched(reference), sketched(current), METHODS, EFFECTS, alpha=alpha, resamples=resamples)


def drifted(found: Check) -> set[tuple[str, str]]:
    return {(a.column, a.kind) for a in found.alarms if a.drifted}


@pytest.mark.parametrize("spread", [0.0, 1.0], ids=["independent rows", "days that differ"])
def test_any_alarm_comes_as_often_as_stated_whether_rows_or_days_are_independent(spread):
    """The rate's 99.9 % interval must reach down to the stated one; small effects count, so that nothing hides behind them."""
    alpha, runs, alarms = 0.1, 300, 0
    methods = {name: m.model_copy(update={"threshold": 1e-6}) for name, m in METHODS.items()}
    for seed in range(runs):
        held = sketched(days(seed, 24, 20, spread))
        chosen = np.random.default_rng(seed).permutation(24)
        sides = [held.at(np.sort(part)) for part in (chosen[8:], chosen[:8])]
        found = check(*sides, methods, dict.fromkeys(EFFECTS, 1e-6), alpha=alpha, resamples=199, seed=seed)
        alarms += any(a.drifted for a in found.alarms)
    assert binomtest(alarms, runs).proportion_ci(0.999).low <= alpha
    assert alarms > runs * alpha / 4, "so few that the test would say nothing"


@pytest.mark.parametrize(("before", "after"), [(40, 2), (10, 100)], ids=["thinner", "fatter"])
def test_a_partition_with_other_numbers_of_rows_alarms_as_rarely(before, after):
    """Two rows a day against forty, or a hundred against ten, in ninety categories: neither fewer nor more rows are a drift."""
    alarms = 0
    for seed in range(60):
        held = pd.concat([days(seed, 24, before), days(1000 + seed, 12, after, first=24)], ignore_index=True)
        held["word"] = np.random.default_rng(seed).integers(0, 90, len(held)).astype(str)
        alarms += bool(drifted(compare(held[held["day"] < "0024"], held[held["day"] >= "0024"], 199)))
    assert binomtest(alarms, 60).proportion_ci(0.99).low <= 0.05


@pytest.mark.parametrize(("before", "after"), [(40, 10), (10, 40)], ids=["thinner", "fatter"])
def test_a_shift_is_found_all_the_same(before, after):
    one, two = days(0, 24, before), days(1, 12, after, first=24)
    assert ("x", "wasserstein") in drifted(compare(one, two.assign(x=two["x"] + 2)))


def test_blocks_play_the_other_side_with_its_numbers_of_rows_and_only_rows_that_they_have():
    held, fat = sketched(days(0, 12, 40)), sketched(days(1, 2, 400, first=10))
    thin = union([held.at(range(10)), sketched(days(1, 2, 4, first=10))])
    now = np.arange(12) >= 10
    player, standing = playing(thin, now, 0)
    assert player.rows.tolist() == [4] * 12
    assert standing is thin
    for name, column in player.columns.items():
        assert (column.counts <= thin.columns[name].counts).all()
        assert (column.counts.sum(axis=1) + column.other.sum(axis=1)).tolist() == player.rows.tolist()
    fatter = union([held.at(range(10)), fat])
    player, standing = playing(fatter, now, 0)
    assert player is fatter
    assert standing.rows.tolist() == [40] * 12
    assert playing(held, now, 0) == (held, held), "as many rows: nothing to thin"


@pytest.mark.parametrize("played", [3, 12], ids=["few of many blocks", "many of them"])
def test_what_either_side_counts_in_a_deal_is_counted_block_by_block(played):
    held = sketched(days(0, 24, 40))
    player, standing = playing(union([held, sketched(days(1, played, 90, first=24))]), np.arange(24 + played) >= 24, 0)
    sides = permute_blocks(24 + played, played, 50, 0)
    assert (24 + played > DENSE * played) == (played == 3), "both forms of the matrix are looked at"
    for name in METHODS:
        one, other = player.columns[name], standing.columns[name]
        mine, left = sums(one, other, np.arange(len(one.values)), choosing(sides, 24 + played))
        rest = [np.setdiff1d(np.arange(24 + played), side) for side in sides]
        np.testing.assert_array_equal(mine, [one.counts[side].sum(axis=0) for side in sides])
        np.testing.assert_array_equal(left, [other.counts[side].sum(axis=0) for side in rest])


def test_one_row_a_day_leaves_one_row_a_day():
    """A day without a row is no block of a partition, so none may play it without one."""
    one = union([sketched(days(0, 30, 50)), sketched(days(1, 8, 1, first=30))])
    assert playing(one, np.arange(38) >= 30, 0)[0].rows.tolist() == [1] * 38


def test_one_huge_block_does_not_make_the_others_play_with_fewer_rows():
    sides = [sketched(days(0, 29, 30)), sketched(days(1, 1, 30_000, first=29)), sketched(days(2, 10, 30, first=30))]
    assert set(playing(union(sides), np.arange(40) >= 30, 0)[0].rows) <= {30, 30_000}


def test_days_that_differ_would_be_alarms_if_their_rows_were_taken_as_independent():
    """Why blocks are dealt, not rows: with rows dealt, the same data alarm ten times as often as stated."""
    by_rows = 0
    for seed in range(20):
        held = days(seed, 24, 20, spread=1.0)
        held["day"] = [f"{i:04d}" for i in range(len(held))]
        by_rows += bool(drifted(compare(held.iloc[160:], held.iloc[:160], 199)))
    assert by_rows >= 10


def test_the_p_value_of_one_column_is_scipys_exact_permutation_test():
    rng = np.random.default_rng(4)
    reference, current = rng.normal(0, 1, 9), rng.normal(1.2, 1, 4)
    frames = [
        pd.DataFrame({"day": [f"{side}{i:03d}" for i in range(len(x))], "x": x, "y": 0.0, "word": "a"})
        for side, x in (("a", reference), ("b", current))
    ]
    methods = {"x": Method(method="wasserstein", threshold=1e-9)}
    sides = [sketch(f, f["day"].to_numpy(), ["x"], []) for f in frames]
    found = check(*sides, methods, dict.fromkeys(EFFECTS, 1.1), alpha=0.05, resamples=1000)

    def statistic(one, two) -> float:
        return wasserstein_distance(one, two) / max(np.std(one), 0.001)

    exact = permutation_test((reference, current), statistic, n_resamples=np.inf, alternative="greater")
    alarm = next(a for a in found.alarms if a.kind == "wasserstein")
    assert alarm.score == pytest.approx(exact.statistic, rel=1e-3)
    dealt = len(exact.null_distribution)
    assert dealt == 715
    assert alarm.p_value == pytest.approx((exact.pvalue * dealt + 1) / (dealt + 1), abs=2 / dealt)


def test_each_deal_is_held_against_the_tail_of_the_others():
    scores = np.random.default_rng(0).gamma(2, 1, 40)
    expected = [float(Tail(np.delete(scores, i)).beyond(scores[i : i + 1])[0]) for i in range(40)]
    np.testing.assert_allclose(beyond_the_others(scores), expected, rtol=1e-9)
    least = float(np.median(scores))
    wanted = np.where(scores >= least, expected, 1.0)
    np.testing.assert_allclose(beyond_the_others(scores, least), wanted, rtol=1e-9)
    assert beyond_the_others(np.zeros(9)).tolist() == [1.0] * 9


def test_every_deal_is_dealt_where_there_are_few_and_the_same_ones_are_drawn_where_there_are_many():
    assert permute_blocks(7, 3, 100, 0).tolist() == [list(c) for c in combinations(range(7), 3)]
    many = permute_blocks(40, 10, 100, 0)
    assert many.shape == (100, 10)
    assert all(len(set(row)) == 10 for row in many.tolist())
    assert many.tolist() == permute_blocks(40, 10, 100, 0).tolist() != permute_blocks(40, 10, 100, 1).tolist()


def test_what_changed_is_found_and_nothing_else():
    reference, current = days(0, 30), days(1, 15, first=30)
    assert drifted(compare(reference, current)) == set()
    assert drifted(compare(reference, current.assign(x=current["x"] + 1))) == {("x", "wasserstein"), ("x", OUTSIDE)}
    assert drifted(compare(reference, current.assign(word="a"))) == {("word", "jensenshannon")}
    holes = current.assign(y=current["y"].where(np.arange(len(current)) % 3 > 0))
    assert drifted(compare(reference, holes)) == {("y", MISSING)}
    fresh = current.assign(word=current["word"].where(np.arange(len(current)) % 20 > 0, "new"))
    assert ("word", NEW) in drifted(compare(reference, fresh))
    far = current.assign(x=current["x"].where(np.arange(len(current)) % 20 > 0, 40.0))
    assert ("x", OUTSIDE) in drifted(compare(reference, far))


def test_a_difference_beyond_chance_that_does_not_matter_is_no_drift():
    reference, current = days(0, 30, 2000), days(1, 15, 2000, first=30)
    found = compare(reference, current.assign(x=current["x"] + 0.05))
    alarm = next(a for a in found.alarms if (a.column, a.kind) == ("x", "wasserstein"))
    assert alarm.p_value <= 0.05
    assert alarm.score < alarm.threshold == NUMERIC.threshold
    assert not alarm.drifted


@pytest.mark.parametrize("seed", range(6))
def test_an_alarm_is_a_small_p_value_and_an_effect_that_matters(seed):
    found = compare(
        days(seed, 12, 15, 0.5), days(seed + 50, 6, 15, 0.5, first=12).assign(x=lambda f: f["x"] + seed / 4)
    )
    assert found.note == ""
    for a in found.alarms:
        assert a.drifted == (a.p_value <= 0.05 and a.score >= a.effect)
        assert a.threshold >= a.effect


def test_too_few_blocks_carry_no_alarm_whatever_the_difference_and_say_why():
    found = compare(days(0, 30), days(1, 1, first=30).assign(x=1e6))
    assert "not calibrated: 1 blocks can be dealt against 30 in 31 ways" in found.note
    assert "monitoring.block" in found.note
    assert drifted(found) == set()
    assert max(a.score for a in found.alarms) > 1000, "the score is shown all the same"


def test_one_day_against_sixty_is_calibrated_and_finds_a_day_like_none_before():
    found = compare(days(0, 60), days(1, 1, first=60).assign(x=1e6))
    assert found.note == ""
    assert ("x", "wasserstein") in drifted(found)


@pytest.mark.parametrize("alpha", [0.05, 0.002], ids=["usual", "a small share of it"])
def test_as_many_deals_are_made_as_the_level_needs_however_few_are_asked_for(alpha):
    """With fewer there would be no level at all, and every score of that size an alarm."""
    alarms = 0
    for seed in range(40):
        held = sketched(days(seed, 24, 20, 1.0))
        sides = [held.at(np.arange(16)), held.at(np.arange(16, 24))]
        found = check(*sides, METHODS, dict.fromkeys(EFFECTS, 1e-6), alpha=alpha, resamples=200, seed=seed)
        alarms += any(a.drifted for a in found.alarms)
        assert all(a.drifted == (a.p_value <= alpha and a.score >= a.effect) for a in found.alarms)
    assert alarms <= 6 if alpha == 0.05 else alarms <= 1


@pytest.mark.parametrize("side", [0, 1], ids=["reference", "partition"])
def test_a_side_without_rows_says_so(side):
    sides = [days(0, 30), days(1, 15, first=30)]
    sides[side] = sides[side].iloc[:0]
    found = compare(*sides)
    assert found.note == f"not calibrated: the {'partition' if side else 'reference'} has no rows"
    assert drifted(found) == set()


@pytest.mark.parametrize("value", [None, np.inf, 7.0, "text"], ids=["null", "infinite", "constant", "no number"])
def test_a_column_that_became_all_one_thing_is_an_alarm_and_one_that_always_was_is_none(value):
    reference, current = days(0, 30), days(1, 15, first=30)
    odd = current.assign(x=pd.Series([value] * len(current), index=current.index, dtype=object))
    always = reference.assign(x=pd.Series([value] * len(reference), index=reference.index, dtype=object))
    assert "x" in {column for column, _ in drifted(compare(reference, odd))}
    assert drifted(compare(always, odd)) == set()


def test_a_partition_never_drifts_from_itself():
    with pytest.raises(ValueError, match="share 30 blocks, the first 0000"):
        compare(days(0, 30), days(0, 30))


def test_thinning_for_chance_keeps_the_rows_and_the_extremes():
    column = sketched(days(0, 10, 500)).columns["x"]
    thin = pooled_sketch(column, neighbours(column))
    assert len(thin.values) < len(column.values) / 4
    assert thin.counts.sum(axis=1).tolist() == column.counts.sum(axis=1).tolist()
    assert thin.values[:8].tolist() == column.values[:8].tolist()
    assert thin.values[-8:].tolist() == column.values[-8:].tolist()
    assert (thin.values @ thin.total) == pytest.approx(column.values @ column.total)


def test_the_same_sketches_give_the_same_alarms_in_whatever_order_they_were_joined():
    parts = [sketched(days(seed, 10, first=10 * seed)) for seed in range(3)]
    current = sketched(days(9, 10, first=40))
    found = [
        check(union(order), current, METHODS, EFFECTS, alpha=0.05, resamples=200)
        for order in (parts, parts[:1] + parts[:0:-1])
    ]
    assert found[0] == found[1]
