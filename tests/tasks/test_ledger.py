"""The ledger on SQLite and on PostgreSQL: one champion, one decision a fact, one retraining at a time."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory

from tasks.contracts import Decision, Fact, Promotion
from tasks.errors import StaleDecision, UnknownFact
from tasks.ledger import store
from tasks.ledger.store import Ledger, RetrainingInFlight
from tasks.ledger.tables import HEAD, metadata

POSTGRES = os.environ.get("EVERGREEN_TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/test")


def postgres_schema() -> str:
    """An address that works in a schema of its own; skips where no PostgreSQL answers, but not in CI."""
    name = f"evergreen_{uuid4().hex[:12]}"
    try:
        with sa.create_engine(POSTGRES, connect_args={"connect_timeout": 5}).begin() as con:
            con.execute(sa.text(f"CREATE SCHEMA {name}"))
    except sa.exc.OperationalError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no PostgreSQL at EVERGREEN_TEST_POSTGRES_URL={POSTGRES}: {error}")
    return f"{POSTGRES}?options=-csearch_path%3D{name}"


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    url = f"sqlite:///{tmp_path}/ledger.db" if request.param == "sqlite" else postgres_schema()
    yield Ledger(url, "m")
    if request.param == "postgresql":
        schema = url.rpartition("%3D")[2]
        with sa.create_engine(POSTGRES).begin() as con:
            con.execute(sa.text(f"DROP SCHEMA {schema} CASCADE"))
        store.open_database(url).dispose()


def at(month: int, day: int = 2) -> datetime:
    return datetime(2013, month, day, tzinfo=UTC)


def promotion(previous: str | None, version: str, as_of: datetime) -> Promotion:
    return Promotion("m", 0, "promote", version, previous, as_of, as_of, "evergreen", "test", {"gain": 0.1})


def fact(name: str) -> Fact:
    return Fact(name, "m", "drift", "2013-05", at(6), {"drift_share": 0.5})


def retrain(name: str) -> Decision:
    return Decision(name, "m", at(6), "retrain", "drift", "because")


def test_the_champion_at_a_moment_is_the_one_promoted_before_it(ledger):
    assert ledger.champion() is None
    ledger.append(promotion(None, "1", at(4)))
    ledger.append(promotion("1", "2", at(6)))
    assert ledger.champion(at(4)) is None
    assert ledger.champion(at(4, 3)).version == "1"
    assert ledger.champion(at(6)).version == "1"
    assert ledger.champion(at(6, 3)).version == "2"
    assert ledger.champion().version == "2"


def test_a_row_is_read_back_as_it_was_written(ledger):
    written = ledger.append(promotion(None, "1", at(4)))
    assert ledger.promotions() == [written]
    assert (written.sequence, written.evidence, written.as_of.utcoffset().total_seconds()) == (1, {"gain": 0.1}, 0)


def test_a_promotion_judged_against_another_champion_is_stale(ledger):
    ledger.append(promotion(None, "1", at(4)))
    with pytest.raises(StaleDecision, match="judged against version none, but the champion now is version 1"):
        ledger.append(promotion(None, "2", at(5)))


def test_history_is_not_rewritten(ledger):
    ledger.append(promotion(None, "1", at(6)))
    with pytest.raises(StaleDecision, match="history is not rewritten"):
        ledger.append(promotion("1", "2", at(5)))


def test_of_racing_promoters_one_wins(ledger):
    ledger.append(promotion(None, "1", at(4)))

    def race(version: str) -> str:
        try:
            return ledger.append(promotion("1", version, at(5))).version
        except StaleDecision:
            return ""

    with ThreadPoolExecutor(4) as pool:
        winners = [v for v in pool.map(race, "2345") if v]
    assert len(winners) == 1
    assert [p.version for p in ledger.promotions()] == ["1", *winners]


def test_a_fact_is_written_once_and_waits_for_its_decision(ledger):
    assert [ledger.record_fact(fact("a")), ledger.record_fact(fact("a"))] == [True, False]
    assert [f.id for f in ledger.undecided()] == ["a"]
    ledger.record_decision(retrain("a"))
    assert ledger.undecided() == []


def test_a_fact_keeps_its_first_decision(ledger):
    ledger.record_fact(fact("a"))
    first = ledger.record_decision(retrain("a"))
    again = ledger.record_decision(Decision("a", "m", at(6), "decline", "cool-down", "later"))
    assert again == first


def test_two_facts_cannot_both_retrain_at_the_same_time(ledger):
    for name in "ab":
        ledger.record_fact(fact(name))
    ledger.record_decision(retrain("a"))
    with pytest.raises(RetrainingInFlight):
        ledger.record_decision(retrain("b"))
    assert ledger.in_flight().fact_id == "a"
    ledger.close_decision("a", "promoted", "version 2 is champion", "2")
    ledger.close_decision("a", "failed", "too late to say so")
    assert (ledger.decision("a").outcome, ledger.decision("a").version) == ("promoted", "2")
    assert ledger.record_decision(retrain("b")).action == "retrain"


def test_models_do_not_see_each_other(ledger):
    ledger.append(promotion(None, "1", at(4)))
    ledger.record_fact(fact("a"))
    other = Ledger(ledger.url, "n")
    assert other.champion() is None
    assert other.facts() == []
    with pytest.raises(UnknownFact):
        other.fact("a")


def test_the_migrations_make_the_tables_that_the_code_reads(ledger):
    with ledger.engine.connect() as con:
        for table in metadata.tables.values():
            found = {c["name"]: c["nullable"] for c in sa.inspect(con).get_columns(table.name)}
            assert found == {c.name: c.nullable for c in table.columns}
            indexes = {i["name"] for i in sa.inspect(con).get_indexes(table.name)}
            assert indexes == {i.name for i in table.indexes}


def test_the_code_stands_at_the_newest_migration():
    scripts = ScriptDirectory(str(Path(store.__file__).parent / "migrations"))
    assert scripts.get_current_head() == HEAD


def test_many_processes_may_open_a_new_database_at_once(tmp_path):
    url = f"sqlite:///{tmp_path}/ledger.db"
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: store.open_database.__wrapped__(url), range(4)))
    assert all(store._version(engine) == HEAD for engine in made)
