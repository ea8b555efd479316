"""Sketches count all rows, can be merged, and survive a round trip to disk. Their scores equal Evidently's and SciPy's."""

from functools import cache
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp, wasserstein_distance

from configs.load import load_model
from configs.monitoring import Statistic
from tasks.drift import sketches
from tasks.drift.columns import cast_columns
from tasks.drift.scores import ks_p_value, score
from tasks.drift.sketch_file import from_frame, to_frame
from tasks.drift.sketches import KINDS, sketch, union
from tasks.source.rows import read_source
from tasks.storage.blocks import block_names
from tasks.storage.partitions import partition

NUMBERS, TEXT = ("x", "few"), ("word",)


def frame(seed: int = 0, rows: int = 3000) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "x": rng.lognormal(2 + seed / 10, 1, rows) - 5,
            "few": rng.integers(0, 5 + seed, rows).astype(float),
            "word": rng.choice(["a", "b", "c", "d"], rows, p=[0.6, 0.2, 0.1, 0.1]),
        }
    )


def sketched(rows: pd.DataFrame, blocks: object = "2013-01-01"):
    names = np.full(len(rows), blocks) if isinstance(blocks, str) else np.asarray(blocks)
    return sketch(rows, names, [c for c in (*NUMBERS, *TEXT) if c in rows] or ["x"], TEXT)


def scored(method: Statistic, reference: pd.DataFrame, current: pd.DataFrame, column: str) -> float:
    """The score as the drift check computes it: from the union of two sketches."""
    one, two = sketched(reference, "2013-01-01"), sketched(current, "2013-01-02")
    joined = union([one, two]).columns[column]
    return float(score(method, joined.values, joined.counts[0], joined.counts[1]))


def evidently(method: str, reference: pd.Series, current: pd.Series, numeric: bool) -> float:
    """Evidently's own statistic, computed from the rows as in its reports."""
    from evidently.legacy.calculations.stattests import get_stattest
    from evidently.legacy.core import ColumnType

    kind = ColumnType.Numerical if numeric else ColumnType.Categorical
    test = get_stattest(reference, current, kind, method)
    return float(test.func(reference, current, kind, 0.1)[0])


def test_wasserstein_equals_scipys_divided_by_the_references_standard_deviation():
    one, two = frame(0), frame(1)
    for column in NUMBERS:
        expected = wasserstein_distance(one[column], two[column]) / np.std(one[column])
        assert scored("wasserstein", one, two, column) == pytest.approx(expected, rel=1e-3)


def test_ks_equals_scipys_distance_and_p_value():
    one, two = frame(0), frame(1, 2500)
    exact = ks_2samp(one["x"], two["x"], method="asymp")
    assert scored("ks", one, two, "x") == pytest.approx(exact.statistic, abs=2e-3)
    assert ks_p_value(exact.statistic, 3000, 2500) == pytest.approx(exact.pvalue, rel=1e-6)


def test_jensen_shannon_of_text_equals_scipys():
    one, two = frame(0), frame(1).assign(word=lambda f: f["word"].replace("d", "new"))
    shares = pd.concat([side["word"].value_counts(normalize=True) for side in (one, two)], axis=1).fillna(0)
    assert scored("jensenshannon", one, two, "word") == pytest.approx(jensenshannon(*shares.to_numpy().T))


@pytest.mark.parametrize(
    ("column", "method"),
    [
        *((c, m) for c in NUMBERS for m in ("wasserstein", "jensenshannon", "psi")),
        ("word", "jensenshannon"),
        ("word", "psi"),
    ],
)
def test_scores_equal_evidentlys(column, method):
    one, two = frame(0), frame(1)
    expected = evidently(method, one[column], two[column], column in NUMBERS)
    assert scored(method, one, two, column) == pytest.approx(expected, rel=5e-3, abs=5e-4)


MONTHS = [f"2013-{m:02d}" for m in range(1, 13)]


@cache
def flights(key: str) -> pd.DataFrame:
    """A month of the bundled flights, before validation."""
    model = load_model("flights")
    return read_source(model, partition(model.config, key)).to_pandas()


@cache
def flights_sketch(key: str):
    config = load_model("flights").config
    rows = flights(key)
    blocks = block_names(rows[config.time], "D", config.partition.timezone)
    return sketch(rows, blocks, config.features.all, config.features.categorical)


