"""With the rights that docs/audit.md gives it in PostgreSQL, Evergreen can do its work and cannot change what was written."""

import re
from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

import pytest
import sqlalchemy as sa

from configs.settings import ROOT
from tasks.contracts import Hindsight
from tasks.ledger import database
from tasks.ledger.chain import broken_entries
from tasks.ledger.claims import Claims
from tasks.ledger.store import Ledger
from tests.tasks.ledger.test_store import POSTGRES, at, change, fact, postgres_schema, promote, retrain

pytestmark = pytest.mark.long


@pytest.fixture
def limited() -> Iterator[Ledger]:
    """A ledger that is opened as a user with these rights only."""
    url, role = postgres_schema(), f"evergreen_{uuid4().hex[:12]}"
    schema = url.rpartition("%3D")[2]
    owner = database.open_database(url)
    page = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    with owner.begin() as con:
        for statement in filter(str.strip, block.split(";")):
            con.execute(sa.text(re.sub(r"\bevergreen\b", role, statement).replace("SCHEMA public", f"SCHEMA {schema}")))
    limited = sa.make_url(url).set(username=role, password=None).render_as_string(hide_password=False)
    yield Ledger(limited, "m")
    database.open_database(limited).dispose()
    owner.dispose()
    with sa.create_engine(POSTGRES).begin() as con:
        con.execute(sa.text(f"DROP SCHEMA {schema} CASCADE"))
        con.execute(sa.text(f"DROP ROLE {role}"))


def work(ledger: Ledger) -> None:
    """Write what flows write."""
    promote(ledger, "1", at(4))
    ledger.append(change("stage", "2", at(5), ledger.champion()))
    ledger.mark_delivered(1)
    ledger.record_fact(fact("a"))
    ledger.record_decision(retrain("a"))
    ledger.close_decision("a", "promoted", "version 2 is champion", "2", 3.5, ["floor: passed"])
    ledger.record_hindsight(Hindsight("m", 1, "1", "0", at(6), "neutral", None, ("2013-04",), 900))
    with Claims(ledger.url, "m").hold("2013-05"):
        assert list(Claims(ledger.url, "m").active()) == ["2013-05"]


def test_evergreen_can_do_its_work(limited: Ledger) -> None:
    work(limited)
    assert limited.challenger()
    assert broken_entries(*limited.chain_and_contents()) == []
    assert [entry.kind for entry in limited.chain()] == [
        "promotion", "promotion", "fact", "decision", "outcome", "hindsight"
    ]  # fmt: skip
    assert replace(limited.decisions()[0], recorded_at=None).outcome == "promoted"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE promotions SET \"by\" = 'ann'",
        "DELETE FROM promotions",
        "UPDATE deliveries SET sequence = 9",
        "DELETE FROM deliveries",
        "UPDATE facts SET payload = '{}'",
        "DELETE FROM facts",
        "UPDATE decisions SET reason = 'because'",
        "UPDATE decisions SET action = 'decline'",
        "DELETE FROM decisions",
        "UPDATE hindsights SET verdict = 'helped'",
        "DELETE FROM hindsights",
        "UPDATE chain SET hash = ''",
        "DELETE FROM chain",
        "UPDATE alembic_version SET version_num = '0001'",
        "TRUNCATE promotions",
        "DROP TABLE promotions",
        "ALTER TABLE promotions DISABLE TRIGGER ALL",
        "CREATE TABLE more (id integer)",
    ],
)
def test_what_was_written_cannot_be_changed(limited: Ledger, statement: str) -> None:
    work(limited)
    with (
        pytest.raises(sa.exc.ProgrammingError, match=r"permission denied|must be owner"),
        limited.engine.begin() as con,
    ):
        con.execute(sa.text(statement))
