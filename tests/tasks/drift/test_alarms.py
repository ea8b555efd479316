"""The drift test has the stated error rate, detects changes, and raises no alarm where it is not calibrated."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, permutation_test, wasserstein_distance

from configs.monitoring import Method
from tasks.drift.alarms import MISSING, NEW, OUTSIDE, Check, check
from tasks.drift.block_series import Measured
from tasks.drift.permutations import (
    DENSE_RATIO,
    assignment_matrix,
    group_starts,
    merge_groups,
    permute_blocks,
    permute_runs,
    permuted_counts,
    subsample_larger_side,
)
from tasks.drift.sketches import Sketch, sketch, union
from tasks.drift.tails import Tail, leave_one_out_sf

NUMERIC, TEXT = Method(method="wasserstein", threshold=0.1), Method(method="jensenshannon", threshold=0.1)
METHODS = {"x": NUMERIC, "y": NUMERIC, "word": TEXT}
EFFECTS = {MISSING: 0.1, NEW: 0.01, OUTSIDE: 0.01}


def days(seed: int, count: int, rows: int = 40, spread: float = 0.0, first: int = 0) -> pd.DataFrame:
    """Rows of some days. With `spread`, all rows of a day are shifted by a random amount."""
    rng = np.random.default_rng(seed)
    day: np.ndarray = np.repeat(np.arange(first, first + count), rows)
    shift: np.ndarray = np.repeat(rng.normal(0, spread, count), rows)
    return pd.DataFrame(
        {
            "day": [f"{d:04d}" for d in day],
            "x": rng.normal(shift, 1),
            "y": rng.normal(-shift, 2),
            "word": rng.choice(["a", "b", "c"], len(day), p=[0.5, 0.3, 0.2]),
        }
    )


def sketched(frame: pd.DataFrame) -> Sketch:
    return sketch(frame, frame["day"].to_numpy(), list(METHODS), ["word"])


def compare(reference: pd.DataFrame, current: pd.DataFrame, resamples: int = 400, alpha: float = 0.05) -> Check:
    return check(sketched(reference), sketched(current), METHODS, EFFECTS, alpha=alpha, resamples=resamples)


def drifted(result: Check) -> set[tuple[str, str]]:
    return {(a.column, a.kind) for a in result.alarms if a.drifted}


@pytest.mark.long
@pytest.mark.parametrize("spread", [0.0, 1.0], ids=["independent rows", "days that differ"])
def test_the_rate_of_any_false_alarm_is_alpha_for_independent_rows_and_for_independent_days(spread):
    """The 99.9 % interval of the rate must include alpha. Effect sizes are tiny, so that they do not prevent alarms."""
    alpha, runs, alarms = 0.1, 300, 0
    methods = {name: m.model_copy(update={"threshold": 1e-6}) for name, m in METHODS.items()}
    for seed in range(runs):
        pooled = sketched(days(seed, 24, 20, spread))
        order = np.random.default_rng(seed).permutation(24)
        sides = [pooled.select_blocks(np.sort(part)) for part in (order[8:], order[:8])]
        result = check(*sides, methods, dict.fromkeys(EFFECTS, 1e-6), alpha=alpha, resamples=199, seed=seed)
        alarms += any(a.drifted for a in result.alarms)
    assert binomtest(alarms, runs).proportion_ci(0.999).low <= alpha
    assert alarms > runs * alpha / 4, "too few alarms for this test to be meaningful"


@pytest.mark.long
@pytest.mark.parametrize(("before", "after"), [(40, 2), (10, 100)], ids=["smaller days", "larger days"])
def test_a_different_number_of_rows_per_day_does_not_increase_the_rate_of_false_alarms(before, after):
    """Two rows a day against forty, or a hundred against ten, in ninety categories."""
    alarms = 0
    for seed in range(60):
        frame = pd.concat([days(seed, 24, before), days(1000 + seed, 12, after, first=24)], ignore_index=True)
        frame["word"] = np.random.default_rng(seed).integers(0, 90, len(frame)).astype(str)
        alarms += bool(drifted(compare(frame[frame["day"] < "0024"], frame[frame["day"] >= "0024"], 199)))
    assert binomtest(alarms, 60).proportion_ci(0.99).low <= 0.05


@pytest.mark.parametrize(("before", "after"), [(40, 10), (10, 40)], ids=["smaller days", "larger days"])
def test_a_shift_is_detected_with_a_different_number_of_rows_per_day(before, after):
    reference, current = days(0, 24, before), days(1, 12, after, first=24)
    assert ("x", "wasserstein") in drifted(compare(reference, current.assign(x=current["x"] + 2)))


def test_the_larger_side_is_subsampled_to_the_block_sizes_of_the_other():
    usual = sketched(days(0, 12, 40))
    is_current = np.arange(12) >= 10
    small = union([usual.select_blocks(range(10)), sketched(days(1, 2, 4, first=10))])
    as_current, as_reference = subsample_larger_side(small, is_current, 0)
    assert as_current.rows.tolist() == [4] * 12
    assert as_reference is small
    for name, column in as_current.columns.items():
        assert (column.counts <= small.columns[name].counts).all()
        assert (column.counts.sum(axis=1) + column.other.sum(axis=1)).tolist() == as_current.rows.tolist()
    large = union([usual.select_blocks(range(10)), sketched(days(1, 2, 400, first=10))])
    as_current, as_reference = subsample_larger_side(large, is_current, 0)
    assert as_current is large
    assert as_reference.rows.tolist() == [40] * 12
    assert subsample_larger_side(usual, is_current, 0) == (usual, usual), "blocks of equal size are not subsampled"


@pytest.mark.parametrize("n_current", [3, 12], ids=["few current blocks", "many current blocks"])
def test_permuted_counts_are_the_sums_over_the_blocks_of_each_side(n_current):
    n_blocks = 24 + n_current
    pooled = union([sketched(days(0, 24, 40)), sketched(days(1, n_current, 90, first=24))])
    as_current, as_reference = subsample_larger_side(pooled, np.arange(n_blocks) >= 24, 0)
    positions = permute_blocks(n_blocks, n_current, 50, 0)
    assert (n_blocks > DENSE_RATIO * n_current) == (n_current == 3), "both forms of the matrix are tested"
    for name in METHODS:
        current, reference = as_current.columns[name], as_reference.columns[name]
        starts = np.arange(len(current.values))
        counts = permuted_counts(current, reference, starts, assignment_matrix(positions, n_blocks))
        others = [np.setdiff1d(np.arange(n_blocks), row) for row in positions]
        np.testing.assert_array_equal(counts[0], [current.counts[row].sum(axis=0) for row in positions])
        np.testing.assert_array_equal(counts[1], [reference.counts[row].sum(axis=0) for row in others])


def test_every_subsampled_block_keeps_one_row():
    """A partition has no block without rows, so a permutation must not have one either."""
    pooled = union([sketched(days(0, 30, 50)), sketched(days(1, 8, 1, first=30))])
    assert subsample_larger_side(pooled, np.arange(38) >= 30, 0)[0].rows.tolist() == [1] * 38


def test_one_huge_block_does_not_cause_subsampling():
    parts = [sketched(days(0, 29, 30)), sketched(days(1, 1, 30_000, first=29)), sketched(days(2, 10, 30, first=30))]
    assert set(subsample_larger_side(union(parts), np.arange(40) >= 30, 0)[0].rows) <= {30, 30_000}


def test_permuting_rows_instead_of_blocks_would_raise_false_alarms():
    """With rows as blocks, the same data raise alarms several times as often as stated.

    Measured dependence removes only a part: one row has as much noise of its own as it has in common with its day.
    """
    alarms = 0
    for seed in range(20):
        frame = days(seed, 24, 20, spread=1.0)
        frame["day"] = [f"{i:04d}" for i in range(len(frame))]
        alarms += bool(drifted(compare(frame.iloc[160:], frame.iloc[:160], 199)))
    assert alarms >= 4


def test_the_p_value_of_one_column_equals_scipys_exact_permutation_test_for_independent_blocks(monkeypatch):
    """Independence is assumed here, not measured: each null score has the factor 1."""
    monkeypatch.setattr(
        Measured, "factors", lambda self, rows, assignments, seed: np.ones((1, assignments.shape[0] - 1))
    )
    rng = np.random.default_rng(4)
    reference, current = rng.normal(0, 1, 9), rng.normal(1.2, 1, 4)
    frames = [
        pd.DataFrame({"day": [f"{side}{i:03d}" for i in range(len(x))], "x": x, "y": 0.0, "word": "a"})
        for side, x in (("a", reference), ("b", current))
    ]
    methods = {"x": Method(method="wasserstein", threshold=1e-9)}
    sides = [sketch(f, f["day"].to_numpy(), ["x"], []) for f in frames]
    result = check(*sides, methods, dict.fromkeys(EFFECTS, 1.1), alpha=0.05, resamples=1000)

    def statistic(one, two) -> float:
        return wasserstein_distance(one, two) / max(np.std(one), 0.001)

    exact = permutation_test((reference, current), statistic, n_resamples=np.inf, alternative="greater")
    alarm = next(a for a in result.alarms if a.kind == "wasserstein")
    assert alarm.score == pytest.approx(exact.statistic, rel=1e-3)
    n_permutations = len(exact.null_distribution)
    assert n_permutations == 715
    assert alarm.p_value == pytest.approx(
        (exact.pvalue * n_permutations + 1) / (n_permutations + 1), abs=2 / n_permutations
    )


def test_each_null_score_is_compared_with_the_tail_of_the_others():
    scores = np.random.default_rng(0).gamma(2, 1, 40)
    expected = [float(Tail(np.delete(scores, i)).sf(scores[i : i + 1])[0]) for i in range(40)]
    np.testing.assert_allclose(leave_one_out_sf(scores), expected, rtol=1e-9)
    minimum = float(np.median(scores))
    expected = np.where(scores >= minimum, expected, 1.0)
    np.testing.assert_allclose(leave_one_out_sf(scores, minimum), expected, rtol=1e-9)
    assert leave_one_out_sf(np.zeros(9)).tolist() == [1.0] * 9


def test_few_permutations_are_enumerated_and_many_are_drawn_by_seed():
    assert permute_blocks(7, 3, 100, 0).tolist() == [list(c) for c in combinations(range(7), 3)]
    many = permute_blocks(40, 10, 100, 0)
    assert many.shape == (100, 10)
    assert all(len(set(row)) == 10 for row in many.tolist())
    assert many.tolist() == permute_blocks(40, 10, 100, 0).tolist() != permute_blocks(40, 10, 100, 1).tolist()


def test_permuted_runs_are_consecutive_blocks_on_a_circle_and_each_block_is_in_them_equally_often():
    drawn = permute_runs(23, 6, 4000, 3, 0)
    assert drawn.shape == (4000, 6)
    assert all(len(set(row)) == 6 for row in drawn.tolist())
    inside = np.zeros((4000, 23), int)
    np.put_along_axis(inside, drawn, 1, axis=1)
    starts = (inside > np.roll(inside, 1, axis=1)).sum(axis=1)
    assert starts.max() <= 3, "two runs of three, of which one may be at the cut of the circle"
    np.testing.assert_allclose(inside.mean(axis=0), 6 / 23, atol=0.03)
    assert permute_runs(23, 6, 50, 1, 0).shape == (50, 6)


def test_a_change_is_detected_in_its_column_only():
    reference, current = days(0, 30), days(1, 15, first=30)
    assert drifted(compare(reference, current)) == set()
    assert drifted(compare(reference, current.assign(x=current["x"] + 1))) == {("x", "wasserstein"), ("x", OUTSIDE)}
    assert drifted(compare(reference, current.assign(word="a"))) == {("word", "jensenshannon")}
    with_nulls = current.assign(y=current["y"].where(np.arange(len(current)) % 3 > 0))
    assert drifted(compare(reference, with_nulls)) == {("y", MISSING)}
    new_category = current.assign(word=current["word"].where(np.arange(len(current)) % 20 > 0, "new"))
    assert ("word", NEW) in drifted(compare(reference, new_category))
    out_of_range = current.assign(x=current["x"].where(np.arange(len(current)) % 20 > 0, 40.0))
    assert ("x", OUTSIDE) in drifted(compare(reference, out_of_range))


def test_a_significant_difference_below_the_effect_size_is_not_drift():
    reference, current = days(0, 30, 2000), days(1, 15, 2000, first=30)
    result = compare(reference, current.assign(x=current["x"] + 0.05))
    alarm = next(a for a in result.alarms if (a.column, a.kind) == ("x", "wasserstein"))
    assert alarm.p_value <= 0.05
    assert alarm.score < alarm.threshold == NUMERIC.threshold
    assert not alarm.drifted


@pytest.mark.parametrize("seed", range(6))
def test_drift_needs_a_small_p_value_and_a_score_of_at_least_the_effect_size(seed):
    result = compare(
        days(seed, 12, 15, 0.5), days(seed + 50, 6, 15, 0.5, first=12).assign(x=lambda f: f["x"] + seed / 4)
    )
    assert result.note == ""
    for a in result.alarms:
        assert a.drifted == (a.p_value <= 0.05 and a.score >= a.effect)
        assert a.threshold >= a.effect


def test_too_few_blocks_raise_no_alarm_and_the_note_has_the_reason():
    result = compare(days(0, 30), days(1, 1, first=30).assign(x=1e6))
    assert "not calibrated: 1 current and 30 reference blocks allow 31 permutations, alpha 0.05 needs 40" in result.note
    assert "monitoring.block" in result.note
    assert drifted(result) == set()
    assert max(a.score for a in result.alarms) > 1000, "the score is still computed"


def test_one_day_against_sixty_is_calibrated_and_an_extreme_day_is_detected():
    result = compare(days(0, 60), days(1, 1, first=60).assign(x=1e6))
    assert result.note == ""
    assert ("x", "wasserstein") in drifted(result)


@pytest.mark.parametrize("alpha", [0.05, 0.002], ids=["default", "a small share of it"])
def test_more_permutations_than_resamples_are_drawn_if_alpha_needs_them(alpha):
    """With fewer permutations there would be no level, and every score above the effect size would be an alarm."""
    alarms = 0
    for seed in range(40):
        pooled = sketched(days(seed, 24, 20, 1.0))
        sides = [pooled.select_blocks(np.arange(16)), pooled.select_blocks(np.arange(16, 24))]
        result = check(*sides, METHODS, dict.fromkeys(EFFECTS, 1e-6), alpha=alpha, resamples=200, seed=seed)
        alarms += any(a.drifted for a in result.alarms)
        assert all(a.drifted == (a.p_value <= alpha and a.score >= a.effect) for a in result.alarms)
    assert alarms <= 6 if alpha == 0.05 else alarms <= 1


@pytest.mark.parametrize("side", [0, 1], ids=["reference", "partition"])
def test_the_note_has_the_side_that_has_no_rows(side):
    sides = [days(0, 30), days(1, 15, first=30)]
    sides[side] = sides[side].iloc[:0]
    result = compare(*sides)
    assert result.note == f"not calibrated: the {'partition' if side else 'reference'} has no rows"
    assert drifted(result) == set()


@pytest.mark.parametrize("value", [None, np.inf, 7.0, "text"], ids=["null", "infinite", "constant", "no number"])
def test_a_column_that_became_constant_is_an_alarm_and_one_that_was_constant_before_is_not(value):
    reference, current = days(0, 30), days(1, 15, first=30)
    became = current.assign(x=pd.Series([value] * len(current), index=current.index, dtype=object))
    always = reference.assign(x=pd.Series([value] * len(reference), index=reference.index, dtype=object))
    assert "x" in {column for column, _ in drifted(compare(reference, became))}
    assert drifted(compare(always, became)) == set()


def test_sides_that_share_blocks_are_refused():
    with pytest.raises(ValueError, match="share 30 blocks, the first 0000"):
        compare(days(0, 30), days(0, 30))


def test_merged_groups_keep_the_counts_and_the_extremes():
    column = sketched(days(0, 10, 500)).columns["x"]
    merged = merge_groups(column, group_starts(column))
    assert len(merged.values) < len(column.values) / 4
    assert merged.counts.sum(axis=1).tolist() == column.counts.sum(axis=1).tolist()
    assert merged.values[:8].tolist() == column.values[:8].tolist()
    assert merged.values[-8:].tolist() == column.values[-8:].tolist()
    assert (merged.values @ merged.total) == pytest.approx(column.values @ column.total)


def test_the_order_in_which_sketches_are_merged_does_not_change_the_alarms():
    parts = [sketched(days(seed, 10, first=10 * seed)) for seed in range(3)]
    current = sketched(days(9, 10, first=40))
    results = [
        check(union(order), current, METHODS, EFFECTS, alpha=0.05, resamples=200)
        for order in (parts, parts[:1] + parts[:0:-1])
    ]
    assert results[0] == results[1]
