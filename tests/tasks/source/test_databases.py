"""A table of a database keeps the contracts of a table of files, on SQLite and on PostgreSQL."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
import yaml

from configs.load import load_model
from tasks.errors import LeakFound, MissingSource, SourceMismatch
from tasks.source import fetch
from tasks.source.arrivals import arrivals
from tasks.source.extent import available_partitions, fingerprint, why_no_partition
from tasks.source.kinds import open_tables
from tasks.source.leaks import check_leaks
from tasks.source.rows import read_labels, read_source
from tasks.storage.lake import table_digest
from tasks.storage.partitions import partition
from tests.conftest import DAYS, parcels
from tests.tasks.source.databases import ADDRESS, database_model, load, load_parcels, new_database, run

KEYS = ["2024-03-01", "2024-03-02", "2024-03-15"]


@pytest.fixture(params=["sqlite", "postgresql"])
def warehouse(request, tiny, tmp_path, monkeypatch):
    """The address of a database with the tiny model's rows."""
    with new_database(request.param, tmp_path) as address:
        monkeypatch.setenv(ADDRESS, address)
        load_parcels(address)
        yield address


def digests(model, read=read_source) -> list[str]:
    return [table_digest(read(model, partition(model.config, key))) for key in KEYS]


def prints(model) -> list[str]:
    return [fingerprint(model, partition(model.config, key)) for key in KEYS]


def test_rows_and_outcomes_are_those_of_the_files(tiny, warehouse):
    files = load_model("tiny")
    expected = available_partitions(files), digests(files), digests(files, read_labels)
    model = database_model(tiny, warehouse)
    assert (available_partitions(model), digests(model), digests(model, read_labels)) == expected
    query = "SELECT * FROM parcels WHERE sent >= $start AND sent < $end -- not '$end;'"
    model = database_model(tiny, warehouse, table=None, query=query)
    assert (available_partitions(model), digests(model), digests(model, read_labels)) == expected
    assert not list((tiny / ".evergreen" / "extracts").rglob("*.part"))


def test_a_table_is_joined_with_a_file(tiny, warehouse):
    files = digests(load_model("tiny"))
    model = database_model(
        tiny,
        warehouse,
        query="SELECT parcel, sent, weight FROM parcels",
        table=None,
        outcomes=None,
        outcomes_known_at=None,
    )
    path = tiny / "configs" / "tiny" / "model.yaml"
    content = yaml.safe_load(path.read_text())
    content["source"]["tables"]["others"] = {"path": f"{tiny}/data/parcels-%Y-%m-%d.parquet", "every": "D"}
    path.write_text(yaml.safe_dump(content))
    sql = "SELECT p.parcel, p.sent, p.weight, o.distance, o.city FROM parcels p JOIN others o USING (parcel) "
    path.with_name("source.sql").write_text(f"{sql} WHERE p.sent >= $start AND p.sent < $end")
    model = load_model("tiny")
    assert digests(model) == files


def test_a_flat_table_needs_no_sql(tiny, warehouse):
    path = tiny / "configs" / "tiny" / "model.yaml"
    files, model = digests(load_model("tiny")), database_model(tiny, warehouse, outcomes=None, outcomes_known_at=None)
    content = yaml.safe_load(path.read_text())
    content["source"] = {"file": content["source"]["tables"]["parcels"]}
    path.write_text(yaml.safe_dump(content))
    model = load_model("tiny")
    assert available_partitions(model)[::25] == ["2024-03-01", "2024-03-26"]
    assert digests(model) == files
    run(warehouse, "INSERT INTO parcels (parcel, sent) VALUES ('lost', NULL)")
    with pytest.raises(
        SourceMismatch, match=r"'sent' is missing.* 1 in table parcels of connection 'warehouse'.* 'lost'"
    ):
        digests(model)


def test_a_fingerprint_changes_with_the_rows_that_a_partition_reads(tiny, warehouse):
    model = database_model(tiny, warehouse)
    first, second, later = prints(model)
    assert prints(model) == [first, second, later]
    run(warehouse, f"UPDATE parcels SET weight = weight + 1 WHERE parcel = '{parcels(1)['parcel'].iloc[0]}'")
    assert prints(model) == [first, prints(model)[1], later]
    assert prints(model)[1] != second
    load(warehouse, parcels(DAYS))
    assert prints(model)[0] == first


