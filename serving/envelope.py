"""Parse MLflow's scoring protocol: JSON with `dataframe_split`, `dataframe_records`, `instances` or `inputs`, and CSV.

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

from serving.problems import Fault, Problem, invalid_rows, too_large, unreadable, unsupported, wrong_envelope

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
JSON, CSV = "application/json", "text/csv"


@dataclass(frozen=True)
class Table:
    """The rows of a request by column, with values as parsed from JSON or texts from CSV."""

    columns: Mapping[str, list[Any]]
    rows: int
    text: bool = False
    """Whether all values are texts, because CSV has no types. An empty text is a null."""


def read_table(body: bytes, content_type: str, max_rows: int) -> Table:
    """Return the rows of a request's body.

    Raises:
        Problem: The body cannot be parsed, is not a scoring request, or has no rows or more than `max_rows`.
    """
    kind, *parameters = (part.strip().lower() for part in content_type.split(";"))
    charsets = (part.removeprefix("charset=").strip('"') for part in parameters if part.startswith("charset="))
    if not {"utf-8", "utf8"}.issuperset(charsets):
        raise _unsupported(content_type, "send it in UTF-8")
    if kind == JSON:
        table = _from_json(_parse_json(body))
    elif kind == CSV:
        table = _from_csv(body, max_rows)
    else:
        raise _unsupported(content_type, f"send {JSON} or {CSV}")
    if table.rows > max_rows:
        limit = f"this server accepts up to {max_rows:,} in a request"
        raise too_large(f"{table.rows:,} rows; {limit}; send fewer rows, or score a partition with `process`")
    if not table.rows:
        raise wrong_envelope("it has no rows; send at least one")
    return table


def _unsupported(content_type: str, action: str) -> Problem:
    detail = f"Content-Type is {repr(content_type[:100]) if content_type else 'missing'}; {action}"
    return unsupported("The content type is not supported", detail)


def _parse_json(body: bytes) -> Any:
    """Parse JSON. NaN counts as null, because MLflow's client writes nulls of a data frame so. Infinity is refused.

    Of a name that an object has twice, the last value counts.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        reason = error
    try:
        content = json.loads(
            body, parse_constant=_parse_constant
        )  # unlike orjson it accepts NaN and integers of any size
        json.dumps(content, ensure_ascii=False).encode()  # fails for lone surrogates, which json.loads accepts
        return content
    except (ValueError, RecursionError):
        raise unreadable(f"it is not valid JSON: {reason}") from None


def _parse_constant(name: str) -> None:
    if name != "NaN":
        raise unreadable(f"{name} is neither valid JSON nor a valid input; send null for a value that is not known")


def _from_json(content: Any) -> Table:
    if not isinstance(content, dict):
        raise wrong_envelope(f"it must be an object with one of {', '.join(FORMS)}, not {_type_name(content)}")
    params = content.get("params") or {}
    if not isinstance(params, dict):
        raise wrong_envelope(f"params: must be an empty object, not {_type_name(params)}; leave it out")
    if params:
        raise wrong_envelope(f"params: models have no parameters, remove {', '.join(map(str, params))[:200]}")
    forms = [name for name in content if name != "params"]
    if len(forms) != 1 or forms[0] not in FORMS:
        shown = ", ".join(forms)[:200] or "nothing"
        raise wrong_envelope(f"it must have exactly one of {', '.join(FORMS)}, but has {shown}")
    (form,) = forms
    payload = content[form]
    if form == "dataframe_split":
        return _from_split(payload)
    if form == "inputs" and isinstance(payload, dict):
        return _from_columns(payload)
    return _from_records(payload, form)


