"""A session reads the files of the model's tables, and no other file, network, extension or variable of the worker."""

import os
from pathlib import Path

import pandas as pd
import pytest
import yaml

from configs.load import Model, load_model
from tasks.errors import SourceMismatch
from tasks.source.extent import available_partitions
from tasks.source.rows import read_source
from tasks.source.session import connect
from tasks.storage.partitions import partition
from tests.conftest import day_file

DAY = "2024-03-01"


@pytest.fixture
def secret(tiny, monkeypatch) -> Path:
    """A file of the worker beside the data, and a variable of its environment."""
    monkeypatch.setenv("EVERGREEN_SECRET", "hush")
    path = tiny / "data" / "secret.txt"
    path.write_text("hush\n")
    return path


def edit_table(tiny, **keys) -> Model:
    path = tiny / "configs" / "tiny" / "model.yaml"
    content = yaml.safe_load(path.read_text())
    content["source"]["tables"]["parcels"].update(keys)
    path.write_text(yaml.safe_dump(content))
    return load_model("tiny")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_text('DATA/secret.txt')",
        "SELECT * FROM read_csv('DATA/secret.txt')",
        "SELECT * FROM read_text('DATA/link.parquet')",
        "SELECT * FROM read_text('DATA/../data/secret.txt')",
        "SELECT * FROM read_text('file://DATA/secret.txt')",
        "SELECT * FROM read_blob('/proc/self/environ')",
        "SELECT * FROM sniff_csv('DATA/secret.txt')",
        "SELECT * FROM glob('DATA/*')",
        "SELECT * FROM 'DATA/parcels-2024-03-02.parquet'",
        "SELECT getenv('EVERGREEN_SECRET')",
        "COPY (SELECT 1) TO 'DATA/copy.csv'",
        "COPY (SELECT 1) TO 'DATA/parcels-2024-03-01.parquet'",
        "EXPORT DATABASE 'DATA/export'",
        "ATTACH 'DATA/other.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SELECT * FROM read_parquet('https://localhost:1/x.parquet')",
        "SET enable_external_access = true",
        "SET allowed_paths = ['/etc/passwd']",
        "SET allowed_directories = ['/']",
        "SET threads = 64",
        "RESET lock_configuration",
        "SET lock_configuration = false",
    ],
)
def test_sql_reaches_nothing_but_the_files_of_its_tables(tiny, secret, query):
    (tiny / "data" / "link.parquet").symlink_to(secret)
    before = {path: path.read_bytes() for path in secret.parent.iterdir()}
    with pytest.raises(SourceMismatch) as caught, connect(load_model("tiny"), {"parcels": [day_file(tiny, 0)]}) as con:
        con.execute(query.replace("DATA", str(tiny / "data"))).fetchall()
    assert "hush" not in str(caught.value)
    assert {path: path.read_bytes() for path in secret.parent.iterdir()} == before


def test_source_sql_that_reads_another_file_is_an_error_with_the_remedy(tiny, secret):
    sql = tiny / "configs" / "tiny" / "source.sql"
    sql.write_text(sql.read_text() + f" AND 'hush' != (SELECT content FROM read_text('{secret}'))")
    config = load_model("tiny").config
    with pytest.raises(SourceMismatch, match=r"secret\.txt.* Add a table with this path"):
        read_source(load_model("tiny"), partition(config, DAY))


def test_an_expression_of_model_yaml_reads_no_other_file(tiny, secret):
    model = edit_table(tiny, known_at=f"(SELECT CAST(hush AS TIMESTAMPTZ) FROM read_csv('{secret}'))")
    with pytest.raises(SourceMismatch, match=r"secret\.txt"):
        read_source(model, partition(model.config, DAY), cutoff=partition(model.config, DAY).end)


@pytest.mark.parametrize(
    "folder", ["plain", "with 'quotes' and spaces", "über", "a%d", "up/../up", "link", "[brackets]"]
)
def test_the_tables_files_are_read_whatever_the_name_of_their_folder(tiny, folder):
    """The path in the view and the allowed path must be the same, also where a link or `..` leads elsewhere."""
    home = tiny / "data"
    (home / "target").mkdir()
    (home / "link").symlink_to(home / "target")
    (home / folder).mkdir(exist_ok=True, parents=True)
    (day_file(tiny, 0)).rename(home / folder / "rows.parquet")
    with connect(load_model("tiny"), {"parcels": [home / folder / "rows.parquet"]}) as con:
        assert con.execute("SELECT count(*) FROM parcels").fetchall() == [(150,)]


def test_a_linked_file_and_a_relative_path_are_read(tiny, monkeypatch):
    linked = tiny / "data" / "linked.parquet"
    linked.symlink_to(day_file(tiny, 0))
    monkeypatch.chdir(tiny)
    for path in (linked, Path("data/linked.parquet"), Path(os.path.relpath(linked, tiny / "configs"))):
        monkeypatch.chdir(tiny / "configs" if path.parts[0] == ".." else tiny)
        with connect(load_model("tiny"), {"parcels": [path]}) as con:
            assert con.execute("SELECT count(*) FROM parcels").fetchall() == [(150,)]


def test_a_table_without_dated_files_is_still_found_and_read(tiny):
    """The range of such a source is read through the same restricted session."""
    path = tiny / "data" / "all rows.csv"
    pd.concat([pd.read_parquet(day_file(tiny, day)) for day in (0, 1)]).to_csv(path, index=False)
    model = edit_table(tiny, path=str(path), every=None)
    assert available_partitions(model) == [DAY, "2024-03-02"]
    assert read_source(model, partition(model.config, DAY)).num_rows == 150
