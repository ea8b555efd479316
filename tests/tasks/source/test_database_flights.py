"""The demo's tables in PostgreSQL and in SQLite, and a mixture with a file, give the same partition and labels to the bit."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from configs.load import Model, load_model
from configs.settings import ROOT
from tasks.source.leaks import check_leaks
from tasks.source.rows import read_labels, read_source
from tasks.storage.lake import table_digest
from tasks.storage.partitions import partition
from tests.tasks.source.databases import TEXT, load, new_database

DATA, MONTH = ROOT / "data" / "flights", "2013-02"
TABLES = {"flights": "flights-2013-0[123].parquet", "weather": "weather.parquet", "planes": "planes.parquet"}


def flights(folder: Path, places: dict[str, str]) -> Model:
    """The demo's model, with these tables in connections of these names."""
    home = folder / "configs" / "flights"
    shutil.copytree(ROOT / "configs" / "flights", home, dirs_exist_ok=True)
    content = yaml.safe_load((home / "model.yaml").read_text())
    for name, connection in places.items():
        table = content["source"]["tables"][name]
        kept = {key: value for key, value in table.items() if key not in ("path", "every")}
        time = (
            {} if name == "planes" else {"time": "time_hour"} | ({"time_format": TEXT} if connection == "lite" else {})
        )
        content["source"]["tables"][name] = kept | {"connection": connection, "table": name} | time
    (home / "model.yaml").write_text(yaml.safe_dump(content))
    return load_model("flights", folder / "configs")


def digests(model: Model) -> tuple[str, str]:
    ref = partition(model.config, MONTH)
    assert check_leaks(model, ref)
    return table_digest(read_source(model, ref)), table_digest(read_labels(model, ref))


@pytest.mark.long
def test_a_month_of_flights_is_the_same_from_files_and_databases_with_postgresql(tmp_path, monkeypatch):
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    expected = digests(load_model("flights", ROOT / "configs"))
    with new_database("postgresql", tmp_path) as server, new_database("sqlite", tmp_path) as file:
        for name, pattern in TABLES.items():
            rows = pd.concat([pd.read_parquet(path) for path in sorted(DATA.glob(pattern))])
            for connection, address in (("server", server), ("lite", file)):
                monkeypatch.setenv(f"EVERGREEN_CONNECTION_{connection.upper()}", address)
                load(address, rows, name)
        for connection in ("server", "lite"):
            assert digests(flights(tmp_path / connection, dict.fromkeys(TABLES, connection))) == expected
        assert digests(flights(tmp_path / "mixed", {"flights": "server", "weather": "lite"})) == expected