def _from_split(payload: Any) -> Table:
    columns = payload.get("columns") if isinstance(payload, dict) else None
    data = payload.get("data") if isinstance(payload, dict) else None
    if not isinstance(columns, list) or not isinstance(data, list) or not all(isinstance(c, str) for c in columns):
        raise wrong_envelope("dataframe_split: must have `columns`, a list of names, and `data`, a list of rows")
    if unknown := sorted(set(payload) - {"columns", "data", "index"}):
        raise wrong_envelope(f"dataframe_split: has {', '.join(unknown)[:200]}; remove all but columns, data and index")
    _require_unique(columns, "dataframe_split.columns")
    for i, row in enumerate(data):
        if not isinstance(row, list) or len(row) != len(columns):
            kind = f"a list with {len(row)}" if isinstance(row, list) else _type_name(row)
            raise wrong_envelope(f"dataframe_split.data: row {i} must be a list with {len(columns)} values, not {kind}")
    return Table(dict(zip(columns, (list(column) for column in zip(*data)), strict=bool(data))), len(data))


def _from_columns(payload: Mapping[str, Any]) -> Table:
    counts = {}
    for name, values in payload.items():
        if not isinstance(values, list):
            raise wrong_envelope(f"inputs: {name[:100]} must be a list of values, not {_type_name(values)}")
        counts[name] = len(values)
    if len(set(counts.values())) > 1:
        short, long = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
        lengths = f"{short[:100]} has {counts[short]} values and {long[:100]} has {counts[long]}"
        raise wrong_envelope(f"inputs: {lengths}; all columns must have the same number")
    return Table(payload, next(iter(counts.values()), 0))


def _from_records(payload: Any, form: str) -> Table:
    if not isinstance(payload, list):
        raise wrong_envelope(f"{form}: must be a list of objects, one for each row, not {_type_name(payload)}")
    for i, row in enumerate(payload):
        if not isinstance(row, dict):
            raise wrong_envelope(f"{form}: row {i} must be an object of column names and values, not {_type_name(row)}")
    if not payload:
        return Table({}, 0)
    names = payload[0].keys()
    if all(row.keys() == names for row in payload):
        return Table({name: [row[name] for row in payload] for name in names}, len(payload))
    raise invalid_rows(_missing_fields(payload))


def _missing_fields(rows: Sequence[Mapping[str, Any]]) -> Iterator[Fault]:
    """Yield the fields that a row does not have and another row has."""
    all_names = {name for row in rows for name in row}
    for i, row in enumerate(rows):
        for name in sorted(all_names - row.keys()):
            yield Fault(i, name, None, "is missing, but other rows have it; send null if the value is not known")


def _from_csv(body: bytes, max_rows: int) -> Table:
    """Parse CSV. At most one row more than `max_rows` is read, which suffices to refuse the request."""
    try:
        text = body.decode("utf-8-sig")
        header, *rows = islice(csv.reader(io.StringIO(text, newline=""), strict=True), max_rows + 2)
    except UnicodeDecodeError as error:
        raise unreadable(f"it is not valid UTF-8: {error.reason} at byte {error.start}") from None
    except csv.Error as error:
        raise unreadable(f"it is not valid CSV: {error}") from None
    except ValueError:
        raise wrong_envelope("it is empty; the first line must have the column names") from None
    rows = [row for row in rows if row]
    for i, row in enumerate(rows):
        if len(row) != len(header):
            raise unreadable(
                f"it is not valid CSV: row {i} has {len(row)} values, but the first line has {len(header)} columns"
            )
    _require_unique(header, "the first line")
    columns: dict[str, list[Any]] = dict(zip(header, (list(column) for column in zip(*rows)), strict=bool(rows)))
    columns.pop("", None)  # the index, as pandas writes it
    return Table(columns, len(rows), text=True)


def _require_unique(columns: Sequence[str], where: str) -> None:
    if duplicates := [name for name, count in Counter(columns).items() if count > 1][:10]:
        raise wrong_envelope(f"{where}: the column names {', '.join(duplicates)[:200]} occur more than once")


def _type_name(value: Any) -> str:
    if value is None:
        return "null"
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", int: "a number", float: "a number"}
    return kinds.get(type(value), type(value).__name__)
