"""The distributions of a partition and of its reference that a page shows: counted again from the rows."""

import numpy as np
import pandas as pd
import pytest

from tasks.drift.distributions import BINS, MOST_VALUES, distributions
from tasks.drift.reference import Reference
from tasks.drift.sketches import Sketch, sketch

CITIES = ["Bonn", "Kiel", "Ulm"]


def frame(rows: int, seed: int, shift: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    number = rng.normal(shift, 1, rows)
    number[:7] = np.nan
    return pd.DataFrame(
        {
            "number": number,
            "few": rng.integers(1, 5, rows).astype(float),
            "city": rng.choice(CITIES, rows),
            "many": [f"v{i}" for i in rng.integers(0, 40, rows)],
        }
    )


def sketched(rows: pd.DataFrame) -> Sketch:
    return sketch(rows, np.array(["a"] * len(rows)), list(rows), ["city", "many"])


def compare(now: pd.DataFrame, then: pd.DataFrame, personal=()):
    reference = Reference(tuple(then), "the training window", sketched(then), lambda: then)
    return distributions(sketched(now), [reference], personal)


@pytest.fixture
def both() -> tuple[pd.DataFrame, pd.DataFrame]:
    return frame(4_000, 1, shift=1.0), frame(9_000, 2)


def test_the_shares_of_each_side_add_up_to_one_with_the_missing_rows(both):
    now, then = both
    for name, shown in compare(now, then).items():
        assert sum(shown["now"]) == pytest.approx(1, abs=1e-3), name
        assert sum(shown["then"]) == pytest.approx(1, abs=1e-3), name
        assert len(shown["labels"]) == len(shown["now"]) == len(shown["then"])
        assert shown["reference"] == "the training window"
    assert compare(now, then)["number"]["now"][-1] == pytest.approx(7 / len(now), abs=1e-5)


def test_the_bins_of_numbers_hold_the_rows_that_their_labels_name(both):
    now, then = both
    shown = compare(now, then)["number"]
    assert len(shown["labels"]) == BINS + 1
    for label, share in zip(shown["labels"][1 : BINS - 1], shown["now"][1 : BINS - 1], strict=True):
        low, high = (float(x) for x in label.split(" to "))
        expected = ((now["number"] >= low) & (now["number"] < high)).mean()
        assert share == pytest.approx(expected, abs=0.004), label  # labels have four digits
    outer = float(shown["labels"][0].removeprefix("below "))
    assert shown["then"][0] == pytest.approx((then["number"] < outer).mean(), abs=0.004)


def test_few_distinct_numbers_and_categories_are_counted_by_value(both):
    now, then = both
    shown = compare(now, then)
    counts = now["few"].value_counts(normalize=True)
    assert dict(zip(shown["few"]["labels"], shown["few"]["now"], strict=True)) == pytest.approx(
        {f"{value:.0f}": share for value, share in counts.items()} | {"missing": 0.0}, abs=1e-5
    )
    cities = then["city"].value_counts(normalize=True)
    assert dict(zip(shown["city"]["labels"], shown["city"]["then"], strict=True)) == pytest.approx(
        dict(cities) | {"missing": 0.0}, abs=1e-5
    )


def test_rare_categories_are_added_up(both):
    now, then = both
    shown = compare(now, then)["many"]
    assert len(shown["labels"]) == MOST_VALUES + 2
    assert shown["labels"][-2:] == ["all others", "missing"]
    named = now["many"].isin(shown["labels"])
    assert shown["now"][-2] == pytest.approx((~named).mean(), abs=1e-4)


def test_a_value_far_away_does_not_hide_the_others(both):
    now, then = both
    now.loc[100, "number"] = 1e9
    labels = compare(now, then)["number"]["labels"]
    assert float(labels[-2].removesuffix(" and above")) < 10


def test_a_personal_column_and_a_column_without_rows_do_not_break_the_others(both):
    now, then = both
    assert set(compare(now, then, personal=("city",))) == set(then) - {"city"}
    now["number"] = np.nan
    assert compare(now, then)["number"]["now"][-1] == 1.0
    assert compare(now.iloc[:0], then)["city"]["now"] == [0.0] * (len(CITIES) + 1)
