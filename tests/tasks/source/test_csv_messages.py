"""The error of a flat file names the file, the line or column, the value and what to do. One bad row blocks only its own partition."""

import gzip
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from configs.load import load_model
from tasks.contracts import Stage
from tasks.errors import SourceMismatch
from tasks.resources import Resources, open_resources
from tasks.source.csv_lines import read_header
from tasks.source.extent import available_partitions
from tasks.steps.collect import COLLECT
from tasks.steps.ingest import INGEST
from tasks.steps.step import advance
from tests.conftest import parcels
from tests.tasks.source.test_files import flat_model, write

pytestmark = pytest.mark.long

FIRST, SECOND = "2024-03-01", "2024-03-02"
COLUMNS = ["parcel", "sent", "weight", "distance", "city", "late", "arrived"]
TEXT = pd.concat([parcels(0), parcels(1)]).to_csv(index=False)
LINES = TEXT.splitlines()
"""The names, and 150 rows of each day: line 153 of the file is the second row of the second day."""


def res_with(tiny: Path, text: str | bytes, name: str = "flat.csv") -> Resources:
    """The tiny model with this text as its flat file."""
    (tiny / "data" / name).write_bytes(text.encode() if isinstance(text, str) else text)
    flat_model(tiny, f"{tiny}/data/{name}", every=None)
    return open_resources("tiny")


def changed(line: int, **values: str) -> str:
    """The text with other values in a line, counted from 1."""
    fields = LINES[line - 1].split(",")
    fields = [values.get(name, field) for name, field in zip(COLUMNS, fields, strict=True)]
    return "\n".join([*LINES[: line - 1], ",".join(fields), *LINES[line:]]) + "\n"


@pytest.mark.parametrize("value", ["NA", "3 kg", '"3,5"', "1e", "?", "1_000", "0x10", "1e1_0"])
def test_a_value_that_is_no_number_blocks_its_partition_with_line_column_and_value(tiny, value):
    res = res_with(tiny, changed(153, weight=value))
    assert advance(INGEST, res.ref(FIRST), res).rows == 150
    reason = advance(INGEST, res.ref(SECOND), res).reason
    shown = repr(value.strip('"'))
    assert f"{tiny}/data/flat.csv: line 153: column 'weight': {shown} is not a number; correct it" in reason
    assert "source.sql" not in reason


def test_a_number_beyond_float64_is_refused_and_infinity_goes_to_quarantine(tiny):
    res = res_with(tiny, changed(153, weight="-1e400"))
    reason = advance(INGEST, res.ref(SECOND), res).reason
    assert "line 153: column 'weight': '-1e400' is beyond the largest number of float64" in reason
    res = res_with(tiny, changed(154, weight="-Infinity"))
    assert advance(INGEST, res.ref(SECOND), res).rows == 150


def test_an_outcome_that_is_no_number_blocks_the_labels_with_its_line(tiny):
    res = res_with(tiny, changed(153, late="NA"))
    assert [advance(INGEST, res.ref(key), res).rows for key in (FIRST, SECOND)] == [150, 150]
    assert advance(COLLECT, res.ref(FIRST), res).status == "done"
    assert "line 153: column 'late': 'NA'" in advance(COLLECT, res.ref(SECOND), res).reason


@pytest.mark.parametrize(
    ("line", "part"),
    [(LINES[152] + ",extra", "Expected Number of Columns: 7 Found: 8"), ("01-001,2024-03-02", "Found: 2")],
    ids=["too many", "too few"],
)
def test_a_line_with_more_or_fewer_values_is_named_and_does_not_stop_the_list_of_partitions(tiny, line, part):
    res = res_with(tiny, "\n".join([*LINES[:152], line, *LINES[153:]]))
    assert available_partitions(res.model) == [FIRST, SECOND]
    reason = advance(INGEST, res.ref(FIRST), res).reason
    assert f"{tiny}/data/flat.csv: line 153: " in reason
    assert part in reason
    assert line in reason
    res = res_with(tiny, TEXT)
    assert advance(INGEST, res.ref(FIRST), res).rows == 150


def test_a_line_with_more_values_is_named_in_a_table_too(tiny):
    for day in (0, 1):
        write(parcels(day), tiny / "data" / f"parcels-2024-03-0{day + 1}.csv")
    path = tiny / "data" / "parcels-2024-03-02.csv"
    path.write_text(path.read_text().replace("\n01-003", "\nextra,01-003"))
    file = tiny / "configs" / "tiny" / "model.yaml"
    file.write_text(file.read_text().replace(".parquet", ".csv"))
    res = open_resources("tiny")
    reason = advance(INGEST, res.ref(SECOND), res).reason
    assert "CSV Error on Line: 5" in reason
    assert "03-02.csv" in reason
    assert "Possible" not in reason
    assert "strict" not in reason


def test_a_file_of_another_encoding_is_refused_without_options_that_do_not_exist_here(tiny):
    (tiny / "data" / "flat.csv").write_bytes(TEXT.encode("utf-16"))
    model = flat_model(tiny, f"{tiny}/data/flat.csv", every=None)
    with pytest.raises(SourceMismatch, match=r"flat\.csv") as error:
        available_partitions(model)
    assert "encoding=" not in str(error.value)
    assert "SQL" not in str(error.value)


