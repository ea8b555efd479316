"""Whoever can write only the ledger's database cannot change the past without a trace, nor let Evergreen cover it up.

The ledger is the one that v0.1 wrote, migrated, with its MLflow. Each attacker knows the code and computes all hashes again.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tasks.contracts import Promotion
from tasks.errors import ForgedLedger
from tasks.ledger.chain import broken_entries, broken_links, next_entry, row_hash
from tasks.ledger.contents import contents
from tasks.ledger.tables import chain, decisions, deliveries, facts, promotions
from tasks.lifecycle.audit import audit, compare_with_mlflow
from tasks.lifecycle.outbox import deliver
from tasks.resources import LiveResources, open_resources
from tests.states.test_v01 import EXPECTED, v01

pytestmark = pytest.mark.long

__all__ = ["v01"]  # the fixture
NEW = "00000000-0000-0000-0000-000000000000"
"""The id of a new fact."""


@pytest.fixture
def res(v01: Path) -> LiveResources:
    """The model of the state. Its first run of today's code has written the newest hash into MLflow."""
    res = open_resources("tiny")
    assert deliver(res) == []
    return res


def forge(res: LiveResources, *statements: sa.Executable) -> None:
    """Change the ledger, and compute all of its hashes again."""
    with res.ledger.engine.begin() as con:
        for statement in statements:
            con.execute(statement)
        before = ""
        for row in con.execute(sa.select(promotions).order_by(promotions.c.sequence)).mappings().all():
            forged = replace(Promotion(**row), previous_hash=before)
            before = row_hash(forged)
            at = promotions.c.sequence == forged.sequence
            con.execute(sa.update(promotions).where(at).values(previous_hash=forged.previous_hash, hash=before))
        order = [(e.kind, e.key) for e in res.ledger.chain()]
        con.execute(sa.delete(chain))
        written = {(kind, key): digest for kind, key, _, digest in contents(con, "tiny")}
        last = None
        for kind, key in [
            *(item for item in order if item in written),
            *(item for item in written if item not in order),
        ]:
            last = next_entry("tiny", last, kind, key, written[kind, key])
            con.execute(sa.insert(chain).values(**vars(last)))


def tags(res: LiveResources) -> dict[str, Any]:
    return {version: dict(own) for version, own in res.registry._version_tags().items()}


def assert_detected(res: LiveResources, *problems: str) -> None:
    """The audit reports the change, and no run overwrites what MLflow has."""
    report, before = audit(res, None, None), tags(res)
    assert broken_links(report.rows) == []
    assert broken_entries(*res.ledger.chain_and_contents()) == []
    for problem in problems:
        assert problem in " ".join(report.problems)
    with pytest.raises(ForgedLedger, match="find out who changed it"):
        deliver(res)
    assert tags(res) == before
    assert audit(res, None, None).problems == report.problems


def test_the_untouched_ledger_passes_and_its_newest_hash_is_in_mlflow(res: LiveResources) -> None:
    assert [row.hash for row in res.ledger.promotions()] == [row[-1] for row in EXPECTED["promotions"]]
    head, newest = res.ledger.chain_head(), res.ledger.newest()
    assert head
    assert newest
    decided = sum(decision.outcome != "" for decision in res.ledger.decisions())
    n_facts, n_decisions = len(EXPECTED["facts"]), len(EXPECTED["decisions"])
    assert head.number == len(EXPECTED["promotions"]) + n_facts + n_decisions + decided + len(res.ledger.hindsights())
    assert res.registry.read_copies()[1] == {newest.version: (head.number, head.hash)}
    report = audit(res, None, None)
    assert report.problems == ()
    assert f"{n_facts} facts, {n_decisions} decisions" in report.checked


BY_ANN = (
    sa.update(promotions).where(promotions.c.action == "promote").values(by="ann", reason="mine", assurance="asserted")
)


@pytest.mark.parametrize("undelivered", ["nothing", "the row", "the last row", "all rows"])
def test_a_changed_author_is_detected_whatever_is_deleted_from_the_deliveries(
    res: LiveResources, undelivered: str
) -> None:
    last, changed = res.ledger.newest(), next(r for r in res.ledger.promotions() if r.action == "promote")
    assert last
    deleted: dict[str, sa.ColumnElement[bool]] = {
        "nothing": sa.false(), "the row": deliveries.c.sequence == changed.sequence,
        "the last row": deliveries.c.sequence == last.sequence, "all rows": sa.true(),
    }  # fmt: skip
    forge(res, BY_ANN, sa.delete(deliveries).where(deleted[undelivered]))
    assert_detected(res, f"row {changed.sequence}: version {changed.version} in MLflow has another hash of it")


def test_a_delivery_that_was_deleted_is_a_problem_of_its_own(res: LiveResources) -> None:
    forge(res, sa.delete(deliveries).where(deliveries.c.sequence == 1))
    assert_detected(res, "row 1 is not recorded as delivered, but row")


def test_a_promotion_of_another_version_is_detected(res: LiveResources) -> None:
    champion = res.ledger.champion()
    assert champion
    other = next(r.version for r in res.ledger.promotions() if r.version != champion.version)
    at, later = promotions.c.sequence == champion.sequence, deliveries.c.sequence >= champion.sequence
    forge(res, sa.update(promotions).where(at).values(version=other), sa.delete(deliveries).where(later))
    mark = f"version {champion.version} in MLflow has a mark of row {champion.sequence}"
    assert_detected(res, f"{mark}, which the ledger does not have")


