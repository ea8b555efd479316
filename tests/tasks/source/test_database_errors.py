"""What a database refuses or loses is a clear error, after which nothing is left. Its password is nowhere."""

import contextlib
import socket
import threading
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa

from configs.errors import ConfigError
from tasks.contracts import Stage
from tasks.errors import SourceMismatch, SourceRefused, SourceUnavailable
from tasks.orchestration import prefect_tasks
from tasks.resources import Resources, open_resources
from tasks.source.connections import hide
from tasks.source.extent import fingerprint
from tasks.source.rows import read_source
from tasks.steps.ingest import INGEST
from tasks.steps.step import advance
from tasks.storage.partitions import partition
from tests.conftest import free_port
from tests.tasks.ledger.test_store import POSTGRES
from tests.tasks.source.databases import ADDRESS, database_model, load_parcels, new_database, run

PASSWORD = "pass-%F0-hunter2"
DAY = "2024-03-02"


@pytest.fixture
def warehouse(tiny, tmp_path, monkeypatch):
    """The address of a PostgreSQL schema with the tiny model's rows."""
    with new_database("postgresql", tmp_path) as address:
        monkeypatch.setenv(ADDRESS, address)
        load_parcels(address)
        yield address


def read(tiny: Path, address: str, **keys: object) -> None:
    model = database_model(tiny, address, **keys)
    read_source(model, partition(model.config, DAY))


def look(tiny: Path, address: str, **keys: object) -> None:
    model = database_model(tiny, address, **keys)
    ref = partition(model.config, DAY)
    fingerprint(model, ref)
    read_source(model, ref)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("postgresql://reader:PASSWORD@127.0.0.1:PORT/test", "Connection refused"),
        ("postgresql://reader:PASSWORD@nowhere.invalid/test", "could not translate host name"),
    ],
)
def test_a_database_that_does_not_answer_is_asked_again(tiny, monkeypatch, address, message):
    monkeypatch.setenv(ADDRESS, address.replace("PASSWORD", PASSWORD).replace("PORT", str(free_port())))
    with pytest.raises(SourceUnavailable, match=f"table parcels of connection 'warehouse'.*{message}") as error:
        read(tiny, "postgresql")
    assert "hunter2" not in repr(error.getrepr(style="long"))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("", "no address; set EVERGREEN_CONNECTION_WAREHOUSE"),
        ("mysql://reader:PASSWORD@host/test", "begins with none of postgresql:"),
        ("postgresql://reader:PASSWORD@host:port/test", "the address is not valid"),
        ("postgresql:/reader:PASSWORD", "the address is not valid"),
        ("snowflake://reader:PASSWORD@host/test", "needs the package adbc-driver-snowflake"),
        ("sqlite:////nowhere/sales.db?key=PASSWORD", "failed to open|unable to open"),
    ],
)
def test_an_address_that_cannot_work_is_refused_without_its_text(tiny, monkeypatch, address, message):
    monkeypatch.setenv(ADDRESS, address.replace("PASSWORD", PASSWORD))
    with pytest.raises((SourceRefused, SourceUnavailable), match=message) as error:
        read(tiny, "postgresql")
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    "address", [f"postgresql://u:{PASSWORD}@h/d", f"host=h password={PASSWORD} user=u", f"grpc://h?token={PASSWORD}"]
)
def test_a_password_is_hidden_as_written_and_decoded(address):
    text = f"cannot open {address}; tried {PASSWORD}, and pass-\ufffd-hunter2"
    assert "hunter2" not in hide(text, address)


