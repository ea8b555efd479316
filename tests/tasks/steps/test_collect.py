"""Labels over time: they mature, are corrected, and are never taken back."""

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


def test_what_is_pending_is_collected_at_a_later_moment(res):
    first = collect(res, EARLY)
    assert (first["mature"], first["never"], first["pending"]) == (58, 3, 89)
    assert freshness(COLLECT, res.ref(DAY, LATE), res).state == "stale"
    later = collect(res, LATE)
    assert (later["mature"], later["never"], later["pending"]) == (147, 3, 0)


def test_a_look_from_an_earlier_moment_takes_nothing_back(res):
    collect(res, LATE)
    assert freshness(COLLECT, res.ref(DAY, EARLY), res).state == "fresh"
    parcels(4).assign(late=1.0).to_parquet(day_file(res.settings.configs.parent, 4), index=False)
    advance(INGEST, res.ref(DAY), res)
    assert collect(res, EARLY)["mature"] == 150


def test_twice_the_same_bytes(res):
    collect(res)
    path = res.lake.path(Stage.LABELS, DAY)
    before = path.read_bytes()
    advance(COLLECT, res.ref(DAY), res, again=True)
    assert path.read_bytes() == before


def test_a_record_is_of_the_moment_whose_labels_it_has(res):
    """Made again at an earlier moment it keeps what was known later, and says so."""
    collect(res, LATE)
    again = advance(COLLECT, res.ref(DAY, EARLY), res, again=True)
    assert again.as_of == LATE
    assert again.data["mature"] == 147


def test_a_correction_counts_from_when_it_was_known_and_not_before(res):
    """All 147 outcomes of the day are corrected two days later, to their opposite; nothing was pending before that."""
    path = res.model.folder / "labels.sql"
    told = path.read_text()
    path.write_text(f"{told} UNION ALL {told.replace('late,', '1 - late AS late,').replace('1 DAY', '3 DAY')}")
    corrected = open_resources("tiny")
    first = collect(corrected, LATE)
    assert (first["mature"], first["pending"], first["later"]) == (147, 0, 149), "midnight's was known just then"
    assert collect(corrected, LATE + pd.Timedelta("7D"))["later"] == 0
    before, after = (read_outcomes(corrected, DAY, LATE + pd.Timedelta(days=d))["late"] for d in (0, 7))
    assert len(before) == len(after) == 147
    assert (before.to_numpy() == 1 - after.to_numpy()).all()
