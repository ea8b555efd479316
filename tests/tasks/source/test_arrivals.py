"""The digest of what has arrived changes when there may be something to process or to assess, and not otherwise."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
import yaml

from configs.load import Model, load_model
from tasks.source.arrivals import Arrivals, arrivals
from tests.conftest import DAYS, day_file

NOON = datetime(2024, 3, 6, 12, tzinfo=UTC)
"""The grace of a day is over for 2024-03-04 and the days before, and for no later one."""


def configured(folder: Path, **partition: str) -> Model:
    path = folder / "configs" / "tiny" / "model.yaml"
    config = yaml.safe_load(path.read_text())
    config["partition"] |= partition
    path.write_text(yaml.safe_dump(config))
    return load_model("tiny")


@pytest.fixture
def model(tiny) -> Model:
    """Labels take three days, and files exist up to March 10."""
    for day in range(10, DAYS):
        day_file(tiny, day).unlink()
    path = tiny / "configs" / "tiny" / "model.yaml"
    path.write_text(path.read_text().replace("kind: binary, delay: 1D", "kind: binary, delay: 3D"))
    return load_model("tiny")


def test_nothing_changes_while_nothing_comes(model):
    assert arrivals(model, NOON) == arrivals(model, NOON + timedelta(hours=11, minutes=59))


def test_a_day_that_becomes_complete_is_to_be_processed_and_one_that_has_matured_to_be_assessed(model):
    midnights = [arrivals(model, NOON + timedelta(days=n)) for n in range(5)]
    assert len({a.to_process for a in midnights}) == 5
    assert len({a.to_assess for a in midnights}) == 5


def test_a_source_that_has_ended_gives_nothing_new_once_its_last_labels_have_matured(model):
    after = [arrivals(model, datetime(2024, 3, n, tzinfo=UTC)) for n in range(11, 18)]
    assert len({a.to_process for a in after}) == 2, "the tenth day is complete on March 12"
    assert len({a.to_assess for a in after}) == 4, (
        "its labels have matured on March 14, those of the days before earlier"
    )


@pytest.mark.parametrize(("day", "changes"), [(0, True), (3, True), (4, False), (9, False)])
def test_a_file_counts_once_its_day_is_complete(model, tiny, day, changes):
    before = arrivals(model, NOON)
    pd.read_parquet(day_file(tiny, day)).head(20).to_parquet(day_file(tiny, day))
    assert (arrivals(model, NOON) != before) == changes


def test_a_file_that_is_replaced_by_one_of_the_same_size_has_arrived(model, tiny):
    before = arrivals(model, NOON)
    os.utime(day_file(tiny, 2), ns=(1, 1))
    assert arrivals(model, NOON).to_process != before.to_process
    assert arrivals(model, NOON).to_assess != before.to_assess


def test_the_zone_of_the_partitions_decides_when_a_day_is_complete(model, tiny):
    for hour, complete in ((4, False), (5, True)):
        ours = arrivals(configured(tiny, timezone="America/New_York"), datetime(2024, 3, 7, hour, tzinfo=UTC))
        before = arrivals(configured(tiny, timezone="America/New_York"), datetime(2024, 3, 7, tzinfo=UTC))
        assert (ours != before) == complete


def test_a_model_without_files_has_nothing(model, tiny):
    for file in (tiny / "data").glob("*.parquet"):
        file.unlink()
    assert arrivals(model, NOON) == Arrivals("", "")


def test_a_flat_file_counts_as_a_whole_and_only_for_days_that_can_have_rows(tiny):
    rows = pd.concat([pd.read_parquet(day_file(tiny, day)) for day in range(3)])
    rows.to_parquet(tiny / "data" / "flat.parquet")
    path = tiny / "configs" / "tiny" / "model.yaml"
    config = yaml.safe_load(path.read_text())
    config["source"] = {"file": {"path": str(tiny / "data" / "flat.parquet")}}
    path.write_text(yaml.safe_dump(config))
    flat = load_model("tiny")
    written = datetime.now(UTC)
    before = arrivals(flat, written)
    assert arrivals(flat, written + timedelta(days=2)).to_process != before.to_process, (
        "a row may be as late as tomorrow"
    )
    assert len({arrivals(flat, written + timedelta(days=n)).to_process for n in range(4, 9)}) == 1
    rows.head(40).to_parquet(tiny / "data" / "flat.parquet")
    assert arrivals(flat, written).to_process != before.to_process
