"""Files at addresses: on S3 (moto's server) and on a web server. The same rows as from local files, and errors that say what to do."""

import functools
import http.server
import json
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from upath import UPath

from configs.errors import ConfigError
from configs.load import Model, load_model
from tasks.errors import MissingSource, SourceMismatch, SourceRefused, SourceUnavailable
from tasks.source import extracts, remote
from tasks.source.arrivals import arrivals
from tasks.source.extent import available_partitions, fingerprint
from tasks.source.kinds import open_tables
from tasks.source.rows import read_labels, read_source
from tasks.storage.lake import table_digest
from tasks.storage.partitions import partition
from tests.buckets import key_variables, new_bucket, require_keys
from tests.conftest import free_port

KEYS = ["2024-03-01", "2024-03-02", "2024-03-15"]


def table_model(tiny: Path, **table: Any) -> Model:
    """Change where the tiny model's table is. Keys that are None are left out."""
    path = tiny / "configs" / "tiny" / "model.yaml"
    content = yaml.safe_load(path.read_text())
    own = content["source"]["tables"]["parcels"]
    content["source"]["tables"]["parcels"] = {k: v for k, v in (own | table).items() if v is not None}
    path.write_text(yaml.safe_dump(content))
    return load_model("tiny")


def own_path(tiny: Path) -> str:
    return str(load_model("tiny").config.source.tables["parcels"].path)


def digests(model: Model, read: Any = read_source) -> list[str]:
    return [table_digest(read(model, partition(model.config, key))) for key in KEYS]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with new_bucket("sources-of-tests") as endpoint:
        yield endpoint


@pytest.fixture
def bucket(server, tiny, monkeypatch) -> UPath:
    """The bucket with the tiny model's files; model.yaml still names the local ones."""
    for name, value in key_variables(server).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(remote, "LISTED_SECONDS", 0)
    root = UPath("s3://sources-of-tests", use_listings_cache=False) / tiny.name / tiny.parent.name
    local = Path(own_path(tiny)).parent
    for file in local.glob("*"):
        (root / file.name).write_bytes(file.read_bytes())
    return root


def test_rows_outcomes_and_partitions_are_those_of_the_local_files(tiny, bucket):
    local = load_model("tiny")
    expected = available_partitions(local), digests(local), digests(local, read_labels)
    model = table_model(tiny, path=f"{bucket}/{Path(own_path(tiny)).name}")
    assert "s3://" in model.config.source.tables["parcels"].path
    assert (available_partitions(model), digests(model), digests(model, read_labels)) == expected
    with pytest.raises(MissingSource, match=r"2030-01-01.*s3://sources-of-tests"):
        read_source(model, partition(model.config, "2030-01-01"))


def test_only_a_changed_file_changes_its_partitions_and_is_read_again(tiny, bucket):
    model = table_model(tiny, path=f"{bucket}/{Path(own_path(tiny)).name}")
    refs = [partition(model.config, key) for key in KEYS]
    before, rows, seen = [fingerprint(model, ref) for ref in refs], digests(model), arrivals(model, refs[-1].end)
    assert before == [fingerprint(model, ref) for ref in refs]
    names = sorted(file.name for file in bucket.iterdir())
    (bucket / names[1]).write_bytes((bucket / names[0]).read_bytes())
    after = [fingerprint(model, ref) for ref in refs]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True]
    assert digests(model)[1] != rows[1]
    assert arrivals(model, refs[-1].end) != seen


@pytest.mark.parametrize("change", ["nobucket", "key", "down", "options", "package"])
def test_errors_say_what_to_do_and_have_no_secret(tiny, bucket, monkeypatch, change):
    name, secret = Path(own_path(tiny)).name, "s3cret-of-the-test"
    options = {"key": "testing", "secret": secret, "endpoint_url": os.environ["AWS_ENDPOINT_URL"]}
    expected: tuple[type[Exception], str] = SourceRefused, ""
    path = f"{bucket}/{name}"
    if change == "nobucket":
        path, expected = f"s3://no-such-bucket/{name}", (SourceRefused, "create the bucket")
    if change == "key":
        require_keys(os.environ["AWS_ENDPOINT_URL"], after=0)
        expected = SourceRefused, "Correct the credentials in EVERGREEN_CONNECTION_STORE or the secret"
    if change == "down":
        options["endpoint_url"] = f"http://127.0.0.1:{free_port()}"
        expected = SourceUnavailable, "Run it again when the storage is available"
    if change == "options":
        options = {"kee": secret}
        expected = SourceRefused, "Correct the options of the storage in EVERGREEN_CONNECTION_STORE"
    if change == "package":
        path, expected = "gs://bucket/x.parquet", (SourceRefused, "Add the package to pyproject.toml")
        options = {}
    monkeypatch.setenv("EVERGREEN_CONNECTION_STORE", json.dumps(options))
    every = None if change == "package" else "D"
    model = table_model(tiny, path=path, connection="store", every=every)
    try:
        with pytest.raises(expected[0], match=expected[1]) as caught:
            read_source(model, partition(model.config, KEYS[0]))
    finally:
        require_keys(os.environ["AWS_ENDPOINT_URL"], after=10**9)
    assert secret not in str(caught.value)
    assert caught.value.__cause__ is None


