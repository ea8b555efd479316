"""Rows that come, change or vanish after a partition was scored, and what `partition.late_rows` makes of them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from configs.flat import quoted
from tasks.contracts import PartitionRef, Record, Stage
from tasks.errors import CorruptPartition, MissingPartition, PartitionChanged
from tasks.resources import Resources
from tasks.storage.earlier import PinnedLake, earlier_records

if TYPE_CHECKING:
    import pyarrow as pa

UNREADABLE = (CorruptPartition, MissingPartition, PartitionChanged)


@dataclass(frozen=True)
class Ingested:
    """What a partition's raw rows are after the source was read.

    Attributes:
        table: The rows to write. None keeps the file that is there.
        counts: `late_rows`: rows that have come since the partition was first ingested after it was complete; `corrected_rows`: rows whose
            values have changed since then; `left_out`: late rows that were ignored. Counts of zero are left out.
        must_be: Digest that the written file must have, empty if any.
    """

    table: "pa.Table | None"
    counts: dict[str, int]
    must_be: str = ""


def merge_late_rows(table: "pa.Table", ref: PartitionRef, res: Resources, config_digest: str) -> Ingested:
    """Apply `partition.late_rows` to the rows of the source. It protects predictions, so it counts once a partition is scored.

    `rescore` takes the rows of the source. `append` keeps the rows that have a prediction as they were scored, and takes the others from
    the source. `ignore` keeps the rows of the content that was scored. After a change of SQL or columns rows get the values of now.

    Args:
        table: The rows of the source, with the model's columns.
        ref: The partition.
        res: The model's resources.
        config_digest: Digest of the config and SQL by which they were read.
    """
    import pyarrow as pa

    config, rule, lake = res.config, res.config.partition.late_rows, res.lake
    records = _newest_first(Stage.RAW, ref, res)[::-1]
    counts = _counts(table, ref, records, res)
    scored = _scored_digest(ref, res) if rule != "rescore" else ""
    if not scored:
        return Ingested(table, counts)
    content = next((record for record in records if record.digest == scored), None)
    try:
        kept = _read(content, res) if content else None
    except UNREADABLE:
        kept = None
    if kept is not None and not kept.num_rows:
        return Ingested(table, counts)
    if content is None or kept is None:  # it is damaged: the source may still give the same content
        return Ingested(table, counts, must_be=scored)
    same_columns = content.inputs.get("config") == config_digest
    if rule == "ignore":
        late = _without(table, kept, config.key)
        counts |= {"left_out": late.num_rows} if late.num_rows else {}
        rows = kept if same_columns else _within(table, kept, config.key)
    elif same_columns:
        predicted = _predicted(ref, kept, res)
        rows = pa.concat_tables([_within(kept, predicted, config.key), _without(table, predicted, config.key)])
        rows = rows.sort_by([(config.time, "ascending"), (config.key, "ascending")]).combine_chunks()
    else:
        rows = table
    is_current = records[-1].digest == scored and lake.owns(Stage.RAW, ref.key) and lake.has_content(content)
    return Ingested(None if is_current and rows.equals(kept) else rows, counts)


def _scored_digest(ref: PartitionRef, res: Resources) -> str:
    """The digest of the raw content that the newest predictions were made from; empty if there are none."""
    for scored in _newest_first(Stage.PREDICTIONS, ref, res):
        valid = (v for v in _newest_first(Stage.VALID, ref, res) if v.digest == scored.inputs.get(Stage.VALID))
        if made_from := next(valid, None):
            return made_from.inputs.get(Stage.RAW, "")
    return ""


def _newest_first(stage: Stage, ref: PartitionRef, res: Resources) -> list[Record]:
    """The records of a stage's current and earlier contents, the current one first."""
    current = res.lake.record(stage, ref.key)
    earlier = earlier_records(res.lake, stage, ref.key)[::-1]
    return [*([current] if current and current.status == "done" else []), *earlier]


def _read(record: Record, res: Resources) -> "pa.Table":
    contents = {record.stage: {record.partition: record.digest}}
    return PinnedLake(res.lake, contents, strict=True).read_table(record.stage, record.partition)


def _predicted(ref: PartitionRef, kept: "pa.Table", res: Resources) -> "pa.Table":
    """The rows of the newest predictions or, if they are damaged, those that they were made from."""
    try:
        return _read(_newest_first(Stage.PREDICTIONS, ref, res)[0], res)
    except UNREADABLE:
        return kept


def _counts(table: "pa.Table", ref: PartitionRef, records: list[Record], res: Resources) -> dict[str, int]:
    """Compare the rows of the source with the oldest content since the partition was complete. v0.1 had no time of its runs."""
    first = next((r for r in records if r.run is None or r.run.started >= ref.complete), None)
    if first is None:
        return {}
    key = res.config.key
    try:
        before = _read(first, res)
    except UNREADABLE:
        return {name: n for name, n in records[-1].data.items() if name in ("late_rows", "corrected_rows")}
    late = int(first.data.get("late_rows", 0)) - int(first.data.get("left_out", 0))
    late += _without(table, before, key).num_rows
    corrected = _count_changed(table, before, key, res.threads) if table.schema.names == before.schema.names else 0
    return {name: n for name, n in (("late_rows", late), ("corrected_rows", corrected)) if n}


def _count_changed(table: "pa.Table", before: "pa.Table", key: str, threads: int) -> int:
    """The number of keys that both tables have, with other values."""
    import duckdb

    column = quoted(key)
    changed = f"SELECT DISTINCT {column} FROM (FROM source EXCEPT FROM before)"  # noqa: S608  (a column of model.yaml)
    with duckdb.connect(config={"threads": threads}) as con:
        con.register("source", table)
        con.register("before", before)
        rows = con.execute(f"SELECT count(*) FROM ({changed} INTERSECT SELECT {column} FROM before)").fetchall()  # noqa: S608
    return int(rows[0][0])


def _within(table: "pa.Table", others: "pa.Table", key: str) -> "pa.Table":
    """The rows whose key others have."""
    import pyarrow.compute as pc

    return table.filter(pc.is_in(table.column(key), value_set=others.column(key).combine_chunks()))


def _without(table: "pa.Table", others: "pa.Table", key: str) -> "pa.Table":
    """The rows whose key others do not have."""
    import pyarrow.compute as pc

    return table.filter(pc.invert(pc.is_in(table.column(key), value_set=others.column(key).combine_chunks())))
