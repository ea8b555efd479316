"""What a target refuses or loses is a clear error with a way out, noted for the next run. No password and no value is anywhere."""

import json
from pathlib import Path

import pytest
from deltalake import DeltaTable

from tasks.errors import SinkMismatch, SinkRefused, SinkRowsRefused, SinkUnavailable
from tasks.sinks.records import failures
from tests.buckets import key_variables, new_bucket, require_keys
from tests.conftest import free_port
from tests.tasks.sinks.targets import DAY, NEXT, configure, predict, query, send_all
from tests.tasks.source.databases import ADDRESS, new_database, run

PASSWORD = "pass-%F0-hunter2"
TABLE = {"connection": "warehouse", "table": "predictions"}


def refuse(tiny: Path, error: type, message: str, sink: dict, **keys) -> str:
    """Send, which fails with this error, and return its text. The note of the failure has it too."""
    res = configure(tiny, publish={"out": sink}, **keys)
    predict(res, DAY, 3)
    with pytest.raises(error, match=message) as raised:
        send_all(res)
    assert [(key, text) for key, text, _ in failures(res.lake, "out")] == [(DAY, str(raised.value))]
    assert "hunter2" not in repr(raised.getrepr(style="long"))
    return str(raised.value)


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        (
            "postgresql://w:PASSWORD@127.0.0.1:PORT/test",
            SinkUnavailable,
            "Connection refused.*The next run tries again",
        ),
        ("postgresql://w:PASSWORD@nowhere.invalid/test", SinkUnavailable, "could not translate host name"),
        ("postgresql://w:PASSWORD@host:port/test", SinkRefused, "the address is not valid"),
        ("", SinkRefused, "no address; set EVERGREEN_CONNECTION_WAREHOUSE"),
        ("mysql://w:PASSWORD@host/test", SinkRefused, "begins with none of postgresql:"),
        ("snowflake://w:PASSWORD@host/test", SinkRefused, "to PostgreSQL and SQLite only"),
        ("sqlite:////nowhere/sales.db?key=PASSWORD", SinkUnavailable, "unable to open|failed to open"),
    ],
)
def test_a_database_that_does_not_answer_or_cannot_be_used(tiny, monkeypatch, address, error, message):
    monkeypatch.setenv(ADDRESS, address.replace("PASSWORD", PASSWORD).replace("PORT", str(free_port())))
    refuse(tiny, error, message, TABLE)


def test_a_table_that_does_not_take_the_rows_keeps_what_it_had(tiny, tmp_path, monkeypatch):
    with new_database("postgresql", tmp_path) as address:
        monkeypatch.setenv(ADDRESS, address)
        refuse(
            tiny,
            SinkMismatch,
            'reports: [A-Z_]+: .libpq. ERROR: +schema "nowhere" does not exist',
            {**TABLE, "table": "nowhere.predictions"},
        )
        columns = "model text, partition text, as_of timestamptz, model_version text, parcel text, sent timestamptz"
        run(address, f"CREATE TABLE predictions ({columns}, prediction real)")
        way = 'ALTER TABLE "predictions" ALTER COLUMN "prediction" TYPE double precision'
        assert way in refuse(tiny, SinkMismatch, "column prediction is float, not double precision", TABLE)
        run(address, way, f"INSERT INTO predictions VALUES ('tiny', '{DAY}', now(), '0', 'earlier', now(), 0.5)")
        run(
            address,
            "ALTER TABLE predictions ADD COLUMN loaded timestamptz DEFAULT now(), ADD CHECK (parcel NOT LIKE '%-2')",
        )
        refuse(tiny, SinkRowsRefused, "violates check constraint.*Nothing was changed", TABLE)
        assert query(address, "SELECT parcel FROM predictions") == [("earlier",)]
        text = refuse(
            tiny, SinkRowsRefused, "SQLSTATE 23514.*personal data", {**TABLE, "personal": "keep"}, personal=["parcel"]
        )
        assert f"{DAY}-2" not in text


def test_a_connection_of_files_must_be_a_json_object_and_is_not_shown(tiny, monkeypatch):
    sink = {"path": "s3://bucket/{partition}.parquet", "connection": "warehouse"}
    monkeypatch.setenv(ADDRESS, PASSWORD)
    refuse(tiny, SinkRefused, "are not a JSON object such as.*correct EVERGREEN_CONNECTION_WAREHOUSE", sink)
    options = {"key": "hunter2-key", "secret": PASSWORD, "endpoint_url": f"http://127.0.0.1:{free_port()}"}
    monkeypatch.setenv(ADDRESS, json.dumps(options | {"config_kwargs": {"retries": {"max_attempts": 0}}}))
    refuse(tiny, SinkUnavailable, r"publish\.out: s3://bucket/.*The next run tries again", sink)


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("delta", SinkRefused, r"publish\.out: .*Correct the address in model.yaml"),
        ("path", SinkUnavailable, r"publish\.out: .*The next run tries again"),
    ],
)
def test_a_folder_that_cannot_be_written(tiny, kind, error, message):
    (tiny / "taken").write_text("a file")
    place = f"{tiny}/taken/x" + ("" if kind == "delta" else "/{partition}.parquet")
    refuse(tiny, error, message, {kind: place})


@pytest.mark.parametrize("kind", ["delta", "path"])
def test_an_unknown_key_of_a_bucket_is_refused_and_not_an_outage(tiny, monkeypatch, kind):
    with new_bucket("refused-of-tests") as endpoint:
        require_keys(endpoint, after=0)
        options = key_variables(endpoint) | {"AWS_ALLOW_HTTP": "true", "AWS_S3_ALLOW_UNSAFE_RENAME": "true"}
        files = {"key": "testing", "secret": "testing", "endpoint_url": endpoint}
        monkeypatch.setenv(ADDRESS, json.dumps(options if kind == "delta" else files))
        place = "s3://refused-of-tests/x" + ("" if kind == "delta" else "/{partition}.parquet")
        message = r"publish\.out: s3://.*Correct the credentials in EVERGREEN_CONNECTION_WAREHOUSE"
        refuse(tiny, SinkRefused, message, {kind: place, "connection": "warehouse"})


def test_rows_that_a_constraint_of_a_delta_table_refuses_do_not_stop_other_partitions(tiny):
    sink = {"delta": f"{tiny}/lake-of-others"}
    res = configure(tiny, publish={"out": sink})
    predict(res, NEXT, 3)
    send_all(res)
    DeltaTable(sink["delta"]).alter.add_constraint({"no_second": f"partition <> '{DAY}'"})
    refuse(tiny, SinkRowsRefused, "Correct the rows, or the table's constraint", sink)
