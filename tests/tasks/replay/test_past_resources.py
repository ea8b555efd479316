"""The replay's world: what lies later is refused, and the same is made once."""

import pandas as pd
import pytest

from tasks.contracts import Stage
from tasks.errors import FutureRead, UnknownVersion
from tasks.replay.past_resources import ReplayResources
from tasks.replay.policies import BUILT_IN, NEVER
from tasks.resources import open_resources
from tasks.steps.collect import COLLECT
from tasks.steps.ingest import INGEST
from tasks.steps.step import advance
from tasks.steps.validate import VALIDATE
from tasks.storage.lake import Lake
from tests.tasks.ledger.test_store import postgres_schema

FIRST, SECOND = "2024-03-05", "2024-03-06"


@pytest.fixture
def live(tiny):
    res = open_resources("tiny")
    for key in (FIRST, SECOND):
        for step in (INGEST, VALIDATE):
            advance(step, res.ref(key), res)
    return res


def at(live, key: str) -> ReplayResources:
    """The world at the moment of a partition."""
    return ReplayResources(live, BUILT_IN[NEVER], live.ref(key).as_of)


def test_a_partition_that_was_not_known_is_not_listed_and_refused_when_asked_for(live):
    res = at(live, FIRST)
    assert res.lake.keys(Stage.VALID) == [FIRST]
    assert res.lake.read(Stage.VALID, FIRST).shape[0] == 150
    for ask in (res.lake.record, res.lake.read, res.lake.done):
        with pytest.raises(FutureRead, match=f"asked for {SECOND}, which is known from 2024-03-08"):
            ask(Stage.VALID, SECOND)
    res.lake.now = live.ref(SECOND).as_of
    assert res.lake.keys(Stage.VALID) == [FIRST, SECOND]


def test_an_outcome_that_was_not_known_is_refused(live):
    """Somebody collects the labels of a later moment than it is."""
    res = at(live, FIRST)
    advance(COLLECT, res.ref(FIRST, live.ref(SECOND).as_of), res)
    known = res.lake.read(Stage.LABELS, FIRST)["known_at"]
    assert known.max() <= res.lake.now
    res.lake.as_of = lambda _: known.max() - pd.Timedelta(1, "D")  # as if the partition had been known at once
    res.lake.now = known.max() - pd.Timedelta(1, "s")
    with pytest.raises(FutureRead, match="was given an outcome that became known at"):
        res.lake.read(Stage.LABELS, FIRST)


def test_production_sees_nothing_of_it(live):
    before = sorted(p for p in live.lake.root.rglob("*") if "replay" not in p.parts)
    res = at(live, SECOND)
    advance(COLLECT, res.ref(FIRST), res)
    assert live.lake.record(Stage.LABELS, FIRST) is None
    assert live.lake.keys(Stage.LABELS) == []
    assert sorted(p for p in live.lake.root.rglob("*") if "replay" not in p.parts) == before
    assert res.ledger.promotions() == []


def test_the_same_is_made_once_whoever_asks_and_another_moment_makes_another(live, monkeypatch):
    made = []
    real = Lake.write_record
    monkeypatch.setattr(
        Lake, "write_record", lambda self, ref, stage, **given: made.append(ref) or real(self, ref, stage, **given)
    )
    one, two = at(live, SECOND), at(live, SECOND)
    first = advance(COLLECT, one.ref(FIRST), one)
    assert advance(COLLECT, two.ref(FIRST), two) == first
    assert len(made) == 1
    early = at(live, FIRST)
    later = advance(COLLECT, early.ref(FIRST, live.ref(FIRST).end), early)
    assert later.data["pending"] > first.data["pending"]
    assert len(made) == 2


def test_what_fails_is_not_kept_and_is_noted_in_this_policys_world_only(live, monkeypatch):
    res = at(live, SECOND)
    monkeypatch.setattr("tasks.steps.collect.read_labels", lambda *_: (_ for _ in ()).throw(MemoryError("no room")))
    with pytest.raises(MemoryError):
        advance(COLLECT, res.ref(FIRST), res)
    assert "no room" in res.lake.failure(Stage.LABELS, FIRST)
    assert live.lake.failure(Stage.LABELS, FIRST) == ""
    monkeypatch.undo()
    assert advance(COLLECT, res.ref(FIRST), res).data["mature"] == 147


def test_a_version_that_was_never_made_is_told(live):
    with pytest.raises(UnknownVersion, match="has made no version 7"):
        at(live, FIRST).registry.recall("7")


@pytest.mark.servers
def test_what_is_made_is_locked_in_postgresql_too(tiny, monkeypatch):
    monkeypatch.setenv("EVERGREEN_DATABASE_URL", postgres_schema())
    live = open_resources("tiny")
    for step in (INGEST, VALIDATE):
        advance(step, live.ref(FIRST), live)
    res = at(live, SECOND)
    assert advance(COLLECT, res.ref(FIRST), res).data["mature"] == 147
    assert res.once(int, lambda: ["a name"], lambda: 7) == 7
    assert res.locks.running() == {}
