"""The demo's tables in PostgreSQL, SQLite, Delta and S3, and mixed, give the same partition and labels to the bit."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
import yaml
from deltalake import write_deltalake
from upath import UPath

from configs.load import Model, load_model
from configs.settings import ROOT
from tasks.source.leaks import check_leaks
from tasks.source.rows import read_labels, read_source
from tasks.storage.lake import table_digest
from tasks.storage.partitions import partition
from tests.buckets import key_variables, new_bucket
from tests.tasks.source.databases import TEXT, load, new_database

DATA, MONTH, BUCKET = ROOT / "data" / "flights", "2013-02", "flights-of-tests"
TABLES = {"flights": "flights-2013-0[123].parquet", "weather": "weather.parquet", "planes": "planes.parquet"}


def flights(folder: Path, places: dict[str, str]) -> Model:
    """The demo's model, with these tables in another place: `server` and `lite` are connections to databases."""
    home = folder / "configs" / "flights"
    shutil.copytree(ROOT / "configs" / "flights", home, dirs_exist_ok=True)
    content = yaml.safe_load((home / "model.yaml").read_text())
    for name, place in places.items():
        table = content["source"]["tables"][name]
        kept = {key: value for key, value in table.items() if key not in ("path", "every")}
        time = {} if name == "planes" else {"time": "time_hour"}
        if place == "s3":
            new = table | {"path": f"s3://{BUCKET}/{table['path']}"}
        elif place == "delta":
            new = kept | {"delta": str(folder.parent / "delta" / name)} | time
        else:
            new = kept | {"connection": place, "table": name} | time
            new |= {"time_format": TEXT} if place == "lite" and time else {}
        content["source"]["tables"][name] = new
    (home / "model.yaml").write_text(yaml.safe_dump(content))
    return load_model("flights", folder / "configs")


def digests(model: Model) -> tuple[str, str]:
    ref = partition(model.config, MONTH)
    assert check_leaks(model, ref)
    return table_digest(read_source(model, ref)), table_digest(read_labels(model, ref))


@pytest.fixture
def bucket(monkeypatch) -> Iterator[None]:
    with new_bucket(BUCKET) as endpoint:
        for name, value in key_variables(endpoint).items():
            monkeypatch.setenv(name, value)
        for pattern in TABLES.values():
            for path in DATA.glob(pattern):
                UPath(f"s3://{BUCKET}/{path.relative_to(ROOT)}").write_bytes(path.read_bytes())
        yield


@pytest.mark.slow
def test_a_month_of_flights_is_the_same_from_every_place_with_postgresql(tmp_path, bucket, monkeypatch):
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    expected = digests(load_model("flights", ROOT / "configs"))
    with new_database("postgresql", tmp_path) as server, new_database("sqlite", tmp_path) as file:
        for name, pattern in TABLES.items():
            rows = pd.concat([pd.read_parquet(path) for path in sorted(DATA.glob(pattern))])
            for connection, address in (("server", server), ("lite", file)):
                monkeypatch.setenv(f"EVERGREEN_CONNECTION_{connection.upper()}", address)
                load(address, rows, name)
            write_deltalake(tmp_path / "delta" / name, pa.Table.from_pandas(rows, preserve_index=False))
        for place in ("server", "lite", "delta", "s3"):
            assert digests(flights(tmp_path / place, dict.fromkeys(TABLES, place))) == expected, place
        mixed = {"flights": "server", "weather": "delta", "planes": "s3"}
        assert digests(flights(tmp_path / "mixed", mixed)) == expected