def test_options_that_are_no_json_are_refused_without_their_text(tiny, bucket, monkeypatch):
    monkeypatch.setenv("EVERGREEN_CONNECTION_STORE", "key=s3cret")
    model = table_model(tiny, path=f"{bucket}/{Path(own_path(tiny)).name}", connection="store")
    with pytest.raises(SourceRefused, match="are not a JSON object") as caught:
        read_source(model, partition(model.config, KEYS[0]))
    assert "s3cret" not in str(caught.value)


def test_a_library_that_quotes_an_option_does_not_show_it(tiny, bucket, monkeypatch):
    monkeypatch.setenv("EVERGREEN_CONNECTION_STORE", json.dumps({"endpoint_url": "no-address-but-s3cret"}))
    model = table_model(tiny, path=f"{bucket}/{Path(own_path(tiny)).name}", connection="store")
    with pytest.raises((SourceRefused, SourceUnavailable), match=r"\*\*\*") as caught:
        read_source(model, partition(model.config, KEYS[0]))
    assert "s3cret" not in str(caught.value)


def test_a_file_that_is_written_while_it_is_read_is_no_source(tiny, bucket, monkeypatch):
    model = table_model(tiny, path=f"{bucket}/{Path(own_path(tiny)).name}")
    table = remote.RemoteFiles(model.config.source.tables["parcels"], personal=False)
    file = table.matches(f"{bucket}/*")[0]
    UPath(file.address, use_listings_cache=False).write_bytes(b"other")
    with pytest.raises(SourceUnavailable, match="was written while it was read"):
        table.copy(file)
    assert not [path for path in tiny.rglob("extracts/*/*/*") if path.is_file()]


def test_a_message_about_a_bad_file_names_its_address(tiny, bucket):
    model = table_model(tiny, path=f"{bucket}/{Path(own_path(tiny)).name}")
    first = sorted(file.name for file in bucket.iterdir())[0]
    (bucket / first).write_bytes(b"PAR1 no parquet")
    with pytest.raises(SourceMismatch, match=f"s3://sources-of-tests/.*{first}") as caught:
        read_source(model, partition(model.config, KEYS[0]))
    assert "extracts" not in str(caught.value)


def test_a_file_on_a_web_server(tiny, tmp_path):
    local = load_model("tiny")
    root = tmp_path / "web"
    shutil.copytree(Path(own_path(tiny)).parent, root)
    first = sorted(root.iterdir())[0]
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{web.server_port}/{first.name}"
        expected = table_digest(read_source(local, partition(local.config, KEYS[0])))
        model = table_model(tiny, path=address, every=None)
        assert table_digest(read_source(model, partition(model.config, KEYS[0]))) == expected
        assert fingerprint(model, partition(model.config, KEYS[0]))
        model = table_model(tiny, path=f"{address}x", every=None)
        with pytest.raises(MissingSource, match=f"expected {address}x"):
            read_source(model, partition(model.config, KEYS[0]))
        web.shutdown()