@pytest.mark.parametrize(
    "statement",
    [
        sa.update(facts).values(payload={"told": "nothing drifted"}),
        sa.update(facts).values(partition="2024-01-01"),
        sa.update(decisions).values(action="decline", reason="because"),
        sa.update(decisions).values(outcome="promoted", version="9"),
        sa.delete(decisions),
    ],
    ids=["a fact's payload", "a fact's partition", "a decision", "an outcome", "no decision"],
)
def test_changed_facts_and_decisions_are_detected(res: LiveResources, statement: sa.Executable) -> None:
    """The newest hash in MLflow covers them, and each of their events has its own."""
    newest = res.ledger.newest()
    assert newest
    forge(res, statement)
    assert_detected(res, f"version {newest.version} in MLflow has")


def test_the_newest_fact_cannot_be_removed(res: LiveResources) -> None:
    fact = res.ledger.facts()[-1]
    new = replace(fact, id=NEW, partition="2024-03-21")
    assert res.ledger.record_fact(new)
    deliver(res)
    forge(res, sa.delete(facts).where(facts.c.id == new.id))
    assert_detected(res, "of the chain, which the ledger does not have")


def test_without_the_last_version_nothing_is_overwritten_and_production_continues(res: LiveResources) -> None:
    """The ledger does not know the version any more. MLflow may as well have it from the ledger of another home."""
    newest = res.ledger.newest()
    assert newest
    first = next(row.sequence for row in res.ledger.promotions() if row.version == newest.version)
    gone = sa.delete(promotions).where(promotions.c.version == newest.version)
    forge(res, gone, sa.delete(deliveries).where(deliveries.c.sequence >= first))
    before, again = tags(res), open_resources("tiny")
    assert deliver(again) == []
    assert tags(res) == before, "neither is the forged hash written onto an earlier version"
    problems = audit(res, None, None).problems
    assert f"version {newest.version} in MLflow has a mark of row {first}, which the ledger does not have" in problems


def test_without_some_rows_of_the_last_version_each_run_ends(res: LiveResources) -> None:
    newest = res.ledger.newest()
    assert newest
    last = newest.sequence
    forge(res, *(sa.delete(table).where(table.c.sequence == last) for table in (promotions, deliveries)))
    assert_detected(res, f"version {newest.version} in MLflow has a mark of row {last}, which the ledger does not have")


def test_a_slower_process_does_not_replace_a_newer_hash(res: LiveResources, monkeypatch: pytest.MonkeyPatch) -> None:
    slower, old = open_resources("tiny"), res.ledger.chain_head()
    assert res.ledger.record_fact(replace(res.ledger.facts()[-1], id=NEW, partition="2024-03-21"))
    deliver(res)
    before, head = tags(res), res.ledger.chain_head()
    assert head != old
    monkeypatch.setattr(slower.ledger, "chain_head", lambda: old)
    slower.registry.anchored = None
    deliver(slower)
    assert tags(res) == before


def test_the_newest_hash_is_on_the_newest_version_that_mlflow_has(res: LiveResources) -> None:
    newest = res.ledger.newest()
    assert newest
    res.registry.client.delete_model_version("tiny", newest.version)
    assert res.ledger.record_fact(replace(res.ledger.facts()[-1], id=NEW, partition="2024-03-21"))
    deliver(res)
    head = res.ledger.chain_head()
    assert head
    assert res.registry.read_copies()[1] == {"3": (head.number, head.hash)}, "version 4 was the newest"


def test_a_row_that_is_written_during_an_audit_is_no_problem(res: LiveResources) -> None:
    rows = res.ledger.promotions()
    res.registry.write_ledger_tags(res.ledger.append(replace(rows[-1], action="propose")))
    assert compare_with_mlflow(rows, res) == []


def of(table: sa.Table, fact: str) -> sa.ColumnElement[bool]:
    return table.c[{"facts": "id", "decisions": "fact_id", "chain": "key"}[table.name]] == fact


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        (lambda f: sa.update(facts).where(of(facts, f)).values(payload={}), "fact {} was changed after it was written"),
        (
            lambda f: sa.update(decisions).where(of(decisions, f)).values(reason="r"),
            "the decision about fact {} was changed",
        ),
        (
            lambda f: sa.update(decisions).where(of(decisions, f)).values(seconds=1e6),
            "the outcome of the retraining for fact {}",
        ),
        (
            lambda f: sa.delete(decisions).where(of(decisions, f)),
            "the decision about fact {} was deleted after it was written",
        ),
        (lambda f: sa.delete(chain).where(of(chain, f), chain.c.kind == "fact"), "fact {} is not in the chain"),
    ],
)
def test_a_change_without_new_hashes_is_named(
    res: LiveResources, statement: Callable[[str], sa.Executable], problem: str
) -> None:
    fact = next(decision.fact_id for decision in res.ledger.decisions() if decision.outcome)
    with res.ledger.engine.begin() as con:
        con.execute(statement(fact))
    assert any(problem.format(fact) in line for line in audit(res, None, None).problems)


def test_an_event_with_another_hash_is_a_problem_although_its_id_was_made_from_the_hash(res: LiveResources) -> None:
    """The id of a row's event is derived from its hash. So the event of a row that was forged has to be found by what it is about."""
    row, decision = res.ledger.newest(), res.ledger.decisions()[-1]
    assert row
    row = next(r for r in reversed(res.ledger.promotions()) if r.action in ("promote", "stage"))
    events = {f"row {row.sequence} of version {row.version}": "f" * 64, f"decision {decision.fact_id}": "e" * 64}
    assert audit(res, None, events).problems == (
        f"row {row.sequence} of version {row.version}: its event has another hash",
        f"decision {decision.fact_id}: its event has another hash",
    )
    events = {
        f"row {row.sequence} of version {row.version}": row.hash,
        f"decision {decision.fact_id}": res.ledger.chained("decision", decision.fact_id),
    }
    report = audit(res, None, events)
    assert report.problems == ()
    assert report.checked.endswith("2 events that Prefect still has")
