"""Ingest: copy one partition from the source into the lake, unchanged."""

from configs.load import Model
from tasks.contracts import PartitionRef, Stage
from tasks.errors import CorruptPartition, SourceMismatch
from tasks.resources import Resources
from tasks.source.extent import fingerprint, is_served
from tasks.source.kinds import source_files
from tasks.source.leaks import check_leaks
from tasks.source.placement import unplaced_rows
from tasks.source.rows import read_source
from tasks.steps.late_rows import merge_late_rows
from tasks.steps.step import Step, StepOutput, done_record
from tasks.storage.files import digest_json, replacing
from tasks.storage.lake import table_digest
from tasks.storage.records import changed_inputs

VERSION = 1


def ingest(ref: PartitionRef, res: Resources) -> StepOutput:
    """Copy key, time and features of the partition's rows into the lake, sorted by time and key, as `partition.late_rows` says.

    For each version of the SQL, the first partition is also checked for target leakage.

    Raises:
        MissingSource, SourceMismatch: the source has no data, or other columns. The partition is blocked.
        CorruptPartition: rows that must be kept are damaged.
        ConfigError, LeakFound: the SQL is wrong. Nothing is written.
    """
    import pyarrow.compute as pc

    if not is_served(res.model, ref.key):
        guard_against_leaks(ref, res)
    table = read_source(res.model, ref, res.threads)
    times = table.column(res.config.time)
    outside = pc.sum(pc.or_(pc.less(times, ref.start), pc.greater_equal(times, ref.end))).as_py()
    if outside:
        raise SourceMismatch(
            f"{ref}: {res.config.source.sql} returns {outside} rows outside [{ref.start.isoformat()}, "
            f"{ref.end.isoformat()}). Restrict {res.config.time!r} to [$start, $end)"
        )
    merged = merge_late_rows(table, ref, res, source_digest(res.model))
    if merged.table is None:
        kept = res.lake.done(Stage.RAW, ref.key)
        return StepOutput(kept.rows, kept.digest, merged.counts)
    if merged.must_be and table_digest(merged.table) != merged.must_be:
        raise CorruptPartition(
            f"{ref}: the rows that were scored are damaged or gone, and the source has others now. partition.late_rows is "
            f"{res.config.partition.late_rows}, so they are not replaced. Restore {res.lake.path(Stage.RAW, ref.key)} and its record "
            f"from a backup, or set `rescore`"
        )
    digest = res.lake.write_table(Stage.RAW, ref.key, merged.table)
    rows = merged.table.num_rows
    return StepOutput(rows, digest, {**({} if rows else {"empty": True}), **merged.counts})


def guard_against_leaks(ref: PartitionRef, res: Resources) -> None:
    """Check the SQL for target leakage, once for each version of it, on the first partition with rows before the check's cutoff.

    A file in the lake marks the version as checked.
    """
    marker = res.lake.root / "leak_checks" / f"{source_digest(res.model)[:16]}.txt"
    if marker.is_file():
        return
    if not check_leaks(res.model, ref, res.threads):
        return
    with replacing(marker) as draft:
        draft.write_text(f"no leak found in {ref}\n", encoding="utf-8")


def source_digest(model: Model) -> str:
    """Digest of the config and SQL that determine a partition's rows."""
    config = model.config
    return digest_json(
        [
            config.source.query_settings(),
            model.source_sql,
            config.key,
            config.time,
            config.features.columns,
        ]
    )


def inputs(ref: PartitionRef, res: Resources) -> dict[str, str]:
    """Return the fingerprints of the source's files or rows and of its config.

    A partition that is not ingested from these also depends on the rows that are in no partition, so that it is ingested without them.
    """
    digests = {"source": fingerprint(res.model, ref), "config": source_digest(res.model)}
    if (rule := res.config.partition.late_rows) != "rescore":
        digests["late_rows"] = rule  # so that another rule reads the source again
    record, flat = done_record(Stage.RAW, ref, res), res.config.source.file
    dated = any(table.is_ranged for table in res.config.source.views.values())
    if (dated and not (flat and flat.is_selected)) or is_served(res.model, ref.key):
        return digests
    if record and not changed_inputs(record, VERSION, digests):
        return digests
    unplaced = unplaced_rows(res.model, source_files(res.model, ref))
    return digests | ({"unplaced": digest_json(unplaced)} if unplaced else {})


INGEST = Step("ingest", Stage.RAW, VERSION, inputs, ingest)
