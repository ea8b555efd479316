"""The ledger on SQLite and on PostgreSQL: one champion, one decision per fact, one retraining at a time."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from tasks.contracts import Action, Decision, Fact, Hindsight, Interval, Promotion
from tasks.errors import StaleDecision, UnknownFact
from tasks.ledger import database
from tasks.ledger.chain import broken_links
from tasks.ledger.history import was_proposed
from tasks.ledger.promotions import stage_of
from tasks.ledger.store import Ledger, RetrainingInFlight
from tasks.ledger.tables import HEAD, metadata, promotions

POSTGRES = os.environ.get("EVERGREEN_TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/test")


def postgres_schema() -> str:
    """Return the URL of a new PostgreSQL schema. Skips the test if PostgreSQL does not respond, except in CI."""
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
        database.open_database(url).dispose()


def at(month: int, day: int = 2) -> datetime:
    return datetime(2013, month, day, tzinfo=UTC)


def change(action: Action, version: str, as_of: datetime, champion: Promotion | None = None) -> Promotion:
    """Return a row as a flow passes it to the ledger, decided against `champion`."""
    previous, against = (champion.version, champion.sequence) if champion else (None, 0)
    evidence = {"gain": 0.1, "rules": ("a", "b")}
    return Promotion("m", 0, action, version, previous, as_of, as_of, "evergreen", "test", evidence, against=against)


def promote(ledger: Ledger, version: str, as_of: datetime) -> Promotion:
    return ledger.append(change("promote", version, as_of, ledger.champion()))


def fact(name: str) -> Fact:
    return Fact(name, "m", "drift", "2013-05", at(6), {"drift_share": 0.5})


def retrain(name: str) -> Decision:
    return Decision(name, "m", at(6), "retrain", "drift", "because")


def test_the_champion_as_of_a_moment_was_promoted_before_it(ledger):
    assert ledger.champion() is None
    promote(ledger, "1", at(4))
    promote(ledger, "2", at(6))
    assert ledger.champion(at(4)) is None
    assert ledger.champion(at(4, 3)).version == "1"
    assert ledger.champion(at(6)).version == "1"
    assert ledger.champion(at(6, 3)).version == "2"
    assert ledger.champion().version == "2"


def test_a_row_is_read_as_it_was_written(ledger):
    new_york = at(4).astimezone(timezone(timedelta(hours=-5)))
    written = ledger.append(change("register", "1", new_york))
    assert ledger.promotions() == [written]
    assert (written.sequence, written.evidence["rules"], written.as_of.utcoffset()) == (1, ["a", "b"], timedelta(0))


def test_a_promotion_judged_against_another_champion_is_stale(ledger):
    promote(ledger, "1", at(4))
    with pytest.raises(StaleDecision, match=r"judged against no champion, but the champion now is version 1 \(row 1\)"):
        ledger.append(change("promote", "2", at(5)))


def test_a_decision_against_a_champion_that_was_replaced_and_restored_by_rollback_is_stale(ledger):
    """The comparison with version 1 was made before its second champion period."""
    first = promote(ledger, "1", at(4))
    promote(ledger, "2", at(5))
    ledger.append(change("rollback", "1", at(5), ledger.champion()))
    with pytest.raises(StaleDecision, match=r"row 1\), but the champion now is version 1 \(row 3\)"):
        ledger.append(change("promote", "3", at(6), first))


def test_history_is_not_rewritten(ledger):
    promote(ledger, "1", at(6))
    with pytest.raises(StaleDecision, match="history is not rewritten"):
        promote(ledger, "2", at(5))


def test_each_action_sets_the_stage_of_its_version(ledger):
    promote(ledger, "1", at(4))
    for action in ("register", "stage", "request"):
        ledger.append(change(action, "2", at(5)))
    assert ledger.challenger().version == "2"
    assert ledger.challenger(at(5)) is None
    assert ledger.challenger(at(5, 3)).version == "2"
    promote(ledger, "2", at(6))
    assert ledger.challenger() is None
    assert ledger.challenger(at(6)).version == "2"
    ledger.append(change("register", "3", at(7)))
    ledger.append(change("refuse", "3", at(7)))
    rows = ledger.promotions()
    assert {v: stage_of(v, rows) for v in "1234"} == {"1": "retired", "2": "champion", "3": "refused", "4": ""}
    assert [(r.from_stage, r.to_stage) for r in rows if r.version == "2"] == [
        ("", "candidate"), ("candidate", "challenger"), ("challenger", "challenger"), ("challenger", "champion")
    ]  # fmt: skip


def test_a_wish_to_promote_a_version_changes_no_stage(ledger):
    promote(ledger, "1", at(4))
    ledger.append(change("register", "2", at(5)))
    ledger.append(change("stage", "3", at(5)))
    for version, stage in (("2", "candidate"), ("3", "challenger"), ("4", "candidate")):
        row = ledger.append(change("propose", version, at(6), ledger.champion()))
        assert (row.to_stage, stage_of(version, ledger.promotions())) == (stage, stage)
    assert (ledger.champion().version, ledger.challenger().version) == ("1", "3")
    with pytest.raises(StaleDecision, match="version 1 is champion now"):
        ledger.append(change("propose", "1", at(6), ledger.champion()))


def test_a_proposal_counts_as_the_same_until_it_is_decided(ledger):
    champion = promote(ledger, "1", at(4))

    def proposed(version="2", by="ann", reason="r"):
        return was_proposed(version, champion, by, reason, ledger.promotions())

    ledger.append(replace(change("propose", "2", at(5), champion), by="ann", reason="r"))
    ledger.append(change("stage", "2", at(5), champion))
    assert proposed(), "the run was killed before it promoted the challenger"
    assert not proposed(by="bob")
    assert not proposed(reason="another")
    assert not proposed(version="3")
    ledger.append(change("refuse", "2", at(5), champion))
    assert not proposed(), "it was decided, so this is another one"


def test_only_one_of_several_concurrent_promotions_succeeds_while_other_rows_are_appended(ledger):
    first = promote(ledger, "1", at(4))

    def promote_concurrently(version: str) -> str:
        ledger.append(change("register", version, at(5)))
        try:
            return ledger.append(change("promote", version, at(5), first)).version
        except StaleDecision:
            return ""

    with ThreadPoolExecutor(4) as pool:
        winners = [v for v in pool.map(promote_concurrently, "2345") if v]
    assert len(winners) == 1
    assert [p.version for p in ledger.champions()] == ["1", *winners]
    assert [p.sequence for p in ledger.promotions()] == [1, 2, 3, 4, 5, 6]
    assert broken_links(ledger.promotions()) == []


def test_a_changed_or_deleted_row_breaks_the_hash_chain(ledger):
    promote(ledger, "1", at(4))
    promote(ledger, "2", at(5))
    promote(ledger, "3", at(6))

    def after(statement: sa.Executable) -> list[str]:
        with ledger.engine.connect() as con, con.begin() as change:
            con.execute(statement)
            rows = [Promotion(**row._mapping) for row in con.execute(sa.select(promotions).order_by("sequence"))]
            change.rollback()
        return broken_links(rows)

    second = promotions.c.sequence == 2
    assert after(sa.select(1)) == []
    assert after(sa.update(promotions).where(second).values(by="somebody else")) == [
        "row 2 (version 2, promote) was changed after it was written"
    ]
    assert after(sa.update(promotions).where(second).values(evidence={"gain": 0.2}))
    assert "row 2 is missing before row 3" in after(sa.delete(promotions).where(second))


def test_undelivered_rows_are_listed(ledger):
    promote(ledger, "1", at(4))
    promote(ledger, "2", at(5))
    ledger.mark_delivered(1)
    ledger.mark_delivered(1)
    assert [r.sequence for r in ledger.undelivered()] == [2]


def test_the_migration_adds_hash_chain_and_stages_to_existing_rows(ledger, tmp_path):
    engine = empty_database(ledger, tmp_path)
    to_migration(engine, "0001")
    row = {
        "model": "m",
        "as_of": at(4),
        "window_end": at(4),
        "by": "evergreen",
        "reason": "r",
        "run_id": "",
        "flow_run": "",
    }
    row |= {"action": "promote", "recorded_at": at(5), "evidence": {"digest": "d", "gain": 0.1}, "previous": None}
    with engine.begin() as con:
        old = sa.Table("promotions", sa.MetaData(), autoload_with=con)
        con.execute(sa.insert(old).values(row | {"sequence": 1, "version": "1", "evidence": {"digest": "d"}}))
        con.execute(sa.insert(old).values(row | {"sequence": 2, "version": "2", "previous": "1", "by": "ann"}))
    to_migration(engine, "head")
    migrated = Ledger(engine.url.render_as_string(hide_password=False), "m")
    assert broken_links(migrated.promotions()) == []
    champion = migrated.champion()
    assert (champion.version, champion.against, champion.assurance) == ("2", 1, "asserted")
    assert migrated.undelivered() == []
    assert promote(migrated, "3", at(6)).sequence == 3


def empty_database(ledger: Ledger, tmp_path: Path) -> sa.Engine:
    """Return an engine for a database without tables, SQLite or PostgreSQL like the ledger's."""
    if "sqlite" in ledger.url:
        return sa.create_engine(f"sqlite:///{tmp_path}/old.db")
    metadata.drop_all(ledger.engine)
    with ledger.engine.begin() as con:
        con.execute(sa.text("DROP TABLE alembic_version"))
    return ledger.engine


