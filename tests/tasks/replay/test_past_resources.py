"""The resources of a replay: later data are refused, and results are computed once."""

from typing import Any

import pandas as pd
import pytest
import skops.io
from sklearn.linear_model import LinearRegression
from upath import UPath

from tasks.contracts import Recipe, Registration, Stage, Version
from tasks.errors import ForgedVersion, FutureRead, UnknownVersion
from tasks.models.fingerprint import model_digest
from tasks.replay import past_registry
from tasks.replay.past_registry import ReplayRegistry
from tasks.replay.past_resources import ReplayResources, replay_resources
from tasks.replay.policies import BUILT_IN, NEVER
from tasks.resources import open_resources
from tasks.steps.collect import COLLECT
from tasks.steps.ingest import INGEST
from tasks.steps.step import advance
from tasks.steps.validate import VALIDATE
from tasks.storage.lake import Lake
from tests.tasks.ledger.test_store import postgres_schema

pytestmark = pytest.mark.long

FIRST, SECOND = "2024-03-05", "2024-03-06"


@pytest.fixture
def live(tiny):
    res = open_resources("tiny")
    for key in (FIRST, SECOND):
        for step in (INGEST, VALIDATE):
            advance(step, res.ref(key), res)
    return res


def at(live, key: str) -> ReplayResources:
    """Return the resources of a replay at the as-of of a partition."""
    return replay_resources(live, BUILT_IN[NEVER], live.ref(key).as_of)


def test_a_later_partition_is_not_listed_and_reading_it_is_refused(live):
    res = at(live, FIRST)
    assert res.lake.keys(Stage.VALID) == [FIRST]
    assert res.lake.read(Stage.VALID, FIRST).shape[0] == 150
    for read in (res.lake.record, res.lake.read, res.lake.done):
        with pytest.raises(FutureRead, match=f"the replay read {SECOND}, which is known only from 2024-03-08"):
            read(Stage.VALID, SECOND)
    res.lake.now = live.ref(SECOND).as_of
    assert res.lake.keys(Stage.VALID) == [FIRST, SECOND]


def test_a_later_outcome_is_refused(live):
    """Labels are collected as of a later time than the simulated one."""
    res = at(live, FIRST)
    advance(COLLECT, res.ref(FIRST, live.ref(SECOND).as_of), res)
    known_at = res.lake.read(Stage.LABELS, FIRST)["known_at"]
    assert known_at.max() <= res.lake.now
    res.lake.as_of = lambda _: known_at.max() - pd.Timedelta(1, "D")  # so that the partition itself is not refused
    res.lake.now = known_at.max() - pd.Timedelta(1, "s")
    with pytest.raises(FutureRead, match="the replay read an outcome that became known at"):
        res.lake.read(Stage.LABELS, FIRST)


def test_a_replay_changes_nothing_of_production(live):
    before = sorted(p for p in live.lake.root.rglob("*") if "replay" not in p.parts)
    res = at(live, SECOND)
    advance(COLLECT, res.ref(FIRST), res)
    assert live.lake.record(Stage.LABELS, FIRST) is None
    assert live.lake.keys(Stage.LABELS) == []
    assert sorted(p for p in live.lake.root.rglob("*") if "replay" not in p.parts) == before
    assert res.ledger.promotions() == []


def test_an_output_is_computed_once_for_all_policies_and_again_for_another_time(live, monkeypatch):
    written = []
    original = Lake.write_record
    monkeypatch.setattr(
        Lake, "write_record", lambda self, ref, stage, **kw: written.append(ref) or original(self, ref, stage, **kw)
    )
    one, two = at(live, SECOND), at(live, SECOND)
    first = advance(COLLECT, one.ref(FIRST), one)
    assert advance(COLLECT, two.ref(FIRST), two) == first
    assert len(written) == 1
    early = at(live, FIRST)
    later = advance(COLLECT, early.ref(FIRST, live.ref(FIRST).end), early)
    assert later.data["pending"] > first.data["pending"]
    assert len(written) == 2


def test_a_failure_is_not_cached_and_recorded_for_this_policy_only(live, monkeypatch):
    res = at(live, SECOND)
    monkeypatch.setattr("tasks.steps.collect.read_labels", lambda *_: (_ for _ in ()).throw(MemoryError("no room")))
    with pytest.raises(MemoryError):
        advance(COLLECT, res.ref(FIRST), res)
    assert "no room" in res.lake.failure(Stage.LABELS, FIRST)
    assert live.lake.failure(Stage.LABELS, FIRST) == ""
    monkeypatch.undo()
    assert advance(COLLECT, res.ref(FIRST), res).data["mature"] == 147


def test_an_unknown_version_is_an_error(live):
    with pytest.raises(UnknownVersion, match="has no version 7"):
        at(live, FIRST).registry.cached_version("7")


@pytest.mark.servers
def test_computing_is_locked_in_postgresql_too(tiny, monkeypatch):
    monkeypatch.setenv("EVERGREEN_DATABASE_URL", postgres_schema())
    live = open_resources("tiny")
    for step in (INGEST, VALIDATE):
        advance(step, live.ref(FIRST), live)
    res = at(live, SECOND)
    assert advance(COLLECT, res.ref(FIRST), res).data["mature"] == 147
    assert res.cache.result(int, lambda: ["a name"], lambda: 7) == 7
    assert res.cache.claims.active() == {}


def test_a_damaged_or_changed_model_file_is_refused_with_path_and_remedy(tmp_path):
    model, other = (
        LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0]),
        LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0]),
    )
    moment, digest = pd.Timestamp("2024-03-05", tz="UTC"), model_digest(model)
    version = Version("m", "", "", digest, moment, moment, moment, Recipe("a", "ridge", {}), (0.5,), 2)
    registry = ReplayRegistry(UPath(tmp_path), "m", {})
    config: Any = None  # it is not used
    number = registry.register(model, config, Registration(version, "", "challenger", {}, {}, ())).version
    (file,) = (tmp_path / "models").glob("*.skops")
    assert model_digest(ReplayRegistry(UPath(tmp_path), "m", {}).load(number, digest)) == digest
    for content in (skops.io.dumps(other), file.read_bytes()[:-50]):
        file.write_bytes(content)
        past_registry._load.cache_clear()
        with pytest.raises(ForgedVersion, match=f"{file} .*Delete it and run the replay again"):
            registry.load(number, digest)