@pytest.mark.long
@pytest.mark.parametrize(("one", "two"), list(pairwise(MONTHS)))
def test_on_flights_month_against_month_every_score_equals_evidentlys(one, two):
    """The tolerance is 2 % of the score, or 0.002 for scores near 0."""
    config = load_model("flights").config
    names, text = config.features.all, config.features.categorical
    rows = [cast_columns(flights(key), names, text) for key in (one, two)]
    joined = union([flights_sketch(one), flights_sketch(two)])
    is_current = np.array([block >= two for block in joined.blocks])
    for name in names:
        column, numeric = joined.columns[name], name not in text
        counts = [column.counts[side].sum(axis=0) for side in (~is_current, is_current)]
        sides = [side[name].dropna() for side in rows]
        for method in ("wasserstein", "jensenshannon", "psi") if numeric else ("jensenshannon", "psi"):
            result = float(score(method, column.values, *counts))
            assert result == pytest.approx(evidently(method, *sides, numeric), rel=0.02, abs=2e-3), (name, method)
        if numeric:
            assert float(score("ks", column.values, *counts)) == pytest.approx(ks_2samp(*sides).statistic, abs=2e-3), (
                name
            )


def test_the_union_of_partitions_equals_the_sketch_of_all_rows():
    rows = frame(0, 4000)
    blocks = np.repeat(["2013-01-01", "2013-01-02", "2013-01-03", "2013-01-04"], 1000)
    whole = sketched(rows, blocks)
    parts = union([sketched(rows[i : i + 1000], blocks[i : i + 1000]) for i in (2000, 0, 3000, 1000)])
    assert parts.blocks == whole.blocks
    assert parts.rows.tolist() == whole.rows.tolist() == [1000] * 4
    for name in (*NUMBERS, *TEXT):
        assert parts.columns[name].counts.sum(axis=1).tolist() == [1000] * 4
    pd.testing.assert_series_equal(
        pd.Series(parts.columns["word"].total), pd.Series(whole.columns["word"].total), check_names=False
    )
    total = parts.columns["x"]
    assert (total.values @ total.total) == pytest.approx(rows["x"].sum())
    later = sketched(frame(1), "2013-01-09")
    expected = score("wasserstein", *_sides(union([whole, later])))
    assert score("wasserstein", *_sides(union([parts, later]))) == pytest.approx(expected, abs=1e-3)


def _sides(joined):
    column = joined.columns["x"]
    return column.values, column.counts[:-1].sum(axis=0), column.counts[-1]


def test_a_block_that_occurs_in_two_partitions_is_summed():
    both = union([sketched(frame(0, 10), "2013-W01"), sketched(frame(1, 20), "2013-W01")])
    assert (both.blocks, both.rows.tolist()) == (("2013-W01",), [30])
    assert both.columns["word"].counts.sum() == 30


def test_nulls_infinities_and_values_that_are_not_numbers_are_counted_separately():
    rows = pd.DataFrame({"x": [1.0, np.nan, None, np.inf, -np.inf, "many", 2]}, dtype=object)
    column = sketched(rows, "2013-01-01").columns["x"]
    assert dict(zip(KINDS, column.other[0].tolist(), strict=True)) == {"null": 2, "infinite": 2, "no number": 1}
    assert column.values.tolist() == [1.0, 2.0]


