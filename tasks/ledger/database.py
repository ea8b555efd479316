"""The database of the ledger: opened once in a process, its tables created or migrated on first use."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from filelock import FileLock

from tasks.ledger.tables import HEAD
from tasks.storage.folders import make_folder


@functools.lru_cache(maxsize=8)
def open_database(url: str) -> sa.Engine:
    """Return the engine for an SQLAlchemy URL, one per process, with all migrations applied."""
    address = sa.make_url(url)
    local = Path(address.database) if address.get_backend_name() == "sqlite" and address.database else None
    if local:
        make_folder(local.parent)
        if not str(local).startswith((":", "file:")) and not local.exists():
            local.touch(mode=0o600)  # SQLite gives its other files the rights of this one
    timeout = (
        {"timeout": 30} if local else {"connect_timeout": 10} if address.get_backend_name() == "postgresql" else {}
    )
    engine = sa.create_engine(address, connect_args=timeout, pool_pre_ping=not local)
    if schema_revision(engine) != HEAD:
        with _exclusively(engine, local):
            migrate(engine)
    return engine


def schema_revision(engine: sa.Engine) -> str | None:
    """Return the newest migration that was applied to a database, None for a database without tables."""
    with engine.connect() as con:
        if not sa.inspect(con).has_table("alembic_version"):
            return None
        return con.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


@contextmanager
def _exclusively(engine: sa.Engine, local: Path | None) -> Iterator[None]:
    """Let one process at a time create or change tables."""
    if local:
        with FileLock(f"{local}.lock", timeout=60):
            yield
        return
    with engine.connect() as con:
        con.execute(sa.text("SELECT pg_advisory_lock(713)"))
        try:
            yield
        finally:
            con.execute(sa.text("SELECT pg_advisory_unlock(713)"))


def migrate(engine: sa.Engine) -> None:
    """Apply the missing migrations, all or none."""
    from alembic import command  # noqa: PLC0415  (needed only when tables are created or changed)
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    sqlite = engine.dialect.name == "sqlite"
    with engine.connect().execution_options(**{"isolation_level": "AUTOCOMMIT"} if sqlite else {}) as con, con.begin():
        if sqlite:  # Python's driver begins a transaction only before an INSERT, so a table would stay after a kill
            con.exec_driver_sql("BEGIN IMMEDIATE")
        config.attributes["connection"] = con
        command.upgrade(config, "head")
