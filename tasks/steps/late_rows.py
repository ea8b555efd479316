"""Rows that come, change or vanish after a partition was ingested, and what `partition.late_rows` makes of them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.contracts import PartitionRef, Stage
from tasks.errors import CorruptPartition
from tasks.resources import Resources
from tasks.steps.step import done_record

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Ingested:
    """What a partition's rows are after they were ingested again.

    Attributes:
        table: The rows to write. None keeps those that are there.
        late: Rows that have come since the first ingestion after the partition was complete.
        corrected: Rows whose values differ from those of the ingestion before.
    """

    table: "pa.Table | None"
    late: int = 0
    corrected: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """The counts that are not zero, for the record."""
        return {name: n for name, n in (("late_rows", self.late), ("corrected_rows", self.corrected)) if n}


def merge_late_rows(table: "pa.Table", ref: PartitionRef, res: Resources, config_digest: str) -> Ingested:
    """Compare the rows of the source with the ingested ones, and apply `partition.late_rows`.

    `rescore` takes the rows of the source. `append` keeps ingested rows as they are, and adds those with other keys. `ignore` keeps the
    ingested rows. Rows are late if the partition was ingested before, after it was complete, with the same SQL and columns.

    Args:
        table: The rows of the source, with the model's columns.
        ref: The partition.
        res: The model's resources.
        config_digest: Digest of the config and SQL by which they were read.
    """
    before = done_record(Stage.RAW, ref, res)
    if before is None:
        return Ingested(table)
    known = Ingested(table, int(before.data.get("late_rows", 0)), int(before.data.get("corrected_rows", 0)))
    early = before.run is not None and before.run.started < ref.complete  # v0.1 had no time for each record
    if early or before.inputs.get("config") != config_digest:
        return known
    try:
        kept = res.lake.read_table(Stage.RAW, ref.key)
    except CorruptPartition:
        return known
    return _merge(known, table, kept.cast(table.schema), res)


def _merge(known: Ingested, table: "pa.Table", kept: "pa.Table", res: Resources) -> Ingested:
    """Apply `partition.late_rows` to the rows of the source and those that were ingested before, of which `known` has the counts."""
    import duckdb
    import pyarrow as pa
    import pyarrow.compute as pc

    config, rule = res.config, res.config.partition.late_rows
    keys = kept.column(config.key).combine_chunks()
    late = table.filter(pc.invert(pc.is_in(table.column(config.key), value_set=keys)))
    with duckdb.connect() as con:
        con.register("source", table)
        con.register("kept", kept)
        row = con.execute("SELECT count(*) FROM (FROM source EXCEPT ALL FROM kept)").fetchone()
    corrected = (row[0] if row else 0) - late.num_rows
    if rule == "rescore" or not kept.num_rows:  # where nothing was ingested, nothing was scored
        return Ingested(table, known.late + late.num_rows, known.corrected + corrected)
    if rule == "ignore":
        return Ingested(None, late.num_rows, corrected)
    if not late.num_rows:
        return Ingested(None, known.late, corrected)
    rows = pa.concat_tables([kept, late]).sort_by([(config.time, "ascending"), (config.key, "ascending")])
    return Ingested(rows.combine_chunks(), known.late + late.num_rows, corrected)
