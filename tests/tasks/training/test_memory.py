"""A window that this machine cannot hold is refused before anything is read; with `max_rows` a sample is learned from."""

import pandas as pd
import pytest
import yaml

from tasks.contracts import Stage
from tasks.errors import TooMuchData
from tasks.resources import open_resources
from tasks.steps.order import INDEPENDENT
from tasks.steps.step import advance
from tasks.storage.partitions import between
from tasks.training.memory import allotted
from tasks.training.window import locate_window, read_rows, rows_to_fit

FIRST, LAST = "2024-03-01", "2024-03-06"


@pytest.fixture
def made(tiny):
    res = open_resources("tiny")
    for ref in between(res.config, FIRST, LAST):
        for step in INDEPENDENT:
            advance(step, ref, res)
    return tiny


def with_most(folder, most):
    path = folder / "configs" / "tiny" / "model.yaml"
    config = yaml.safe_load(path.read_text())
    config["training"]["window"]["max_rows"] = most
    path.write_text(yaml.safe_dump(config))
    return open_resources("tiny")


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        (
            "EVERGREEN_WINDOW_ROWS",
            "899",
            r"has 900 rows, and EVERGREEN_WINDOW_ROWS allows 899; set training.window.max_rows",
        ),
        (
            "EVERGREEN_WINDOW_MB",
            "0.5",
            r"takes some .* MB, and EVERGREEN_WINDOW_MB allows 0.5; set training.window.max_rows",
        ),
    ],
)
def test_a_window_over_the_budget_is_refused_with_the_way_out(made, monkeypatch, setting, value, told):
    monkeypatch.setenv(setting, value)
    res = open_resources("tiny")
    for path in (made / "lake" / "tiny").rglob("*.parquet"):
        path.unlink()  # nothing is read
    with pytest.raises(TooMuchData, match=told):
        locate_window(res)


def test_a_sample_that_is_still_too_large_says_so(made, monkeypatch):
    monkeypatch.setenv("EVERGREEN_WINDOW_MB", "0.5")
    with pytest.raises(TooMuchData, match=r"training on 800 of them .* lower training.window.max_rows \(800\)"):
        locate_window(with_most(made, 800))


def test_with_max_rows_a_seeded_sample_of_each_partition_is_fitted_on(made, monkeypatch):
    whole = open_resources("tiny")
    window = locate_window(whole)
    every = rows_to_fit(whole, window, window.end)
    monkeypatch.setenv("EVERGREEN_WINDOW_ROWS", "899")
    res = with_most(made, 300)
    one, two = (rows_to_fit(res, locate_window(res), window.end) for _ in range(2))
    pd.testing.assert_frame_equal(one, two)
    assert len(one) == 300
    days = one["sent"].dt.date.value_counts()
    assert len(days) == 6
    assert days.max() - days.min() <= 1
    assert set(one["parcel"]) < set(every["parcel"])
    assert one["sent"].is_monotonic_increasing
    pd.testing.assert_frame_equal(
        read_rows(res, window, window.holdout_start, window.end),
        every[every["sent"] >= window.holdout_start].reset_index(drop=True),
    )
    assert res.lake.record(Stage.VALID, FIRST).rows == 150


def test_a_sample_smaller_than_min_rows_is_no_config(made):
    from configs.errors import ConfigError

    with pytest.raises(ConfigError, match=r"max_rows \(150\) would have fewer than min_rows \(200\)"):
        with_most(made, 150)


def test_small_partitions_have_their_share_of_a_sample():
    """By largest remainders: an hour of fifty rows is not rounded to none."""
    counts = allotted([50] * 8760, 5000)
    assert sum(counts) == 5000
    assert set(counts) == {0, 1}
    assert allotted([3, 3, 94], 50) in ([2, 1, 47], [1, 2, 47])
    assert allotted([10, 20], 30) == [10, 20]
