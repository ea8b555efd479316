"""Rows that serving has answered, as files of the lake: `<model>/served/<partition>/<segment>.parquet`.

Segments are added while requests arrive. They have one row for each answer about a row: its features as they were sent, the prediction, the
model version, and the version's role. `process` reads them if model.yaml has `source.served_from`.
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
"""Roles of a version. A canary answers instead of the champion, a shadow in addition to it."""


def served_folder(model: str, lake: UPath | None = None) -> UPath:
    """The folder of a model's served rows, by default in the lake of the settings."""
    return (lake or open_root(load_settings().lake, ROOT)) / model / FOLDER


def segment_schema(config: ModelConfig) -> "pa.Schema":
    """The columns of a segment: those of a source's rows, the prediction, and where it comes from."""
    import pyarrow as pa

    utc_time = pa.timestamp("us", tz="UTC")
    types = {config.key: pa.string(), config.time: utc_time}
    types |= dict.fromkeys(config.features.numeric, pa.float64())
    types |= dict.fromkeys((*config.features.categorical, *config.groups), pa.string())
    multiclass = config.target.kind == "multiclass"
    types |= {"prediction": pa.string() if multiclass else pa.float64()}
    types |= dict.fromkeys((f"p_{name}" for name in config.target.classes), pa.float64())
    types |= {"model_version": pa.string(), "as_of": utc_time, "role": pa.string()}
    types |= {"request_id": pa.string(), "client_id": pa.string(), "request_row": pa.int32(), "served_at": utc_time}
    return pa.schema([pa.field(name, column_type) for name, column_type in types.items()])


def write_segment(folder: UPath, name: str, table: "pa.Table") -> None:
    """Write rows of one partition atomically. A segment of the same name is replaced."""
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
    """Return the complete segments of a partition, sorted by name."""
    return sorted(folder.glob("[!.]*.parquet"), key=lambda path: path.name)


def served_rows(model: Model, key: str, roles: Sequence[str] = (CHAMPION, CANARY)) -> "pa.Table":
    """All answers of some roles about a partition's rows, with the columns of `segment_schema`, oldest first.

    If a writer was killed between two steps, two segments have the same answer. It is returned once.

    Raises:
        MissingSource: no request was served for this partition.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    folder, schema = served_folder(model.name) / key, segment_schema(model.config)
    tables: list[pa.Table] = []
    for _ in range(3):  # while segments are merged, one may be deleted between listing and reading
        paths = segments(folder)
        try:
            tables = [_conform(pq.read_table(io.BytesIO(path.read_bytes())), schema) for path in paths]
            break
        except FileNotFoundError:
            continue
    if not tables:
        raise MissingSource(f"{model.name} {key}: no request was served for it; there is nothing to ingest yet")
    rows = pa.concat_tables(tables)
    rows = rows.filter(pc.is_in(rows["role"], pa.array(list(roles))))
    frame = rows.to_pandas()
    ordered = frame.sort_values(["served_at", "request_id", "request_row", "role"], kind="stable")
    unique = ordered.drop_duplicates(["request_id", "request_row", "role"])
    return rows.take(pa.array(unique.index.to_numpy()))


def newest_rows(model: Model, key: str, roles: Sequence[str] = (CHAMPION, CANARY)) -> "pa.Table":
    """The same as `served_rows`, but only the newest answer of each key: one row, however often it was requested."""
    import pyarrow as pa

    rows = served_rows(model, key, roles)
    keys = rows.select([model.config.key]).to_pandas()
    return rows.take(pa.array(keys.drop_duplicates(keep="last").index.to_numpy()))


def served_fingerprint(model: Model, key: str) -> str:
    """A cheap digest of a partition's segments: names and sizes, since segments are added and merged, but never changed.

    Raises:
        MissingSource: no request was served for this partition.
    """
    paths = segments(served_folder(model.name) / key)
    if not paths:
        raise MissingSource(f"{model.name} {key}: no request was served for it; there is nothing to ingest yet")
    return digest_json(["served", *((path.name, path.stat().st_size) for path in paths)])


def _conform(table: "pa.Table", schema: "pa.Schema") -> "pa.Table":
    """A segment with the columns of `schema`. Columns that the segment lacks are null."""
    import pyarrow as pa

    columns = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def segment_table(config: ModelConfig, columns: Mapping[str, Sequence[Any]]) -> "pa.Table":
    """Build a segment from columns, with None for null and aware datetimes. Columns that are not given are null."""
    import pyarrow as pa

    rows = len(columns[config.key])
    schema = segment_schema(config)
    arrays = [
        pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(rows, field.type)
        for field in schema
    ]
    return pa.table(arrays, schema=schema)