def test_a_watermark_or_a_query_of_ones_own_decides_what_has_changed(tiny, warehouse):
    own = "SELECT max(weight) FROM parcels WHERE sent >= $start AND sent < $end"
    for keys in ({"watermark": "weight"}, {"fingerprint": own}):
        model = database_model(tiny, warehouse, **keys)
        first = prints(model)
        run(warehouse, "UPDATE parcels SET distance = distance + 1")
        assert prints(model) == first
        run(warehouse, "UPDATE parcels SET weight = weight + 1")
        assert all(new != old for new, old in zip(prints(model), first, strict=True))


def test_rows_are_never_older_than_the_fingerprint_in_the_record(tiny, warehouse):
    model = database_model(tiny, warehouse)
    ref = partition(model.config, KEYS[0])
    fingerprint(model, ref)
    before = read_source(model, ref)
    run(warehouse, "UPDATE parcels SET weight = 7")
    fingerprint(model, ref)
    assert (
        set(read_source(model, ref).column("weight").to_pylist()) == {7.0} != set(before.column("weight").to_pylist())
    )


def test_a_partition_without_rows_is_missing_only_after_the_last_row(tiny, warehouse):
    model = database_model(tiny, warehouse)
    run(warehouse, f"DELETE FROM parcels WHERE parcel IN ({', '.join(map(repr, parcels(1)['parcel']))})")
    assert read_source(model, partition(model.config, KEYS[1])).num_rows == 0
    with pytest.raises(MissingSource, match="2024-03-27: table 'parcels' has no rows for it"):
        fingerprint(model, partition(model.config, "2024-03-27"))
    run(warehouse, "DELETE FROM parcels")
    assert available_partitions(model) == []
    assert "table 'parcels' has no rows" in why_no_partition(model)


def test_arrivals_change_with_rows_of_complete_partitions(tiny, warehouse):
    model, now = database_model(tiny, warehouse), datetime(2024, 3, 20, 12, tzinfo=UTC)
    first = arrivals(model, now)
    assert first.to_process
    run(warehouse, f"DELETE FROM parcels WHERE parcel = '{parcels(24)['parcel'].iloc[0]}'")
    assert arrivals(model, now) == first
    run(warehouse, f"DELETE FROM parcels WHERE parcel = '{parcels(3)['parcel'].iloc[0]}'")
    assert arrivals(model, now) != first


def test_outcomes_of_a_database_that_are_not_known_yet_are_hidden_from_the_features(tiny, warehouse):
    model = database_model(tiny, warehouse)
    assert check_leaks(model, partition(model.config, KEYS[1]))
    path = model.folder / "source.sql"
    path.write_text(path.read_text().replace("weight, distance", "weight, CAST(late AS DOUBLE) AS distance"))
    with pytest.raises(LeakFound, match="'distance'"):
        check_leaks(load_model("tiny"), partition(model.config, KEYS[1]))


def test_a_time_in_another_text_format_is_an_error_and_not_an_empty_range(tiny, tmp_path, monkeypatch):
    """SQLite compares texts: of `2024-03-01T08:00` nothing is between two texts with a space."""
    with new_database("sqlite", tmp_path) as address:
        monkeypatch.setenv(ADDRESS, address)
        rows = parcels(0)
        load(address, rows.assign(sent=rows["sent"].dt.strftime("%Y-%m-%dT%H:%M:%S.%f")))
        with pytest.raises(SourceMismatch, match=r"'sent' has the value '2024-03-01T.*not in the format %Y-%m-%d %H"):
            available_partitions(database_model(tiny, address))
        model = database_model(tiny, address, time_format="%Y-%m-%dT%H:%M:%S.%f")
        assert read_source(model, partition(model.config, KEYS[0])).num_rows == len(rows)


