"""A generator of source files as people have them: of any type, with odd names and times, as one file or many.

What a pipeline should read from them is computed here with PyArrow, `csv` and Python's `datetime`, without our code and without DuckDB.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from hypothesis import strategies as st

DAYS = [datetime.fromisoformat(day) for day in ("2024-03-08", "2024-10-25", "2024-11-01", "2023-12-30")]
"""First days: clocks change two or three days later in New York or Berlin, or a year ends."""
ZONES = ["UTC", "America/New_York", "Europe/Berlin", "Asia/Kolkata"]
NEW_YORK = ZoneInfo("America/New_York")
LAYOUTS = ["one file", "several files", "a file a day", "tables"]
ROLES = ("key", "time", "number", "text", "outcome")
NAMES = dict(zip(ROLES, ("parcel", "sent", "weight", "town", "late"), strict=True))


@dataclass(frozen=True)
class Kind:
    """A type of a column: its values, its type in Parquet, and its text in a CSV file."""

    values: st.SearchStrategy
    arrow: pa.DataType
    text: Callable[[Any], str] = str


def timestamp(unit: str, zone: str | None = None) -> Kind:
    return Kind(st.none(), pa.timestamp(unit, zone), lambda value: value.isoformat(" "))


NUMBERS = {
    "int64": Kind(st.integers(-(2**53), 2**53), pa.int64()),
    "int8": Kind(st.integers(-128, 127), pa.int8()),
    "float64": Kind(st.floats(allow_nan=False, allow_infinity=False, width=64), pa.float64(), repr),
    "fraction": Kind(st.integers(-1000, 1000).map(lambda n: n / 8), pa.float64(), repr),
    "float32": Kind(st.floats(allow_nan=False, allow_infinity=False, width=32), pa.float32(), repr),
    "decimal": Kind(st.decimals("-9999999.99", "9999999.99", places=2), pa.decimal128(9, 2)),
    "bool": Kind(st.booleans(), pa.bool_()),
    "no value": Kind(st.none(), pa.null()),
    "number as text": Kind(st.integers(-999, 999).map(lambda n: str(n / 4)), pa.string()),
}
TEXTS = {
    "text": Kind(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=1, max_size=6), pa.string()),
    "whole number": Kind(st.integers(-99999, 99999), pa.int64()),
    "small number": Kind(st.integers(0, 9), pa.int8()),
    "no value": Kind(st.none(), pa.null()),
    "text with spaces": Kind(st.sampled_from([" Bonn", "Kiel ", "Bad Ems", "NA", "null", "nan", "1e5", "007", "1.0"]), pa.string()),
}  # fmt: skip
OUTCOMES = {
    "int64": Kind(st.integers(0, 1), pa.int64()),
    "float64": Kind(st.sampled_from([0.0, 1.0]), pa.float64()),
    "bool": Kind(st.booleans(), pa.bool_()),
    "text": Kind(st.sampled_from(["0", "1"]), pa.string()),
    "no value": Kind(st.none(), pa.null()),
}
TIMES = {
    "zoned": timestamp("us", "UTC"),
    "zoned elsewhere": timestamp("ms", "Asia/Tokyo"),
    "naive": timestamp("us"),
    "naive in ns": timestamp("ns"),
    "naive in s": timestamp("s"),
    "date": Kind(st.none(), pa.date32()),
    "text": Kind(st.none(), pa.string()),
    "text with T": Kind(st.none(), pa.string()),
    "text with offset": Kind(st.none(), pa.string()),
    "text with Z": Kind(st.none(), pa.string()),
    "text with zone": Kind(st.none(), pa.string()),
}
NO_NUMBER = "n/a?"
FAR = [datetime.fromisoformat(day) for day in ("0001-01-01", "0202-03-05", "1899-12-30", "2200-01-03", "9999-12-31")]


@dataclass(frozen=True)
class File:
    name: str
    day: datetime | None
    kinds: dict[str, str]
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """Files of one model. `names` are those of model.yaml by role, `header` those in the files."""

    form: str
    layout: str
    zone: str
    lookback: int
    names: dict[str, str]
    header: dict[str, str]
    files: list[File]


def encode(moment: datetime, zone: tzinfo, kind: str) -> Any:
    """A local time as a value of a column of this kind."""
    aware = moment.replace(tzinfo=zone)
    return {
        "zoned": lambda: aware,
        "zoned elsewhere": lambda: aware,
        "date": moment.date,
        "text": lambda: moment.isoformat(" "),
        "text with T": lambda: moment.isoformat("T"),
        "text with offset": lambda: aware.isoformat(" "),
        "text with Z": lambda: aware.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z",
        "text with zone": lambda: f"{aware.astimezone(NEW_YORK).replace(tzinfo=None).isoformat(' ')} {NEW_YORK.key}",
    }.get(kind, lambda: moment)()


@st.composite
def cases(draw: st.DrawFn, vary: tuple[str, ...] = (), odd_names: bool = False, faults: bool = False) -> Case:
    """Draw a case. The columns `vary` are of any kind, which may differ by file; the others have one plain type.

    Args:
        draw: Of Hypothesis.
        vary: Roles of columns.
        odd_names: Whether columns have odd names.
        faults: Whether there are keys that are null or occur twice, numbers that are not finite, and times that are null or far away.
    """
    form, layout = draw(st.sampled_from(["parquet", "csv"])), draw(st.sampled_from(LAYOUTS))
    zone, first = draw(st.sampled_from(ZONES)), draw(st.sampled_from(DAYS))
    days = [first + timedelta(days=n) for n in range(draw(st.integers(1, 3)))]
    names = draw(odd_column_names()) if odd_names else NAMES
    swapped = odd_names and all(name.isascii() for name in names.values()) and draw(st.booleans())
    header = {role: name.swapcase() for role, name in names.items()} if swapped else names
    dated = layout in ("a file a day", "tables")
    count = 1 if layout == "one file" else draw(st.integers(1, 3))
    parts: list[tuple[str, datetime | None]] = [
        (f"rows-{day:%Y-%m-%d}", day) for day in days if len(days) == 1 or draw(st.booleans())
    ]
    if not dated:
        parts = [(f"part-{n}", None) for n in range(count)]
    numbers = iter(range(10_000))
    files = [
        draw(file(f"{name}.{form}", day, days, ZoneInfo(zone), vary, layout, faults, numbers)) for name, day in parts
    ]
    return Case(form, layout, zone, draw(st.integers(0, 2)) if layout == "tables" else 0, names, header, files)


@st.composite
def odd_column_names(draw: st.DrawFn) -> dict[str, str]:
    letters = st.sampled_from(list("abXYZ019_- .,;:%$&#?!*/\\()[]{}<>|'\"äß漢é`~@=+"))
    name = st.text(letters, min_size=1, max_size=7).filter(lambda text: text.strip() == text)
    drawn = draw(st.lists(name, min_size=4, max_size=4, unique_by=str.casefold))
    return dict(zip(ROLES, [*drawn, "late"], strict=True))


@st.composite
def file(draw: st.DrawFn, name: str, day: datetime | None, days: list[datetime], zone: ZoneInfo, vary: tuple[str, ...],
         layout: str, faults: bool, numbers: Any) -> File:  # fmt: skip
    kinds = {"key": "text", "time": "zoned", "number": "fraction", "text": "text", "outcome": "int64"}
    choices = {"key": TEXTS, "time": TIMES, "number": NUMBERS, "text": TEXTS, "outcome": OUTCOMES}
    kinds |= {role: draw(st.sampled_from(sorted(choices[role]))) for role in vary}
    if kinds["key"] == "no value":
        kinds["key"] = "text"
    if layout == "tables":
        kinds["time"] = "zoned"
    rows = []
    for _ in range(draw(st.integers(0, 5))):
        minute = 0 if kinds["time"] == "date" else draw(st.integers(0, 24 * 60 - 1))
        moment = (day or draw(st.sampled_from(days))) + timedelta(minutes=minute)
        if is_skipped(moment, zone):
            moment += timedelta(hours=2)
        row = {"time": encode(moment, zone, kinds["time"])}
        for role in ("number", "text", "outcome"):
            value = choices[role][kinds[role]].values
            row[role] = draw(st.none() | value if role in vary or role == "outcome" else value)
        number = next(numbers)
        row["key"] = number if kinds["key"].endswith("number") else f"k{number}"
        if kinds["key"] == "small number":
            kinds["key"] = "whole number"
        rows.append(row)
    if faults and rows:
        rows = [draw(damaged(row, rows, zone, kinds, layout, name.endswith(".csv"))) for row in rows]
    return File(name, day, kinds, rows)


@st.composite
def damaged(
    draw: st.DrawFn, row: dict, rows: list[dict], zone: ZoneInfo, kinds: dict[str, str], layout: str, is_csv: bool
) -> dict:
    floats = ["not finite"] if kinds["number"] in ("float64", "fraction") else []
    times = [] if layout == "tables" else ["no time", "far"]  # SQL may leave such rows out
    fault = draw(
        st.sampled_from(
            ["", "", "", "", "", "no key", "a key twice", *times, *floats, *(["no number"] if is_csv else [])]
        )
    )
    far = draw(st.sampled_from(FAR[2:4] if kinds["time"] in ("naive in ns", "text with zone") else FAR))
    aware = kinds["time"].startswith("zoned") or kinds["time"] in ("text with Z", "text with offset", "text with zone")
    return row | {
        "no key": {"key": None},
        "a key twice": {"key": rows[0]["key"]},
        "no number": {"number": NO_NUMBER},
        "not finite": {"number": draw(st.sampled_from([float("inf"), -float("inf"), float("nan"), 1e39]))},
        "no time": {"time": None},
        "far": {"time": encode(far, UTC if aware else zone, kinds["time"])},
    }.get(fault, {})


def is_skipped(moment: datetime, zone: ZoneInfo) -> bool:
    """Whether no clock of the zone shows this local time, since it is put forward."""
    return moment.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None) != moment


def write(case: Case, folder: Path) -> None:
    """Write the files and the model `odd` into a folder."""
    (folder / "configs" / "odd").mkdir(parents=True)
    kinds = {"key": TEXTS, "time": TIMES, "number": NUMBERS, "text": TEXTS, "outcome": OUTCOMES}
    for part in case.files:
        columns = {role: kinds[role][part.kinds[role]] for role in ROLES}
        if case.form == "parquet":
            arrays = {case.header[r]: pa.array([row[r] for row in part.rows], c.arrow) for r, c in columns.items()}
            pq.write_table(pa.table(arrays), folder / part.name)
            continue
        with (folder / part.name).open("w", newline="", encoding="utf-8") as out:
            writer = csv.writer(out)
            writer.writerow(case.header.values())
            for row in part.rows:
                writer.writerow([as_csv(row[r], c) for r, c in columns.items()])
    (folder / "configs" / "odd" / "model.yaml").write_text(yaml.safe_dump(config(case, folder)))
    if case.layout == "tables":
        key, time, number, text, outcome = ('"' + case.names[role].replace('"', '""') + '"' for role in ROLES)
        moment = f"CAST({time} AS TIMESTAMPTZ)"
        within = f"FROM rows WHERE {moment} >= $start AND {moment} < $end"
        select = f"SELECT CAST({key} AS VARCHAR) AS {key}, {moment} AS"
        source = f"{select} {time}, {number} AS {number}, CAST({text} AS VARCHAR) AS {text} {within}"
        (folder / "configs" / "odd" / "source.sql").write_text(source)
        labels = f"{select} known_at, {outcome} {within} AND {outcome} IS NOT NULL"
        (folder / "configs" / "odd" / "labels.sql").write_text(labels)


def as_csv(value: Any, kind: Kind) -> str:
    return "" if value is None else value if isinstance(value, str) else kind.text(value)


def config(case: Case, folder: Path) -> dict[str, Any]:
    pattern = {"one file": "part-0", "several files": "part-*"}.get(case.layout, "rows-%Y-%m-%d")
    table = {"path": f"{folder}/{pattern}.{case.form}"} | ({"every": "D"} if "%" in pattern else {})
    tables = {"tables": {"rows": table}, "lookback": f"{case.lookback}D"}
    return {
        "name": "odd",
        "description": "Odd files.",
        "partition": {"every": "D", "timezone": case.zone},
        "source": tables if case.layout == "tables" else {"file": table},
        "key": case.names["key"],
        "time": case.names["time"],
        "target": {"column": case.names["outcome"], "delay": "0h"},
        "features": {"numeric": [case.names["number"]], "categorical": [case.names["text"]]},
        "training": {
            "window": {"min_partitions": 2, "min_rows": 10, "holdout": "1D"},
            "splits": 1,
            "baseline": "prior",
            "candidates": {"trees": {"estimator": "xgboost"}},
        },
        "gate": {"floor": {"log_loss": 1}, "gain": {"block": "H", "min_blocks": 2}},
    }


def expected_rows(case: Case, folder: Path) -> list[dict[str, Any]]:
    """Every row of the files, read without DuckDB: `number` and `outcome` as floats or None, `key` and `text` as text, `time` in UTC."""
    read = read_parquet if case.form == "parquet" else read_csv
    return [
        {
            "key": as_text(row[case.header["key"]]),
            "time": as_times(row[case.header["time"]], ZoneInfo(case.zone)),
            "number": as_number(row[case.header["number"]]),
            "text": as_text(row[case.header["text"]]),
            "outcome": as_number(row[case.header["outcome"]]),
        }
        for part in case.files
        for row in read(folder / part.name)
    ]


def read_parquet(path: Path) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()


def read_csv(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as lines:
        return [{name: value or None for name, value in row.items()} for row in csv.DictReader(lines)]


def as_number(value: Any) -> float | str | None:
    if value is None or value != value:
        return None
    if value == NO_NUMBER:
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return float(value.lower() == "true")
    number = float(value)
    return None if number != number else number


def as_text(value: Any) -> str | None:
    return None if value is None else str(value)


def as_times(value: Any, zone: ZoneInfo) -> set[datetime]:
    """The moments that a value can mean: none if there is no value, two if a local time occurs twice."""
    if value is None:
        return set()
    if isinstance(value, str):
        text, _, name = value.rpartition(" ")
        if name in ZONES:
            value, zone = text, ZoneInfo(name)
        value = datetime.fromisoformat(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.fromisoformat(value.isoformat())
    value = value.to_pydatetime() if isinstance(value, pd.Timestamp) else value  # in nanoseconds
    if value.tzinfo is not None:
        return {value.astimezone(UTC)}
    if not 1 < value.year < 9999:
        return {value.replace(tzinfo=UTC)}  # near the ends of `datetime` there is no other zone
    return {value.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}


def refusal_reasons(case: Case, rows: list[dict[str, Any]]) -> set[str]:
    """Why a file may be refused. Without a reason it has to be read."""
    reasons = {"a value that is no number"} if any(row["number"] == NO_NUMBER for row in rows) else set()
    first, last = datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
    if any(not row["time"] or not first <= min(row["time"]) < last for row in rows):
        reasons.add("time")
    for role in ROLES:
        kinds = {part.kinds[role] for part in case.files}
        if len(kinds) > 1:
            reasons.add("types that differ by file")
        if "text with zone" in kinds:
            reasons.add("a zone's name")
        if "number as text" in kinds and case.form == "parquet":
            reasons.add("text")
    if case.layout == "tables" and case.form == "csv" and any(name.isdigit() for name in case.header.values()):
        reasons.add("names that look like values, in a file whose columns are not declared")
    if case.header != case.names:
        reasons.add("letters")
    return reasons
