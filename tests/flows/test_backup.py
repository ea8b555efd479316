"""A backup is of one moment of the ledger, is restored into an empty stack only, and what differs afterwards is a problem."""

import json
import shutil
import sqlite3
import stat
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa

from configs.settings import load_settings
from ops.backup import MANIFEST, backup, databases, ledger_locked
from ops.errors import StackError
from ops.restore import restore, verify
from tasks.contracts import Fact
from tasks.ledger.store import Ledger
from tests.tasks.ledger.test_store import POSTGRES, postgres_schema

pytestmark = [pytest.mark.usefixtures("prefect_server")]


@pytest.fixture
def stack(champion, monkeypatch) -> Path:
    """The settings of a stack with a champion: its MLflow's database and artifacts are those of the test."""
    return as_stack(champion, monkeypatch)


def as_stack(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    patch.setenv("MLFLOW_BACKEND_STORE_URI", f"sqlite:///{folder}/mlflow.db")
    patch.setenv("MLFLOW_ARTIFACTS_DESTINATION", str(folder / "artifacts"))
    (folder / "artifacts" / "1").mkdir(parents=True)
    (folder / "artifacts" / "1" / "model.skops").write_bytes(b"a model")
    return folder


def fact(number: int) -> Fact:
    return Fact(f"fact-{number}", "tiny", "drift", "2024-03-10", datetime(2024, 3, 11, tzinfo=UTC), {"told": "test"})


def move_away(folder: Path) -> None:
    """What a lost machine loses: everything but the backup and the lake."""
    for path in folder.iterdir():
        if path.name not in ("backups", "lake", "configs", "data"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_a_restored_stack_has_the_same_ledger_and_passes_the_audit(stack, monkeypatch):
    settings = load_settings()
    key = stack / ".evergreen" / "personal.key"
    key.write_bytes(b"the key of personal hashes")
    folder = backup(settings, stack / "backups")
    before = json.loads((folder / MANIFEST).read_text())
    assert before["ledger"]["tiny"]["entries"] > 0
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    move_away(stack)
    content = restore(settings, folder)
    assert verify(settings, content) == []
    assert key.read_bytes() == b"the key of personal hashes"
    assert (stack / "artifacts" / "1" / "model.skops").read_bytes() == b"a model"
    assert (
        json.loads((backup(settings, stack / "backups" / "again") / MANIFEST).read_text())["ledger"] == before["ledger"]
    )


def test_what_is_missing_or_damaged_is_named_and_nothing_is_changed(stack):
    settings = load_settings()
    folder = backup(settings, stack / "backups")
    with pytest.raises(StackError, match="has files"):
        restore(settings, folder)
    move_away(stack)
    (stack / ".evergreen").mkdir()
    (folder / "personal.key").write_bytes(b"one")
    (stack / ".evergreen" / "personal.key").write_bytes(b"another")
    with pytest.raises(StackError, match="is another key"):
        restore(settings, folder)
    (folder / "personal.key").unlink()
    whole = (folder / "ledger").read_bytes()
    (folder / "ledger").write_bytes(whole[:-1])
    with pytest.raises(StackError, match="ledger is damaged; use another backup"):
        restore(settings, folder)
    assert not (stack / "ledger.db").exists()
    (folder / "ledger").write_bytes(whole)
    outputs = sorted((stack / "lake" / "tiny").glob("valid/*.json"))
    outputs[0].unlink()
    problems = verify(settings, restore(settings, folder))
    assert len(problems) == 1
    assert "the lake has 9 outputs of valid, and had 10" in problems[0]


def test_while_ledger_and_mlflow_are_copied_no_row_is_written_and_afterwards_all_are(stack):
    """A tag of MLflow about a row that the ledger's copy does not have would end all runs after a restore."""
    settings, written, end = load_settings(), [0], threading.Event()

    def write() -> None:
        ledger = Ledger(settings.database, "tiny")
        while not end.is_set():
            ledger.record_fact(fact(written[0]))
            written[0] += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        folders = [backup(settings, stack / "backups" / str(at)) for at in range(3)]
        with ledger_locked(databases(settings)["ledger"]):
            before = written[0]
            assert not end.wait(0.5)
            assert written[0] <= before + 1  # one was under way
    finally:
        end.set()
        writer.join()
    assert written[0] > before
    for folder in folders:
        with sqlite3.connect(folder / "ledger") as con:
            entries = con.execute("SELECT max(number) FROM chain WHERE model = 'tiny'").fetchone()[0]
        assert json.loads((folder / MANIFEST).read_text())["ledger"]["tiny"]["entries"] == entries


def test_a_restored_ledger_that_lost_entries_is_a_problem(stack):
    settings = load_settings()
    folder = backup(settings, stack / "backups")
    move_away(stack)
    content = restore(settings, folder)
    with sqlite3.connect(stack / "ledger.db") as con:
        con.execute("DELETE FROM chain")
    assert any("of the ledger is nothing, and was" in problem for problem in verify(settings, content))


def test_a_backup_without_mlflow_or_without_a_ledger_is_refused(stack, monkeypatch):
    monkeypatch.setenv("MLFLOW_ARTIFACTS_DESTINATION", str(stack / "elsewhere"))
    with pytest.raises(StackError, match="elsewhere do not exist, but the ledger has rows"):
        backup(load_settings(), stack / "backups")
    monkeypatch.setenv("EVERGREEN_DATABASE_URL", f"sqlite:///{stack}/no-ledger.db")
    with pytest.raises(StackError, match=r"no-ledger.db does not exist; set EVERGREEN_DATABASE_URL"):
        backup(load_settings(), stack / "backups")
    assert not (stack / "no-ledger.db").exists()


def test_a_journal_of_an_earlier_database_is_not_replayed(stack):
    settings = load_settings()
    folder = backup(settings, stack / "backups")
    move_away(stack)
    (stack / "ledger.db-wal").write_bytes(b"rows of the lost database")
    with pytest.raises(StackError, match="is not empty, and a restore would overwrite it"):
        restore(settings, folder)


def test_a_backup_that_fails_leaves_nothing_that_looks_like_one(stack, monkeypatch):
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "postgresql://nobody:s3cret@127.0.0.1:9/none")
    with pytest.raises(StackError, match=r"pg_dump failed|not installed") as caught:
        backup(load_settings(), stack / "backups")
    assert "s3cret" not in str(caught.value)
    assert not list((stack / "backups").iterdir())


@pytest.fixture
def database() -> Iterator[str]:
    """The URL of a new database of PostgreSQL."""
    postgres_schema()  # skips or fails where none answers
    name = f"evergreen_{uuid4().hex[:12]}"
    admin = sa.create_engine(POSTGRES, isolation_level="AUTOCOMMIT")
    with admin.connect() as con:
        con.execute(sa.text(f"CREATE DATABASE {name}"))
    yield sa.make_url(POSTGRES).set(database=name).render_as_string(hide_password=False)
    with admin.connect() as con:
        con.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.mark.slow  # needs pg_dump, of Debian's postgresql-client
def test_a_ledger_in_postgresql_is_dumped_and_restored(workspace, database, monkeypatch):
    as_stack(workspace, monkeypatch)
    monkeypatch.setenv("EVERGREEN_DATABASE_URL", database)
    settings = load_settings()
    Ledger(database, "tiny").record_fact(fact(1))
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", f"sqlite:///{workspace}/mlflow.db")
    sqlite3.connect(workspace / "mlflow.db").close()
    folder = backup(settings, workspace / "backups")
    assert json.loads((folder / MANIFEST).read_text())["databases"] == {
        "ledger": "postgresql",
        "mlflow": "sqlite",
        "prefect": "",
    }
    shutil.rmtree(workspace / "artifacts")
    (workspace / "mlflow.db").unlink()
    with pytest.raises(StackError, match="is not empty, and a restore would overwrite it"):
        restore(settings, folder)
    assert Ledger(database, "tiny").has_fact("fact-1")
    with sa.create_engine(database, isolation_level="AUTOCOMMIT").connect() as con:
        con.execute(sa.text("DROP SCHEMA public CASCADE"))
        con.execute(sa.text("CREATE SCHEMA public"))
    restore(settings, folder)
    assert Ledger(database, "tiny").has_fact("fact-1")
    assert databases(settings)["ledger"].get_backend_name() == "postgresql"