def to_migration(engine: sa.Engine, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
    with engine.begin() as con:
        config.attributes["connection"] = con
        command.upgrade(config, revision)


def test_a_fact_is_recorded_once_and_is_undecided_until_its_decision(ledger):
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
    ledger.close_decision("a", "failed", "a second outcome")
    assert (ledger.decision("a").outcome, ledger.decision("a").version) == ("promoted", "2")
    assert ledger.record_decision(retrain("b")).action == "retrain"


def test_a_decision_stores_signals_cost_and_gate_verdicts(ledger):
    ledger.record_fact(fact("a"))
    ledger.record_decision(replace(retrain("a"), signals={"drifted": [True, False], "decay": {"rise": 0.1}}))
    ledger.close_decision("a", "refused", "why", "3", 12.5, ["floor: passed", "gain: REFUSED"])
    decision = ledger.decision("a")
    assert decision.signals == {"drifted": [True, False], "decay": {"rise": 0.1}}
    assert (decision.seconds, decision.gate) == (12.5, ("floor: passed", "gain: REFUSED"))
    assert ledger.decisions() == [decision]


def test_facts_of_every_kind_but_alias_are_undecided(ledger):
    for kind in ("drift", "decay", "estimate", "due", "person", "retry", "alias"):
        ledger.record_fact(Fact(kind, "m", kind, "2013-05", at(6), {}))
    assert {f.kind for f in ledger.undecided()} == {"drift", "decay", "estimate", "due", "person", "retry"}


def test_the_effect_of_a_promotion_is_recorded_once(ledger):
    gain = Interval(0.01, -0.001, 0.02)
    effect = Hindsight("m", 3, "5", "2", at(6), "neutral", gain, ("2013-04", "2013-05"), 900, "", "run")
    assert [ledger.record_hindsight(effect), ledger.record_hindsight(replace(effect, verdict="hurt"))] == [True, False]
    without_gain = replace(effect, sequence=4, gain=None, partitions=())
    assert ledger.record_hindsight(without_gain)
    rows = ledger.hindsights()
    assert [replace(h, recorded_at=None) for h in rows] == [effect, without_gain]
    assert ledger.hindsight(3) == rows[0]
    assert ledger.hindsight(9) is None


def test_the_migration_keeps_existing_decisions(ledger, tmp_path):
    """They have no signals, cost or verdicts, and the new columns are empty."""
    engine = empty_database(ledger, tmp_path)
    to_migration(engine, "0002")
    with engine.begin() as con:
        facts, decisions = (sa.Table(n, sa.MetaData(), autoload_with=con) for n in ("facts", "decisions"))
        con.execute(sa.insert(facts).values(vars(fact("a")) | {"recorded_at": at(6)}))
        old = {k: v for k, v in vars(retrain("a")).items() if k not in ("signals", "seconds", "gate")}
        con.execute(sa.insert(decisions).values(old | {"recorded_at": at(6)}))
    to_migration(engine, "head")
    decision = Ledger(engine.url.render_as_string(hide_password=False), "m").decision("a")
    assert (decision.action, decision.signals, decision.seconds, decision.gate) == ("retrain", {}, 0.0, ())


def test_a_ledger_has_only_the_rows_of_its_model(ledger):
    promote(ledger, "1", at(4))
    ledger.record_fact(fact("a"))
    other = Ledger(ledger.url, "n")
    assert other.champion() is None
    assert other.facts() == []
    with pytest.raises(UnknownFact):
        other.fact("a")


def test_the_migrations_create_the_tables_of_the_metadata(ledger):
    with ledger.engine.connect() as con:
        for table in metadata.tables.values():
            columns = {c["name"]: c["nullable"] for c in sa.inspect(con).get_columns(table.name)}
            assert columns == {c.name: c.nullable for c in table.columns}
            indexes = {i["name"] for i in sa.inspect(con).get_indexes(table.name)}
            assert indexes == {i.name for i in table.indexes}


def test_head_is_the_newest_migration():
    scripts = ScriptDirectory(str(Path(database.__file__).parent / "migrations"))
    assert scripts.get_current_head() == HEAD


def test_an_upgrade_that_was_killed_is_repeated_by_the_next_start(ledger, tmp_path, monkeypatch):
    """All or none: a table of a half upgrade would stop every later start."""
    engine = empty_database(ledger, tmp_path)
    to_migration(engine, "0004")
    with engine.begin() as con:
        old = sa.Table("promotions", sa.MetaData(), autoload_with=con)
        row = vars(change("promote", "1", at(4))) | {"sequence": 1, "to_stage": "champion", "recorded_at": at(5)}
        con.execute(sa.insert(old).values(row))

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tasks.ledger.chain.entry_hash", killed)
        with pytest.raises(KeyboardInterrupt):
            database.migrate(engine)
    assert database.schema_revision(engine) == "0004"
    assert not sa.inspect(engine).has_table("chain")
    database.migrate(engine)
    migrated = Ledger(engine.url.render_as_string(hide_password=False), "m")
    assert [(entry.kind, entry.key) for entry in migrated.chain()] == [("promotion", "1")]


def test_a_chain_that_an_earlier_half_upgrade_has_left_is_replaced(ledger, tmp_path):
    engine = empty_database(ledger, tmp_path)
    to_migration(engine, "0004")
    with engine.begin() as con:
        con.execute(sa.text("CREATE TABLE chain (model TEXT)"))
    database.migrate(engine)
    assert Ledger(engine.url.render_as_string(hide_password=False), "m").chain() == []


def test_opening_a_ledger_to_read_does_not_write_its_file(tmp_path):
    file = tmp_path / "ledger.db"
    url = f"sqlite:///{file}"
    database.open_database.__wrapped__(url).dispose()
    os.utime(file, (1e9, 1e9))
    file.chmod(0o444)
    engine = database.open_database.__wrapped__(url)
    with engine.connect() as con:
        assert con.execute(sa.select(promotions)).all() == []
    assert file.stat().st_mtime == 1e9, "a read-only file cannot be written at all"


def test_several_threads_may_open_a_new_database_at_once(tmp_path):
    url = f"sqlite:///{tmp_path}/ledger.db"
    with ThreadPoolExecutor(4) as pool:
        engines = list(pool.map(lambda _: database.open_database.__wrapped__(url), range(4)))
    assert all(database.schema_revision(engine) == HEAD for engine in engines)
