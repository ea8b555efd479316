"""Classification of labels: mature, late, corrected, missing for good, and faulty."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from configs.load import load_model
from tasks.steps.collect import classify_labels, join_outcomes, newest_labels

AT = pd.Timestamp("2024-03-01 12:00", tz="UTC")
KNOWN = AT + pd.Timedelta("1D")
NOW = datetime(2024, 3, 10, tzinfo=UTC)


@pytest.fixture
def config(tiny):
    return load_model("tiny").config


def labels(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["parcel", "late", "known_at"]).astype(
        {"late": "float64", "known_at": "datetime64[us, UTC]"}
    )


def rows(*keys) -> pd.DataFrame:
    return pd.DataFrame({"parcel": keys, "sent": AT})


def test_mature_never_and_pending_labels_are_counted(config):
    given = labels(("a", 1, KNOWN), ("b", None, KNOWN), ("c", 0, KNOWN + pd.Timedelta("90D")))
    result = classify_labels(given, rows("a", "b", "c", "d"), config, NOW)
    assert (result.mature, result.never, result.pending) == (1, 1, 2)
    assert list(result.known["parcel"]) == ["a", "b"]
    assert result.bad.empty


def test_a_label_known_exactly_now_counts(config):
    assert classify_labels(labels(("a", 1, NOW)), rows("a"), config, NOW).mature == 1


def test_the_newest_known_correction_counts(config):
    given = labels(("a", 1, KNOWN), ("a", 0, KNOWN + pd.Timedelta("1D")), ("a", 1, KNOWN + pd.Timedelta("90D")))
    result = classify_labels(given, rows("a"), config, NOW)
    assert list(newest_labels(result.known, config)["late"]) == [0]
    assert result.mature == 1


def test_a_point_in_time_query_has_the_label_before_its_correction(config):
    """A training of the first day used the label 1. To reproduce it, that label must still be there."""
    given = labels(("a", 1, KNOWN), ("a", 0, KNOWN + pd.Timedelta("2D")), ("b", 1, KNOWN))
    given = pd.concat([given, labels(("b", None, KNOWN + pd.Timedelta("2D")))])
    result = classify_labels(given, rows("a", "b"), config, NOW)
    assert (result.mature, result.never) == (1, 1)
    before, after = (newest_labels(result.known, config, KNOWN + pd.Timedelta(days=d)) for d in (1, 2))
    assert list(before["late"]) == [1, 1]
    assert list(after["parcel"]) == ["a", "b"]
    assert after["late"].iloc[0] == 0
    assert pd.isna(after["late"].iloc[1])


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (("z", 1, KNOWN), "no row has this key"),
        ((None, 1, KNOWN), "no key"),
        (("a", 2, KNOWN), "late is not 0 or 1"),
        (("a", float("inf"), KNOWN), "late is not 0 or 1"),
        (("a", 1, AT - pd.Timedelta("1s")), "known_at is before the time of its row"),
        (("a", 1, None), "no known_at"),
    ],
)
def test_faulty_labels_have_a_reason(config, given, reason):
    result = classify_labels(labels(given), rows("a"), config, NOW)
    assert list(result.bad["reasons"]) == [reason]
    assert result.known.empty
    assert result.pending == 1


def test_an_outcome_that_float32_cannot_hold_is_faulty(config):
    config = config.model_copy(update={"target": config.target.model_copy(update={"kind": "regression"})})
    largest = float(np.finfo("float32").max)
    result = classify_labels(labels(("a", largest, KNOWN), ("b", 1e39, KNOWN)), rows("a", "b"), config, NOW)
    assert list(result.known["late"]) == [largest]
    assert list(result.bad["reasons"]) == ["late is not a finite number up to 3.40282e+38"]


def test_duplicates_are_all_faulty(config):
    result = classify_labels(labels(("a", 1, KNOWN), ("a", 0, KNOWN), ("b", 1, KNOWN)), rows("a", "b"), config, NOW)
    assert list(result.known["parcel"]) == ["b"]
    assert len(result.bad) == 2


@pytest.mark.parametrize("kind", ["str", "object"])
def test_the_join_equals_a_merge_of_pandas(config, kind):
    """Rows in their order, without rows that have no outcome."""
    outcomes = labels(("d", 1, KNOWN), ("b", None, KNOWN), ("a", 0, KNOWN), ("z", 1, KNOWN))
    given = rows("c", "a", "b", "d").astype({"parcel": kind}).set_axis([7, 7, 3, 1])
    result = join_outcomes(given, outcomes, config)
    expected = given.merge(
        outcomes.loc[outcomes["late"].notna(), ["parcel", "late"]], on="parcel", validate="one_to_one"
    )
    pd.testing.assert_frame_equal(result, expected)
    assert list(result["parcel"]) == ["a", "d"]


@pytest.mark.parametrize(("keys", "outcomes"), [("aab", "ab"), ("ab", "aab")])
def test_a_duplicate_key_is_not_joined(config, keys, outcomes):
    with pytest.raises(ValueError, match="tiny: parcel 'a' occurs twice"):
        join_outcomes(rows(*keys), labels(*((key, 1, KNOWN) for key in outcomes)), config)