UNUSUAL = {
    "empty": pd.DataFrame({"x": []}),
    "one row": pd.DataFrame({"x": [3.5]}),
    "all null": pd.DataFrame({"x": [None] * 4}),
    "constant": pd.DataFrame({"x": [7] * 4}),
    "infinite": pd.DataFrame({"x": [np.inf, -np.inf]}),
    "integers with nulls": pd.DataFrame({"x": pd.array([1, None, 3], dtype="Int64")}),
    "booleans": pd.DataFrame({"x": [True, False, True]}),
    "nullable booleans": pd.DataFrame({"x": pd.array([True, None], dtype="boolean")}),
    "datetimes": pd.DataFrame({"x": pd.to_datetime(["2013-01-01", None, "2013-01-02"])}),
    "aware datetimes": pd.DataFrame({"x": pd.to_datetime(["2013-01-01", None], utc=True)}),
    "mixed": pd.DataFrame({"x": [1, "a", None, 2.5, True]}, dtype=object),
    "huge": pd.DataFrame({"x": [1e300, -1e149, 1e-300, 0.0]}),
    "missing": pd.DataFrame({"y": [1, 2]}),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_columns_are_counted_completely_and_survive_a_round_trip_to_disk(name, tmp_path):
    rows = UNUSUAL[name]
    original = sketch(rows, np.full(len(rows), "2013-01-01"), ["x"], [])
    column = original.columns["x"]
    assert column.counts.sum() + column.other.sum() == len(rows) == original.rows.sum()
    to_frame(original).to_parquet(tmp_path / "s.parquet")
    assert_equal(from_frame(pd.read_parquet(tmp_path / "s.parquet")), original)
    assert union([original, original]).columns["x"].counts.sum() == 2 * column.counts.sum()


@pytest.mark.parametrize("mixed", [False, True])
def test_counting_distinct_numbers_first_gives_the_same_sketch(monkeypatch, mixed):
    """A long column of few distinct numbers, with nulls, infinities and, if mixed, text."""
    rng = np.random.default_rng(0)
    x = np.round(rng.normal(60, 20, 50_000) * 2) / 2
    x[::11], x[::17], x[::1001] = np.nan, np.inf, -1e300
    rows = pd.DataFrame({"x": pd.Series(x, dtype=object).where(rng.random(50_000) > 0.001, "?") if mixed else x})
    days = np.repeat([f"2013-01-{d:02d}" for d in range(1, 11)], 5_000)
    assert sketches.has_repeats(x)
    fast = sketch(rows, days, ["x"], [])
    monkeypatch.setattr(sketches, "has_repeats", lambda _: False)
    slow = sketch(rows, days, ["x"], [])
    assert_equal(fast, slow)
    assert (fast.columns["x"].other.sum(axis=0) > 0).tolist() == [True, True, mixed]


def test_counting_distinct_numbers_first_gives_the_same_bin_means(monkeypatch):
    x = np.repeat([0.0, 1.0, 2.0, 1000.0, 1000.001], 10_000)
    rows, day = pd.DataFrame({"x": x}), np.full(len(x), "2013-01-01")
    assert sketches._count_distinct(x, np.zeros(len(x), dtype=bool), np.zeros(len(x), dtype=int), 1) is not None
    fast = sketch(rows, day, ["x"], []).columns["x"]
    monkeypatch.setattr(sketches, "has_repeats", lambda _: False)
    slow = sketch(rows, day, ["x"], []).columns["x"]
    assert fast.counts.tolist() == slow.counts.tolist() == [[10_000, 10_000, 10_000, 20_000]]
    assert fast.values == pytest.approx(slow.values, rel=1e-12)
    assert fast.values[-1] == pytest.approx(1000.0005, rel=1e-9)


def assert_equal(one, two) -> None:
    assert one.blocks == two.blocks
    assert one.rows.tolist() == two.rows.tolist()
    assert list(one.columns) == list(two.columns)
    for name in one.columns:
        a, b = one.columns[name], two.columns[name]
        assert a.values.tolist() == b.values.tolist()
        assert a.counts.tolist() == b.counts.tolist()
        assert a.other.tolist() == b.other.tolist()
        assert a.grid == b.grid


def test_a_sketch_survives_a_round_trip_to_disk(tmp_path):
    rows = frame(0, 500).assign(word=lambda f: f["word"].where(f.index % 7 > 0, None))
    original = sketched(rows, np.repeat(["2013-01-02", "2013-01-01"], 250))
    to_frame(original).to_parquet(tmp_path / "s.parquet")
    assert_equal(from_frame(pd.read_parquet(tmp_path / "s.parquet")), original)


@settings(deadline=None)
@example([1.7e308, -1.7e308, 1.7e308, 1e308, 0.0])
@example([5e-324, 0.0, -5e-324, 1.0])
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=64), max_size=40))
def test_every_number_is_counted_and_bins_ascend(values):
    column = sketch(pd.DataFrame({"x": values}), np.full(len(values), "b"), ["x"], []).columns["x"]
    assert column.counts.sum() + column.other.sum() == len(values)
    assert (np.diff(column.values) > 0).all()