def test_tables_columns_and_rights_that_are_missing_are_named(tiny, warehouse, monkeypatch):
    cases = [
        ({"table": "parcel"}, 'relation "parcel" does not exist'),
        ({"time": "send"}, "has no column 'send', which `time` names; it has parcel, sent"),
        ({"types": {"wait": "DOUBLE"}}, "has no column wait, which `types` declares"),
        ({"watermark": "changed"}, 'column "changed" does not exist'),
        ({"time": "parcel"}, "column 'parcel' is VARCHAR, and no time"),
        ({"types": {"city": "BIGINT"}}, 'invalid input syntax for type bigint: "(Bonn|Kiel|Ulm)"'),
    ]
    for keys, message in cases:
        with pytest.raises(SourceMismatch, match=message):
            look(tiny, warehouse, **keys)
    role, schema = f"evergreen_{uuid4().hex[:12]}", warehouse.rpartition("%3D")[2]
    with sa.create_engine(POSTGRES).begin() as con:
        con.execute(sa.text(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'"))
        con.execute(sa.text(f"GRANT USAGE ON SCHEMA {schema} TO {role}"))
    try:
        monkeypatch.setenv(ADDRESS, warehouse.replace("postgres@", f"{role}:{PASSWORD.replace('%', '%25')}@"))
        with pytest.raises(SourceRefused, match=r"permission denied for table parcels.*grant the right to read"):
            read(tiny, warehouse)
        monkeypatch.setenv(ADDRESS, warehouse.replace("postgres@", f"nobody:{PASSWORD[:4]}@"))
        with pytest.raises(SourceRefused, match='role "nobody" does not exist'):
            read(tiny, warehouse)
    finally:
        with sa.create_engine(POSTGRES).begin() as con:
            con.execute(sa.text(f"REVOKE ALL ON SCHEMA {schema} FROM {role}"))
            con.execute(sa.text(f"DROP ROLE {role}"))


def test_a_column_that_changes_its_type_is_an_error_where_the_model_needs_the_old_one(tiny, warehouse):
    run(warehouse, "ALTER TABLE parcels ALTER weight TYPE text USING 'heavy'")
    with pytest.raises(SourceMismatch, match=r"weight.*VARCHAR"):
        read(tiny, warehouse)


def test_a_query_that_takes_too_long_is_stopped(tiny, warehouse):
    slow = "SELECT p.*, pg_sleep(0.01) IS NULL AS slept FROM parcels p"
    model = database_model(tiny, warehouse, table=None, query=slow, timeout="0min", watermark="sent")
    object.__setattr__(model.config.source.tables["parcels"], "timeout", model.config.source.lookback / 86400)  # 1 s
    with pytest.raises(SourceUnavailable, match="longer than `timeout`, 1 s"):
        read_source(model, partition(model.config, DAY))


class Proxy:
    """A connection to PostgreSQL that is cut after a number of bytes of answers, once."""

    def __init__(self, limit: int) -> None:
        self.limit, self.cut = limit, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", 5432))
            threading.Thread(target=self._pump, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, True), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        total = 0
        try:
            while data := source.recv(65536):
                total += len(data)
                if counted and not self.cut and total > self.limit:
                    self.cut = 1
                    break
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            with contextlib.suppress(OSError):  # the other thread has closed it
                end.shutdown(socket.SHUT_RDWR)


def test_a_connection_that_is_lost_half_way_leaves_nothing_and_is_tried_again(tiny, tmp_path, monkeypatch, warehouse):
    columns = "sent, weight, distance, city, late, arrived"
    run(warehouse, f"INSERT INTO parcels SELECT parcel || '-' || n, {columns} FROM parcels, generate_series(1, 400) n")
    proxy = Proxy(2_000_000)
    monkeypatch.setenv(ADDRESS, warehouse.replace(":5432", f":{proxy.port}"))
    model = database_model(tiny, warehouse)
    ref = partition(model.config, DAY)
    with pytest.raises(SourceUnavailable, match=r"server closed the connection|connection.*(reset|closed)"):
        read_source(model, ref)
    assert proxy.cut
    assert not [path for path in (tiny / ".evergreen").rglob("*") if path.is_file()]
    proxy.cut = 0
    monkeypatch.setenv("EVERGREEN_RETRIES", "1")
    monkeypatch.setattr(prefect_tasks, "RETRY_SECONDS", [0.1])
    assert prefect_tasks.with_retries(lambda: read_source(model, ref)).num_rows == 150 * 401
    assert proxy.cut
    proxy.listener.close()


def test_the_password_is_in_nothing_that_is_written(tiny, tmp_path, monkeypatch, warehouse, caplog):
    """A partition is ingested, another fails, and the folder with lake, home and configs is searched."""
    secret = f"{uuid4().hex}%25"
    monkeypatch.setenv(ADDRESS, warehouse.replace("postgres@", f"postgres:{secret}@"))
    database_model(tiny, warehouse)
    res: Resources = open_resources("tiny")
    advance(INGEST, res.ref(DAY), res)
    assert res.lake.record(Stage.RAW, DAY)
    run(warehouse, "ALTER TABLE parcels ALTER weight TYPE text USING 'heavy'")
    assert advance(INGEST, res.ref("2024-03-05"), res).status == "blocked"
    monkeypatch.setenv(ADDRESS, f"postgresql://postgres:{secret}@127.0.0.1:{free_port()}/test")
    inputs = dict.fromkeys(("source", "config"), "")
    with (
        pytest.raises(SourceUnavailable),
        res.claims.hold("2024-03-06"),
    ):  # as if the server had gone after the look at the partition
        advance(INGEST, res.ref("2024-03-06"), res, inputs=inputs)
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert any(b"VARCHAR" in content for content in written)
    assert any(b"Connection refused" in content for content in written)
    assert not any(secret[:32].encode() in content for content in written)
    assert secret[:32] not in caplog.text


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"query": "SELECT 1"}, "give either `table` or `query`"),
        ({"table": None, "query": "SELECT $start"}, r"both \$start and \$end"),
        ({"path": "x.parquet"}, "path: is for a table of files"),
        ({"connection": "Ware house"}, "should match pattern"),
        ({"connection": None}, "connection: is missing"),
        ({"time_format": "%d.%m.%Y"}, "do not sort by time"),
        ({"time_zone": "Mars"}, "'Mars' is not a time zone"),
        ({"types": {"city": "TEXT"}}, "Input should be 'DOUBLE'"),
        ({"watermark": "sent", "fingerprint": "SELECT 1"}, "either `watermark` or `fingerprint`"),
    ],
)
def test_keys_that_do_not_fit_are_refused(tiny, keys, message):
    with pytest.raises(ConfigError, match=message):
        database_model(tiny, "postgresql", **keys)