def test_an_empty_number_column_is_nulls(tiny):
    rows = pd.concat([parcels(0), parcels(1)]).assign(weight="")
    res = res_with(tiny, rows.to_csv(index=False))
    advance(INGEST, res.ref(FIRST), res)
    assert res.lake.read(Stage.RAW, FIRST)["weight"].isna().all()
    assert res.lake.read(Stage.RAW, FIRST)["weight"].dtype == "float64"


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_column_of_another_name_is_an_error_with_the_nearest_one(tiny, form):
    write(parcels(0).rename(columns={"weight": "Weight"}), tiny / "data" / f"flat.{form}")
    model = flat_model(tiny, f"{tiny}/data/flat.{form}", every=None)
    with pytest.raises(SourceMismatch, match=rf"flat\.{form}.* has no column 'weight'.* did you mean 'Weight'\?"):
        available_partitions(model)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_file_of_0_bytes_is_an_error_with_its_name_and_blocks_only_its_own_day(tiny, form):
    for day in (0, 1):
        write(parcels(day), tiny / "dated" / f"2024-03-0{day + 1}.{form}")
    (tiny / "dated" / f"2024-03-02.{form}").write_bytes(b"")
    flat_model(tiny, f"{tiny}/dated/%Y-%m-%d.{form}")
    res = open_resources("tiny")
    assert advance(INGEST, res.ref(FIRST), res).rows == 150
    assert f"2024-03-02.{form} is empty (0 bytes)" in advance(INGEST, res.ref(SECOND), res).reason


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_the_first_line_decides_the_delimiter(tiny, mark):
    rows = pd.concat([parcels(0), parcels(1)]).assign(city="Bonn, Kiel; Ulm")
    res = res_with(tiny, rows.to_csv(index=False, sep=mark))
    assert advance(INGEST, res.ref(FIRST), res).rows == 150
    assert set(res.lake.read(Stage.RAW, FIRST)["city"]) == {"Bonn, Kiel; Ulm"}


def test_empty_lines_before_the_names_are_skipped_and_counted(tiny):
    res = res_with(tiny, "\n \n" + TEXT)
    assert advance(INGEST, res.ref(SECOND), res).rows == 150
    res = res_with(tiny, "\n \n" + changed(153, weight="NA"))
    assert "line 155: column 'weight': 'NA'" in advance(INGEST, res.ref(SECOND), res).reason


def test_an_apostrophe_is_no_quotation_mark(tiny):
    res = res_with(tiny, changed(2, city="'Ulm'").replace(",Kiel,", ',"Kiel, S",'))
    assert advance(INGEST, res.ref(FIRST), res).rows == 150
    assert {"'Ulm'", "Kiel, S"} <= set(res.lake.read(Stage.RAW, FIRST)["city"])


@pytest.mark.parametrize("name", ["flat.csv", "flat.csv.gz"])
def test_line_ends_of_windows_a_byte_order_mark_an_index_and_compression_are_read(tiny, name):
    text = (
        pd.concat([parcels(0), parcels(1)])
        .reset_index()
        .to_csv(index=False)
        .replace("index", "", 1)
        .replace("\n", "\r\n")
    )
    content = b"\xef\xbb\xbf" + text.replace(",Kiel,", ',"Kiel\r\n(Foerde)",').encode()
    res = res_with(tiny, gzip.compress(content) if name.endswith(".gz") else content, name)
    assert advance(INGEST, res.ref(SECOND), res).rows == 150
    assert "Kiel\r\n(Foerde)" in set(res.lake.read(Stage.RAW, SECOND)["city"])
    start = b"01-004,2024-03-02 00:04:00+00:00,"
    bad = content.replace(start, start + b"x")
    line = bad[: bad.index(start)].count(b"\n") + 1
    res = res_with(tiny, gzip.compress(bad) if name.endswith(".gz") else bad, name)
    assert f"line {line}: column 'weight': 'x" in advance(INGEST, res.ref(SECOND), res).reason


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("kind", ["file", "tables"])
def test_quotation_marks_in_names_of_columns_are_read(tiny, form, kind):
    names = {"parcel": "parcel's", "sent": 'sent"at', "weight": '12" pipes', "city": 'driver\'s "city"'}
    columns = {"key": names["parcel"], "time": names["sent"], "expectations": []}
    columns["features"] = {"numeric": [names["weight"], "distance"], "categorical": [names["city"]]}
    for day in (0, 1):
        write(parcels(day).rename(columns=names), tiny / "dated" / f"2024-03-0{day + 1}.{form}")
    flat_model(tiny, f"{tiny}/dated/%Y-%m-%d.{form}", every="D", **columns)
    if kind == "tables":
        file, quoted = (
            tiny / "configs" / "tiny" / "model.yaml",
            {n: '"' + n.replace('"', '""') + '"' for n in names.values()},
        )
        file.write_text(
            file.read_text().replace("  file:\n", "  tables:\n   parcels:\n").replace("    every", "      every")
        )
        file.write_text(file.read_text().replace("    path", "      path"))
        select = f"SELECT {', '.join(quoted.values())}, distance FROM parcels"
        where = f" WHERE {quoted[names['sent']]} >= $start AND {quoted[names['sent']]} < $end"
        (file.parent / "source.sql").write_text(select + where)
        label = (
            f"SELECT {quoted[names['parcel']]}, late, {quoted[names['sent']]} + INTERVAL 1 DAY AS known_at FROM parcels"
        )
        (file.parent / "labels.sql").write_text(label + where)
    assert load_model("tiny").config.key == "parcel's"
    res = open_resources("tiny")
    assert advance(INGEST, res.ref(SECOND), res).rows == 150
    assert list(res.lake.read(Stage.RAW, SECOND)['12" pipes']) == list(parcels(1)["weight"])
    assert advance(COLLECT, res.ref(SECOND), res).status == "done"


def test_a_backslash_in_the_name_of_a_column_is_part_of_it(tmp_path):
    (tmp_path / "rows.csv").write_text('a\\0,b,"c d"\n1,2,3\n')
    with duckdb.connect() as con:
        assert read_header(con, tmp_path / "rows.csv", ("b",)) == (",", 0, ["a\\0", "b", "c d"])
