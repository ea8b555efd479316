"""Databases of tests: a SQLite file and a schema of PostgreSQL with the tiny model's rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import sqlalchemy as sa
import yaml
from adbc_driver_postgresql import dbapi as postgresql
from adbc_driver_sqlite import dbapi as sqlite

from configs.load import Model, load_model
from tests.conftest import DAYS, parcels
from tests.tasks.ledger.test_store import POSTGRES, postgres_schema

ADDRESS = "EVERGREEN_CONNECTION_WAREHOUSE"
TEXT = "%Y-%m-%d %H:%M:%S.%f"


@contextmanager
def new_database(kind: str, folder: Path) -> Iterator[str]:
    """Yield the address of a new database."""
    if kind == "sqlite":
        yield f"sqlite:///{folder}/warehouse.db"
        return
    url = postgres_schema()
    try:
        yield url
    finally:
        with sa.create_engine(POSTGRES).begin() as con:
            con.execute(sa.text(f"DROP SCHEMA {url.rpartition('%3D')[2]} CASCADE"))


def connect(address: str) -> Any:
    """A session that may write."""
    if address.startswith("sqlite"):
        return sqlite.connect(address.removeprefix("sqlite:///"), autocommit=True)
    return postgresql.connect(address, autocommit=True)


def run(address: str, *statements: str) -> None:
    """Run statements that change a database."""
    with connect(address) as con, con.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
            cursor.fetchall() if cursor.description else None


def load(address: str, frame: pd.DataFrame, name: str = "parcels") -> None:
    """Add rows to a table, which is created if it does not exist. SQLite has times as text."""
    if address.startswith("sqlite"):
        times = frame.select_dtypes(["datetimetz"]).columns
        frame = frame.assign(**{time: frame[time].dt.strftime(TEXT) for time in times})
    table = pa.Table.from_pandas(frame, preserve_index=False)
    with connect(address) as con, con.cursor() as cursor:
        cursor.adbc_ingest(name, table, mode="create_append")


def load_parcels(address: str) -> None:
    """The rows of the tiny model's files as a table."""
    load(address, pd.concat([parcels(day) for day in range(DAYS)], ignore_index=True))


def database_model(tiny: Path, address: str, **keys: Any) -> Model:
    """Change the tiny model to the table of a database. Keys that are None are left out."""
    path = tiny / "configs" / "tiny" / "model.yaml"
    content = yaml.safe_load(path.read_text())
    table = {"connection": "warehouse", "table": "parcels", "time": "sent", "outcomes": ["late", "arrived"]}
    table |= {"outcomes_known_at": "sent + INTERVAL 1 DAY"}
    table |= {"time_format": TEXT} if address.startswith("sqlite") else {}
    content["source"]["tables"]["parcels"] = {k: v for k, v in (table | keys).items() if v is not None}
    path.write_text(yaml.safe_dump(content))
    return load_model("tiny")
