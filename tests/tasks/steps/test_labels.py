"""Labels: mature, late, corrected, never to come, and those that cannot be true."""

from datetime import UTC, datetime

import pandas as pd
import pytest

from configs.load import load_model
from tasks.steps.collect import join_outcomes, newest_of, sort_labels

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


def test_mature_never_and_pending_are_told_apart(config):
    given = labels(("a", 1, KNOWN), ("b", None, KNOWN), ("c", 0, KNOWN + pd.Timedelta("90D")))
    found = sort_labels(given, rows("a", "b", "c", "d"), config, NOW)
    assert (found.mature, found.never, found.pending) == (1, 1, 2)
    assert list(found.known["parcel"]) == ["a", "b"]
    assert found.bad.empty


def test_a_label_known_exactly_now_counts(config):
    assert sort_labels(labels(("a", 1, NOW)), rows("a"), config, NOW).mature == 1


def test_of_a_corrected_label_the_newest_known_counts(config):
    given = labels(("a", 1, KNOWN), ("a", 0, KNOWN + pd.Timedelta("1D")), ("a", 1, KNOWN + pd.Timedelta("90D")))
    found = sort_labels(given, rows("a"), config, NOW)
    assert list(newest_of(found.known, config)["late"]) == [0]
    assert found.mature == 1


def test_a_correction_does_not_hide_what_was_known_before_it(config):
    """A training of the first day learned from a 1; it must be made again from that 1, not from nothing."""
    given = labels(("a", 1, KNOWN), ("a", 0, KNOWN + pd.Timedelta("2D")), ("b", 1, KNOWN))
    given = pd.concat([given, labels(("b", None, KNOWN + pd.Timedelta("2D")))])
    found = sort_labels(given, rows("a", "b"), config, NOW)
    assert (found.mature, found.never) == (1, 1)
    before, after = (newest_of(found.known, config, KNOWN + pd.Timedelta(days=d)) for d in (1, 2))
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
        (("a", 1, AT - pd.Timedelta("1s")), "known before the moment of its row"),
        (("a", 1, None), "no known-time"),
    ],
)
def test_what_cannot_be_true_is_put_aside_with_its_reason(config, given, reason):
    found = sort_labels(labels(given), rows("a"), config, NOW)
    assert list(found.bad["reasons"]) == [reason]
    assert found.known.empty
    assert found.pending == 1


def test_of_duplicates_neither_is_believed(config):
    found = sort_labels(labels(("a", 1, KNOWN), ("a", 0, KNOWN), ("b", 1, KNOWN)), rows("a", "b"), config, NOW)
    assert list(found.known["parcel"]) == ["b"]
    assert len(found.bad) == 2


@pytest.mark.parametrize("kind", ["str", "object"])
def test_outcomes_are_joined_as_a_merge_would_join_them(config, kind):
    """Rows in their order, without those that have no outcome yet or never will."""
    told = labels(("d", 1, KNOWN), ("b", None, KNOWN), ("a", 0, KNOWN), ("z", 1, KNOWN))
    given = rows("c", "a", "b", "d").astype({"parcel": kind}).set_axis([7, 7, 3, 1])
    found = join_outcomes(given, told, config)
    wanted = given.merge(told.loc[told["late"].notna(), ["parcel", "late"]], on="parcel", validate="one_to_one")
    pd.testing.assert_frame_equal(found, wanted)
    assert list(found["parcel"]) == ["a", "d"]


@pytest.mark.parametrize(("keys", "told"), [("aab", "ab"), ("ab", "aab")])
def test_outcomes_are_not_joined_where_a_key_stands_twice(config, keys, told):
    with pytest.raises(ValueError, match="tiny: a parcel stands twice"):
        join_outcomes(rows(*keys), labels(*((key, 1, KNOWN) for key in told)), config)
