"""Read the source: partitions, declared columns, errors, and the target leakage check."""

import shutil

import pandas as pd
import pytest

from configs.errors import ConfigError
from configs.load import load_model
from tasks.errors import LeakFound, MissingSource, SourceMismatch
from tasks.source.extent import available_partitions, fingerprint
from tasks.source.leaks import check_leaks
from tasks.source.rows import read_labels, read_source
from tasks.storage.partitions import partition
from tests.conftest import DAYS, ROWS, day_file, parcels


def ref(key: str = "2024-03-05"):
    return partition(load_model("tiny").config, key)


def rewrite_sql(folder, old: str, new: str) -> None:
    path = folder / "configs" / "tiny" / "source.sql"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_a_partition_has_its_own_rows_in_order(tiny):
    rows = read_source(load_model("tiny"), ref()).to_pandas()
    expected = parcels(4)[["parcel", "sent", "weight", "distance", "city"]]
    pd.testing.assert_frame_equal(rows, expected, check_dtype=False)


def test_the_number_of_threads_does_not_change_the_result(tiny):
    one, two = (read_source(load_model("tiny"), ref(), threads) for threads in (1, 2))
    assert one.equals(two)


def test_dated_files_determine_the_available_partitions(tiny):
    assert available_partitions(load_model("tiny")) == [f"2024-03-{d:02d}" for d in range(1, DAYS + 1)]


def test_a_source_without_files_has_no_partitions(tiny):
    shutil.rmtree(tiny / "data")
    assert available_partitions(load_model("tiny")) == []
    path = tiny / "configs" / "tiny" / "model.yaml"
    path.write_text(path.read_text().replace("parcels-%Y-%m-%d.parquet\n      every: D", "all.csv"))
    assert available_partitions(load_model("tiny")) == []


def test_the_times_of_one_file_determine_the_available_partitions(tiny):
    pd.concat(parcels(day) for day in range(3)).to_csv(tiny / "data" / "all.csv", index=False)
    path = tiny / "configs" / "tiny" / "model.yaml"
    text = path.read_text().replace("parcels-%Y-%m-%d.parquet\n      every: D", "all.csv")
    path.write_text(text)
    assert available_partitions(load_model("tiny")) == ["2024-03-01", "2024-03-02", "2024-03-03"]
    assert read_source(load_model("tiny"), ref("2024-03-02")).num_rows == ROWS


def test_labels_have_the_time_when_they_became_known(tiny):
    labels = read_labels(load_model("tiny"), ref()).to_pandas()
    assert labels["late"].isna().sum() == 3
    assert ((labels["known_at"] - parcels(4)["sent"]) == pd.Timedelta("1D")).all()


def test_the_fingerprint_depends_only_on_the_files_of_the_partition_and_its_lookback(tiny):
    before = {day: fingerprint(load_model("tiny"), ref(f"2024-03-{day:02d}")) for day in (4, 5, 6, 7)}
    parcels(4).assign(weight=0.0).to_parquet(day_file(tiny, 4), index=False)
    changed = {day for day in before if fingerprint(load_model("tiny"), ref(f"2024-03-{day:02d}")) != before[day]}
    assert changed == {5, 6}


def test_the_error_for_a_missing_partition_has_its_key(tiny):
    with pytest.raises(MissingSource, match=r"tiny 2025-01-01.*parcels"):
        read_source(load_model("tiny"), ref("2025-01-01"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:500]), "parquet"),
        (lambda p: p.write_bytes(b"not a parquet file at all, but long enough to be one"), "parquet"),
        (lambda p: parcels(4).drop(columns="weight").to_parquet(p, index=False), "weight"),
        (lambda p: parcels(4).rename(columns={"weight": "Gewicht"}).to_parquet(p, index=False), "weight"),
        (lambda p: parcels(4).assign(weight="heavy").to_parquet(p, index=False), "weight"),
        (lambda p: parcels(4).assign(sent="today").to_parquet(p, index=False), "sent"),
        (lambda p: parcels(4).assign(late="no").to_parquet(p, index=False), "late"),
    ],
    ids=[
        "truncated",
        "corrupt",
        "missing column",
        "renamed column",
        "text for a number",
        "text for a time",
        "text for a label",
    ],
)
def test_the_error_for_damaged_data_has_the_model_and_the_column(tiny, damage, message):
    damage(day_file(tiny, 4))
    day_file(tiny, 3).unlink()
    read = read_labels if message == "late" else read_source
    with pytest.raises(SourceMismatch) as caught:
        read(load_model("tiny"), ref())
    assert message in str(caught.value)
    assert "configs/tiny" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (", city", "", "does not return city"),
        (", city", ", city, late", "returns late"),
    ],
)
def test_sql_that_returns_other_columns_than_declared_is_a_config_error(tiny, old, new, message):
    rewrite_sql(tiny, old, new)
    with pytest.raises(ConfigError, match=message):
        read_source(load_model("tiny"), ref())


def test_a_feature_without_leakage_passes_the_check(tiny):
    check_leaks(load_model("tiny"), ref())
    rewrite_sql(
        tiny,
        "distance,",
        "(SELECT avg(o.late) FROM parcels o WHERE o.sent + INTERVAL 1 DAY <= parcels.sent) AS distance,",
    )
    check_leaks(load_model("tiny"), ref())


@pytest.mark.parametrize(
    "leak",
    [
        "(SELECT avg(o.late) FROM parcels o WHERE o.sent < parcels.sent) AS distance",
        "(SELECT avg(o.late) FROM parcels o) AS distance",
        "late AS distance",
    ],
    ids=["outcomes by their row's time", "outcomes of the whole day", "the row's own outcome"],
)
def test_a_feature_with_target_leakage_is_refused_by_name(tiny, leak):
    rewrite_sql(tiny, "distance", leak)
    with pytest.raises(LeakFound, match="'distance' uses data from after the prediction time"):
        check_leaks(load_model("tiny"), ref())


def test_a_category_with_target_leakage_is_refused(tiny):
    rewrite_sql(tiny, "city", "CASE WHEN late = 1 THEN 'late' END AS city")
    with pytest.raises(LeakFound, match="'city'"):
        check_leaks(load_model("tiny"), ref())
