"""Collection of labels over time: they mature and are corrected, and an earlier as-of removes none."""

import pandas as pd
import pytest

from tasks.contracts import Stage
from tasks.resources import Resources, open_resources
from tasks.steps.collect import COLLECT, read_outcomes
from tasks.steps.ingest import INGEST
from tasks.steps.step import advance, freshness
from tests.conftest import day_file, parcels

DAY = "2024-03-05"
EARLY, LATE = pd.Timestamp("2024-03-06 01:00", tz="UTC"), pd.Timestamp("2024-03-08", tz="UTC")


@pytest.fixture
def res(tiny) -> Resources:
    opened = open_resources("tiny")
    advance(INGEST, opened.ref(DAY), opened)
    return opened


def collect(res: Resources, as_of=None) -> dict:
    return dict(advance(COLLECT, res.ref(DAY, as_of), res).data)


def test_pending_labels_are_collected_at_a_later_as_of(res):
    first = collect(res, EARLY)
    assert (first["mature"], first["never"], first["pending"]) == (58, 3, 89)
    assert freshness(COLLECT, res.ref(DAY, LATE), res).state == "stale"
    later = collect(res, LATE)
    assert (later["mature"], later["never"], later["pending"]) == (147, 3, 0)


def test_an_earlier_as_of_keeps_labels_that_are_known_already(res):
    collect(res, LATE)
    assert freshness(COLLECT, res.ref(DAY, EARLY), res).state == "fresh"
    parcels(4).assign(late=1.0).to_parquet(day_file(res.settings.configs.parent, 4), index=False)
    advance(INGEST, res.ref(DAY), res)
    assert collect(res, EARLY)["mature"] == 150


def test_a_second_run_writes_the_same_bytes(res):
    collect(res)
    path = res.lake.path(Stage.LABELS, DAY)
    before = path.read_bytes()
    advance(COLLECT, res.ref(DAY), res, again=True)
    assert path.read_bytes() == before


def test_the_records_as_of_is_that_of_its_labels(res):
    """A second run at an earlier as-of keeps the labels, and also the as-of of the record."""
    collect(res, LATE)
    again = advance(COLLECT, res.ref(DAY, EARLY), res, again=True)
    assert again.as_of == LATE
    assert again.data["mature"] == 147


def test_a_correction_counts_from_its_known_at(res):
    """All 147 outcomes of the day are corrected two days later to their opposite. Nothing was pending before that."""
    path = res.model.folder / "labels.sql"
    sql = path.read_text()
    path.write_text(f"{sql} UNION ALL {sql.replace('late,', '1 - late AS late,').replace('1 DAY', '3 DAY')}")
    corrected = open_resources("tiny")
    first = collect(corrected, LATE)
    assert (first["mature"], first["pending"], first["later"]) == (147, 0, 149), (
        "one correction is known exactly at LATE"
    )
    assert collect(corrected, LATE + pd.Timedelta("7D"))["later"] == 0
    before, after = (read_outcomes(corrected, DAY, LATE + pd.Timedelta(days=d))["late"] for d in (0, 7))
    assert len(before) == len(after) == 147
    assert (before.to_numpy() == 1 - after.to_numpy()).all()