class Breaking(http.server.BaseHTTPRequestHandler):
    """Promises a thousand bytes, and ends after ten."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", "1000")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(b"0123456789")

    def log_message(self, *_: Any) -> None:
        """Nothing."""


class Failing(Breaking):
    """Answers with one status."""

    status = 503

    def do_HEAD(self) -> None:
        self.send_error(self.status)

    def do_GET(self) -> None:
        self.send_error(self.status)


@pytest.mark.parametrize(("status", "error"), [(503, SourceUnavailable), (401, SourceRefused), (0, SourceUnavailable)])
def test_a_web_server_that_fails_or_refuses_is_not_one_without_the_file(tiny, monkeypatch, status, error):
    monkeypatch.setattr(Failing, "status", status or 500)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Failing) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        port = web.server_port if status else free_port()
        model = table_model(tiny, path=f"http://127.0.0.1:{port}/my%20rows.parquet", every=None)
        with pytest.raises(error):
            read_source(model, partition(model.config, KEYS[0]))
        web.shutdown()


def test_headers_are_options_of_a_web_server(tiny, monkeypatch):
    class Asking(http.server.SimpleHTTPRequestHandler):
        def send_head(self) -> Any:
            if self.headers["Authorization"] == "Bearer t0ken":
                return super().send_head()
            return self.send_error(401)

    handler = functools.partial(Asking, directory=str(Path(own_path(tiny)).parent))
    expected = digests(load_model("tiny"))[0]
    first = sorted(Path(own_path(tiny)).parent.iterdir())[0]
    monkeypatch.setenv(
        "EVERGREEN_CONNECTION_STORE", json.dumps({"client_kwargs": {"headers": {"Authorization": "Bearer t0ken"}}})
    )
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        model = table_model(
            tiny, path=f"http://127.0.0.1:{web.server_port}/{first.name}", every=None, connection="store"
        )
        assert digests_of(model, KEYS[:1]) == [expected]
        web.shutdown()


def digests_of(model: Model, keys: list[str]) -> list[str]:
    return [table_digest(read_source(model, partition(model.config, key))) for key in keys]


def test_a_file_with_the_time_of_an_earlier_one_but_another_size_is_copied_again(tiny, bucket):
    files = remote.RemoteFiles(
        table_model(tiny, path=f"{bucket}/*.parquet", every=None).config.source.tables["parcels"], False
    )
    file = files.matches(f"{bucket}/*.parquet")[0]
    path = files.copy(file)
    assert files.copy(file) == path
    other = replace(file, size=file.size + 1)
    with pytest.raises(SourceUnavailable, match="was written while it was read"):
        files.copy(other)


def test_copies_that_are_held_stay_while_others_take_long(tiny, bucket, monkeypatch):
    monkeypatch.setattr(extracts, "KEPT_SECONDS", -1)
    model = table_model(tiny, path=f"{bucket}/*.parquet", every=None)
    (table,) = open_tables(model).values()
    paths = table.files(datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 3, 5, tzinfo=UTC))
    assert len(paths) > 3
    assert all(path.exists() for path in paths)
    with extracts.hold(paths):
        extracts.new_extract("other.parquet")
        assert all(path.exists() for path in paths)
    extracts.new_extract("other.parquet")
    assert not any(path.exists() for path in paths)


def test_names_with_special_characters_are_themselves(tiny, bucket):
    first = sorted(Path(own_path(tiny)).parent.iterdir())[0]
    expected = digests(load_model("tiny"))[0]
    for name in ("s[1].parquet", "p%20q.parquet", "ü #+.parquet"):
        (bucket / "odd" / name).write_bytes(first.read_bytes())
        assert digests_of(table_model(tiny, path=f"{bucket}/odd/{name}", every=None), KEYS[:1]) == [expected], name


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"path": "https://user:secret@host/x.csv", "every": None}, "user or password must not be in model.yaml"),
        ({"path": "s3://key:secret@bucket/x.csv", "every": None}, "user or password must not be in model.yaml"),
        ({"path": "sftp://user:secret@host/x.csv", "every": None}, "user or password must not be in model.yaml"),
        ({"path": "zip://x.csv::s3://bucket/x.zip", "every": None}, "chain of file systems"),
        ({"path": "https://host/*.csv", "every": None}, "a web server cannot list its files"),
        ({"path": "https://host/%Y-%m-%d.csv"}, "a web server cannot list its files"),
        ({"path": "S 3://host/x.csv", "every": None}, "is not the scheme of an address"),
        ({"path": "s3://bucket/", "every": None}, "a path must name the files too"),
        ({"path": "data/x.csv", "every": None, "connection": "store"}, "the path 'data/x.csv' is local"),
        ({"path": "~/x.csv", "every": None}, "~ is not expanded"),
    ],
)
def test_addresses_that_cannot_be_read_are_refused(tiny, table, message):
    with pytest.raises(ConfigError, match=message):
        table_model(tiny, **table)


def test_columns_in_the_names_of_folders_have_the_declared_type_in_every_partition(tiny, bucket):
    """By itself, DuckDB takes month=01 as text and month=12 as a number."""
    source = Path(own_path(tiny)).parent
    for at, file in enumerate(sorted(source.glob("*"))[:3]):
        (bucket / "hive" / f"zone={'01' if at else '12'}" / file.name).write_bytes(file.read_bytes())
    pattern = f"{bucket}/hive/zone=*/{Path(own_path(tiny)).name}"
    for kind, expected in ((None, ["12", "01"]), ("BIGINT", ["12", "1"])):
        model = table_model(tiny, path=pattern, types={"zone": kind} if kind else {"zone": "VARCHAR"})
        sql = model.source_sql.replace("city", "CAST(zone AS VARCHAR) AS city", 1)
        rows = [
            read_source(Model(model.config, model.folder, sql, model.labels_sql), partition(model.config, k))
            for k in KEYS[:2]
        ]
        assert [set(frame.to_pydict()["city"]) for frame in rows] == [{text} for text in expected]
    with pytest.raises(SourceMismatch, match="weight is not the name of a folder"):
        read_source(table_model(tiny, types={"weight": "DOUBLE"}), partition(model.config, KEYS[0]))


def test_a_connection_that_is_lost_half_way_is_an_outage_and_leaves_no_file(tiny):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Breaking) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        model = table_model(tiny, path=f"http://127.0.0.1:{web.server_port}/rows.parquet", every=None)
        with pytest.raises(SourceUnavailable, match="Run it again when the storage is available"):
            read_source(model, partition(model.config, KEYS[0]))
        web.shutdown()
    assert not [path for path in tiny.rglob("extracts/**/*") if path.is_file()]