@pytest.mark.parametrize(("form", "units"), [("epoch", 1), ("epoch_ms", 1_000), ("epoch_us", 1_000_000)])
def test_times_since_1970_are_read(tiny, warehouse, form, units):
    run(warehouse, "DROP TABLE parcels")
    rows = parcels(0).assign(sent=lambda frame: frame["sent"].dt.floor("s"))
    load(
        warehouse, rows.assign(sent=rows["sent"].astype("datetime64[us, UTC]").astype("int64") // (1_000_000 // units))
    )
    model = database_model(tiny, warehouse, time_format=form)
    assert available_partitions(model) == [KEYS[0]]
    sent = pd.Series(read_source(model, partition(model.config, KEYS[0])).column("sent").to_pandas())
    assert sent.tolist() == sorted(rows["sent"])


def test_sqlite_columns_have_their_types_also_if_the_first_thousands_are_null(tiny, tmp_path, monkeypatch):
    with new_database("sqlite", tmp_path) as address:
        monkeypatch.setenv(ADDRESS, address)
        run(
            address,
            "CREATE TABLE parcels (parcel TEXT, sent TEXT, weight REAL, distance, city TEXT, late INT, arrived TEXT)",
        )
        empty = "SELECT 'a' || value, '2024-03-01 08:00:00', NULL, NULL, NULL, NULL, NULL FROM generate_series(1, 3000)"
        series = "WITH RECURSIVE generate_series(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM generate_series WHERE value < 3000) "
        run(address, f"INSERT INTO parcels {series}{empty.replace('(1, 3000)', '')}")
        run(address, "INSERT INTO parcels VALUES ('b', '2024-03-01 09:00:00', 0.25, 2, 'x', 1, NULL)")
        model = database_model(tiny, address, time_format=None, types={"distance": "DOUBLE"})
        last = read_source(model, partition(model.config, KEYS[0])).to_pylist()[-1]
        assert (last["parcel"], last["weight"], last["distance"], last["city"]) == ("b", 0.25, 2.0, "x")
        run(address, "UPDATE parcels SET weight = 'heavy' WHERE parcel = 'b'")
        with pytest.raises(SourceMismatch, match=r"connection 'warehouse'.*weight.*expected DOUBLE but got"):
            read_source(model, partition(model.config, KEYS[0]))


def test_postgresql_numeric_is_cast_to_the_declared_type(tiny, tmp_path, monkeypatch):
    with new_database("postgresql", tmp_path) as address:
        monkeypatch.setenv(ADDRESS, address)
        load_parcels(address)
        run(
            address,
            "ALTER TABLE parcels ALTER weight TYPE numeric(12, 3), ADD fee numeric DEFAULT 0.1, ADD code char(5) DEFAULT 'ab'",
        )
        with pytest.raises(
            SourceMismatch, match=r"table parcels of connection 'warehouse': fee .*types: \{fee: DOUBLE\}"
        ):
            read_source(database_model(tiny, address), partition(load_model("tiny").config, KEYS[0]))
        model = database_model(tiny, address, types={"fee": "DOUBLE"})
        sql = model.folder / "source.sql"
        sql.write_text(sql.read_text().replace("distance,", "fee + 0.2 AS distance,").replace(" city", " code AS city"))
        rows = read_source(load_model("tiny"), partition(model.config, KEYS[0])).to_pandas()
        assert rows["weight"].tolist() == parcels(0).sort_values(["sent", "parcel"])["weight"].round(3).tolist()
        assert set(rows["distance"]) == {0.1 + 0.2}
        assert set(rows["city"]) == {"ab"}


def test_postgresql_returns_rows_in_batches(tiny, tmp_path, monkeypatch):
    """A query with bound parameters comes in one batch. Ours has literals, so that memory does not grow with the rows."""
    with new_database("postgresql", tmp_path) as address:
        monkeypatch.setenv(ADDRESS, address)
        load_parcels(address)
        columns = "sent, weight, distance, city, late, arrived"
        more = f"SELECT parcel || repeat('x', 100) || n, {columns} FROM parcels, generate_series(1, 100) n"
        query = f"{more} WHERE sent >= $start AND sent < $end"
        model = database_model(tiny, address, table=None, query=query)
        sizes = []

        def guarded(batches, *_):
            for batch in batches:
                sizes.append(batch.num_rows)
                yield batch

        monkeypatch.setattr(fetch, "_guarded", guarded)
        (table,) = open_tables(model).values()
        start = datetime(2024, 3, 1, tzinfo=UTC)
        table.files(start, start + timedelta(days=DAYS))
        assert sum(sizes) == 150 * DAYS * 100
        assert len(sizes) > 2
