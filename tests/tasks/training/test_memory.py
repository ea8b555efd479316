"""A window that is too large for memory is refused before anything is read; with `max_rows` a sample is used."""

import pandas as pd
import pytest
import yaml

from tasks.contracts import Stage
from tasks.errors import TooMuchData
from tasks.resources import open_resources
from tasks.steps.order import INDEPENDENT
from tasks.steps.step import advance
from tasks.storage.partitions import between
from tasks.training.memory import allocate_sample
from tasks.training.window import locate_window, read_rows, rows_to_fit

pytestmark = pytest.mark.long

FIRST, LAST = "2024-03-01", "2024-03-06"


@pytest.fixture
def validated(tiny):
    res = open_resources("tiny")
    for ref in between(res.config, FIRST, LAST):
        for step in INDEPENDENT:
            advance(step, ref, res)
    return tiny


def with_max_rows(folder, max_rows):
    path = folder / "configs" / "tiny" / "model.yaml"
    config = yaml.safe_load(path.read_text())
    config["training"]["window"]["max_rows"] = max_rows
    path.write_text(yaml.safe_dump(config))
    return open_resources("tiny")


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        (
            "EVERGREEN_WINDOW_ROWS",
            "899",
            r"has 900 rows, and EVERGREEN_WINDOW_ROWS allows 899; set training.window.max_rows",
        ),
        (
            "EVERGREEN_WINDOW_MB",
            "0.5",
            r"takes about .* MB, and EVERGREEN_WINDOW_MB allows 0.5; set training.window.max_rows",
        ),
    ],
)
def test_a_window_over_the_budget_is_refused_with_the_settings_to_change(
    validated, monkeypatch, setting, value, message
):
    monkeypatch.setenv(setting, value)
    res = open_resources("tiny")
    for path in (validated / "lake" / "tiny").rglob("*.parquet"):
        path.unlink()  # nothing is read
    with pytest.raises(TooMuchData, match=message):
        locate_window(res)


def test_a_sample_that_is_still_too_large_is_refused(validated, monkeypatch):
    monkeypatch.setenv("EVERGREEN_WINDOW_MB", "0.5")
    with pytest.raises(TooMuchData, match=r"training on 800 of them .* lower training.window.max_rows \(800\)"):
        locate_window(with_max_rows(validated, 800))


def test_with_max_rows_the_rows_to_fit_on_are_a_seeded_sample_of_each_partition(validated, monkeypatch):
    unlimited = open_resources("tiny")
    window = locate_window(unlimited)
    all_rows = rows_to_fit(unlimited, window, window.end)
    monkeypatch.setenv("EVERGREEN_WINDOW_ROWS", "899")
    res = with_max_rows(validated, 300)
    one, two = (rows_to_fit(res, locate_window(res), window.end) for _ in range(2))
    pd.testing.assert_frame_equal(one, two)
    assert len(one) == 300
    days = one["sent"].dt.date.value_counts()
    assert len(days) == 6
    assert days.max() - days.min() <= 1
    assert set(one["parcel"]) < set(all_rows["parcel"])
    assert one["sent"].is_monotonic_increasing
    pd.testing.assert_frame_equal(
        read_rows(res, window, window.holdout_start, window.end),
        all_rows[all_rows["sent"] >= window.holdout_start].reset_index(drop=True),
    )
    assert res.lake.record(Stage.VALID, FIRST).rows == 150


def test_a_sample_smaller_than_min_rows_is_a_config_error(validated):
    from configs.errors import ConfigError

    with pytest.raises(ConfigError, match=r"max_rows \(150\) must not be below min_rows \(200\)"):
        with_max_rows(validated, 150)


def test_small_partitions_have_their_share_of_a_sample():
    """The largest remainder method does not round small partitions to zero."""
    counts = allocate_sample([50] * 8760, 5000)
    assert sum(counts) == 5000
    assert set(counts) == {0, 1}
    assert allocate_sample([3, 3, 94], 50) in ([2, 1, 47], [1, 2, 47])
    assert allocate_sample([10, 20], 30) == [10, 20]
