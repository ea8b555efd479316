"""Rows that serving has answered, as files of the lake: `<model>/served/<partition>/<segment>.parquet`.

A partition's segments are added while requests come in. A row stands in them once for each time that it was asked about, with its
features as they were sent, what was said, by which version, and in which role. `process` reads them where model.yaml has
`source.served_from`.
"""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from upath import UPath

from configs.load import Model
from configs.schema import ModelConfig
from configs.settings import ROOT, load_settings
from tasks.errors import MissingSource
from tasks.storage.files import digest_json, open_root, replacing

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = "served"
CHAMPION, CANARY, SHADOW = "champion", "canary", "shadow"
"""In which role a version has answered: instead of the champion, or beside whoever did."""


def served_folder(model: str, lake: UPath | None = None) -> UPath:
    """Where a model's served rows are, in the lake of the settings or in another."""
    return (lake or open_root(load_settings().lake, ROOT)) / model / FOLDER


def schema_of(config: ModelConfig) -> "pa.Schema":
    """The columns of a segment: those of a source's rows, then what was said."""
    import pyarrow as pa

    moment = pa.timestamp("us", tz="UTC")
    kinds = {config.key: pa.string(), config.time: moment}
    kinds |= dict.fromkeys(config.features.numeric, pa.float64())
    kinds |= dict.fromkeys((*config.features.categorical, *config.groups), pa.string())
    multiclass = config.target.kind == "multiclass"
    kinds |= {"prediction": pa.string() if multiclass else pa.float64()}
    kinds |= dict.fromkeys((f"p_{name}" for name in config.target.classes), pa.float64())
    kinds |= {"model_version": pa.string(), "as_of": moment, "role": pa.string()}
    kinds |= {"request_id": pa.string(), "client_id": pa.string(), "request_row": pa.int32(), "served_at": moment}
    return pa.schema([pa.field(name, kind) for name, kind in kinds.items()])


def write_segment(folder: UPath, name: str, table: "pa.Table") -> None:
    """Write rows of one partition as a whole; the same name again replaces them."""
    import pyarrow.parquet as pq

    with replacing(folder / f"{name}.parquet") as draft:
        pq.write_table(table, draft, compression="zstd")


def served_partitions(model: str) -> list[str]:
    """The partitions that have served rows, oldest first."""
    folder = served_folder(model)
    try:
        return sorted(path.name for path in folder.iterdir() if path.is_dir() and any(segments(folder / path.name)))
    except FileNotFoundError:
        return []


def segments(folder: UPath) -> list[UPath]:
    return sorted(folder.glob("[!.]*.parquet"), key=lambda path: path.name)


def served_rows(model: Model, key: str, roles: Sequence[str] = (CHAMPION, CANARY)) -> "pa.Table":
    """Every answer about a partition's rows in some roles, by the columns of `schema_of`, oldest first.

    An answer that stands in two segments, since its writer died between two steps, is there once.

    Raises:
        MissingSource: nothing was served of this partition.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    folder, wanted = served_folder(model.name) / key, schema_of(model.config)
    found: list[pa.Table] = []
    for _ in range(3):  # while segments are put together, one may go between the listing and the reading
        paths = segments(folder)
        try:
            found = [_as(pq.read_table(io.BytesIO(path.read_bytes())), wanted) for path in paths]
            break
        except FileNotFoundError:
            continue
    if not found:
        raise MissingSource(f"{model.name} {key}: serving was asked nothing about it; there is nothing to ingest yet")
    rows = pa.concat_tables(found)
    rows = rows.filter(pc.is_in(rows["role"], pa.array(list(roles))))
    frame = rows.to_pandas()
    order = frame.sort_values(["served_at", "request_id", "request_row", "role"], kind="stable")
    once = order.drop_duplicates(["request_id", "request_row", "role"])
    return rows.take(pa.array(once.index.to_numpy()))


def newest_rows(model: Model, key: str, roles: Sequence[str] = (CHAMPION, CANARY)) -> "pa.Table":
    """The same with the last answer of each key only: a row is one row, however often it was asked about."""
    import pyarrow as pa

    rows = served_rows(model, key, roles)
    keys = rows.select([model.config.key]).to_pandas()
    return rows.take(pa.array(keys.drop_duplicates(keep="last").index.to_numpy()))


def served_fingerprint(model: Model, key: str) -> str:
    """A cheap digest of a partition's segments, which are never changed, only added and put together.

    Raises:
        MissingSource: nothing was served of this partition.
    """
    paths = segments(served_folder(model.name) / key)
    if not paths:
        raise MissingSource(f"{model.name} {key}: serving was asked nothing about it; there is nothing to ingest yet")
    return digest_json(["served", *((path.name, path.stat().st_size) for path in paths)])


def _as(table: "pa.Table", wanted: "pa.Schema") -> "pa.Table":
    """A segment by today's columns: what it does not have is null, what model.yaml does not have any more is left out."""
    import pyarrow as pa

    columns = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(table.num_rows, field.type)
        for field in wanted
    ]
    return pa.table(columns, schema=wanted)


def segment_table(config: ModelConfig, columns: Mapping[str, Sequence[Any]]) -> "pa.Table":
    """Rows as a segment has them, of columns with None for null; one that is not there is null. Times are aware datetimes."""
    import pyarrow as pa

    rows = len(columns[config.key])
    schema = schema_of(config)
    arrays = [
        pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(rows, field.type)
        for field in schema
    ]
    return pa.table(arrays, schema=schema)
