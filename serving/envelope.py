"""MLflow's scoring protocol: JSON as `dataframe_split`, `dataframe_records`, `instances` or `inputs`, and CSV, as columns of values.

https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally/#json-input
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson

from serving.problems import Fault, Problem, refused_rows, too_large, unreadable, wrong_envelope

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
JSON, CSV = "application/json", "text/csv"


@dataclass(frozen=True)
class Table:
    """Rows as they were sent: the values of each column, as JSON has them, or text from CSV."""

    columns: Mapping[str, list[Any]]
    rows: int
    text: bool = False
    """Whether every value is a text, and an empty one a null: CSV has no types."""


def read_table(body: bytes, content_type: str, most: int) -> Table:
    """The rows of a request's body.

    Raises:
        Problem: the body is not readable, is no scoring request, or has more than `most` rows or none.
    """
    kind, *parameters = (part.strip().lower() for part in content_type.split(";"))
    if any(part.startswith("charset=") and part.removeprefix("charset=").strip('"') != "utf-8" for part in parameters):
        raise _unsupported(content_type, "send it in UTF-8")
    if kind == JSON:
        found = _from_json(_parsed(body))
    elif kind == CSV:
        found = _from_csv(body, most)
    else:
        raise _unsupported(content_type, f"send {JSON} or {CSV}")
    if found.rows > most:
        raise too_large(
            f"{found.rows:,} rows; this server takes {most:,} in a request. Send fewer, or score a partition by `process`"
        )
    if not found.rows:
        raise wrong_envelope("there is no row in it; send one at least")
    return found


def _unsupported(content_type: str, way_out: str) -> Problem:
    given = f"it says {content_type[:100]!r}" if content_type else "there is none"
    return Problem(
        415, "unsupported-media-type", "The content type is not known here", f"Content-Type: {given}; {way_out}"
    )


def _parsed(body: bytes) -> Any:
    """JSON. NaN is taken as null, since MLflow's own client writes a frame's nulls so; an infinity is refused."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        why = error
    try:
        found = json.loads(body, parse_constant=_constant)  # it also knows NaN, and whole numbers of any size
        json.dumps(found, ensure_ascii=False).encode()  # and halves of characters, which are no text
        return found
    except (ValueError, RecursionError):
        raise unreadable(f"it is no JSON: {why}") from None


def _constant(name: str) -> None:
    if name != "NaN":
        raise unreadable(
            f"{name} is no JSON and no number that a model takes; write null for a value that is not known"
        )


def _from_json(content: Any) -> Table:
    if not isinstance(content, dict):
        raise wrong_envelope(f"it must be an object with one of {', '.join(FORMS)}, but is {_kind(content)}")
    params = content.get("params") or {}
    if not isinstance(params, dict):
        raise wrong_envelope(f"params: must be an object without entries, but is {_kind(params)}; leave it out")
    if params:
        raise wrong_envelope(
            f"params: these models take none, but there are {', '.join(map(str, params))[:200]}; leave them out"
        )
    given = [name for name in content if name != "params"]
    if len(given) != 1 or given[0] not in FORMS:
        shown = ", ".join(given)[:200] or "nothing"
        raise wrong_envelope(f"it must have exactly one of {', '.join(FORMS)}, and has {shown}")
    (form,) = given
    held = content[form]
    if form == "dataframe_split":
        return _from_split(held)
    if form == "inputs" and isinstance(held, dict):
        return _from_columns(held)
    return _from_records(held, form)


def _from_split(held: Any) -> Table:
    columns = held.get("columns") if isinstance(held, dict) else None
    data = held.get("data") if isinstance(held, dict) else None
    if not isinstance(columns, list) or not isinstance(data, list) or not all(isinstance(c, str) for c in columns):
        raise wrong_envelope("dataframe_split: must have `columns`, a list of names, and `data`, a list of rows")
    if strange := sorted(set(held) - {"columns", "data", "index"}):
        raise wrong_envelope(f"dataframe_split: has {', '.join(strange)[:200]}; only columns, data and index are known")
    _named_once(columns, "dataframe_split.columns")
    for at, row in enumerate(data):
        if not isinstance(row, list) or len(row) != len(columns):
            size = f"{len(row)} values" if isinstance(row, list) else _kind(row)
            raise wrong_envelope(
                f"dataframe_split.data: row {at} is {size}; a row is a list of {len(columns)}, one for each column"
            )
    return Table(dict(zip(columns, (list(column) for column in zip(*data)), strict=bool(data))), len(data))


def _from_columns(held: Mapping[str, Any]) -> Table:
    counts = {}
    for name, values in held.items():
        if not isinstance(values, list):
            raise wrong_envelope(
                f"inputs: {name[:100]} is {_kind(values)}; each column is a list with a value for each row"
            )
        counts[name] = len(values)
    if len(set(counts.values())) > 1:
        least, most = (choose(counts, key=counts.__getitem__) for choose in (min, max))
        raise wrong_envelope(
            f"inputs: {least[:100]} has {counts[least]} values and {most[:100]} {counts[most]}; each column has one for each row"
        )
    return Table(held, next(iter(counts.values()), 0))


def _from_records(held: Any, form: str) -> Table:
    if not isinstance(held, list):
        raise wrong_envelope(f"{form}: must be a list of objects, one for each row, but is {_kind(held)}")
    for at, row in enumerate(held):
        if not isinstance(row, dict):
            raise wrong_envelope(f"{form}: row {at} is {_kind(row)}; each row is an object of names and values")
    if not held:
        return Table({}, 0)
    names = held[0].keys()
    if all(row.keys() == names for row in held):
        return Table({name: [row[name] for row in held] for name in names}, len(held))
    raise refused_rows(_uneven(held), len(held))


def _uneven(rows: Sequence[Mapping[str, Any]]) -> Iterator[Fault]:
    """Fields that some rows have and others do not."""
    everything = {name for row in rows for name in row}
    for at, row in enumerate(rows):
        for name in sorted(everything - row.keys()):
            yield Fault(at, name, None, "is missing here and is there in other rows; write null where it is not known")


def _from_csv(body: bytes, most: int) -> Table:
    """No more lines are read than tell that there are too many rows."""
    try:
        text = body.decode("utf-8-sig")
        header, *rows = islice(csv.reader(io.StringIO(text, newline=""), strict=True), most + 2)
    except UnicodeDecodeError as error:
        raise unreadable(f"it is no UTF-8: {error.reason} at byte {error.start}") from None
    except csv.Error as error:
        raise unreadable(f"it is no CSV: {error}") from None
    except ValueError:
        raise wrong_envelope("there is no line in it; the first one names the columns") from None
    rows = [row for row in rows if row]
    for at, row in enumerate(rows):
        if len(row) != len(header):
            raise unreadable(f"it is no CSV of {len(header)} columns: row {at} has {len(row)} values")
    _named_once(header, "the first line")
    columns: dict[str, list[Any]] = dict(zip(header, (list(column) for column in zip(*rows)), strict=bool(rows)))
    columns.pop("", None)  # the index, as pandas writes it
    return Table(columns, len(rows), text=True)


def _named_once(columns: Sequence[str], where: str) -> None:
    if twice := [name for name, count in Counter(columns).items() if count > 1][:10]:
        raise wrong_envelope(f"{where}: {', '.join(twice)[:200]} is named twice")


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    kinds = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "a truth value",
        int: "a number",
        float: "a number",
    }
    return kinds.get(type(value), type(value).__name__)
