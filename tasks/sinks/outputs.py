"""The rows that `publish` sends of each output, and what decides whether a partition has to be sent again.

Each row has the columns of its output, and `model`, `partition`, `as_of` and `model_version`. A target has one set of rows for each model
and partition, which is always replaced as a whole.

predictions   the rows of the lake's predictions
quarantine    the quarantined rows with their reasons; the version is the one that scored the partition's valid rows
performance   a row for each metric of an assessed partition
decisions     a row for each decision about a fact of the partition, with the outcome of its retraining
"""

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from configs.publish import ADDED, Output, Sink
from configs.schema import ModelConfig
from tasks.contracts import Decision, Fact, Record, Stage
from tasks.errors import PartitionChanged
from tasks.resources import Resources
from tasks.storage.earlier import PinnedLake
from tasks.storage.files import digest_json, digest_of, open_file
from tasks.storage.lake import Lake
from tasks.storage.personal import hash_inputs, hashed
from tasks.storage.published_contract import published_contract

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 1
"""Version of this module's rows, increased when the same output gives other rows. All partitions are then sent again."""
TEXT, NUMBER, COUNT, TIME = "string", "double", "int64", "timestamp[us, tz=UTC]"
"""The types of columns, as Arrow names them."""
_SHARED = dict(zip(ADDED, (TEXT, TEXT, TIME, TEXT), strict=True))
PERFORMANCE = {"metric": TEXT, "value": NUMBER, "lower": NUMBER, "upper": NUMBER} | dict.fromkeys(
    ("scored", "mature", "pending", "never"), COUNT
)
DECISIONS = {
    "fact": TEXT, "fact_kind": TEXT, "action": TEXT, "rule": TEXT, "reason": TEXT, "outcome": TEXT, "detail": TEXT,
    "seconds": NUMBER, "recorded_at": TIME,
}  # fmt: skip


@dataclass(frozen=True)
class Content:
    """An output of one partition.

    Attributes:
        digest: Changes when other rows would be sent.
        source: Digest of the lake's file or record that has the rows; empty if there is none.
        rows: The rows themselves, if they are not in a file.
    """

    output: Output
    partition: str
    as_of: datetime
    model_version: str
    digest: str
    source: str = ""
    rows: tuple[Mapping[str, Any], ...] = ()


def columns(sink: Sink, config: ModelConfig) -> dict[str, str]:
    """The columns of the rows that a sink gets, with their types. A personal column whose values are hashed is text."""
    own = {
        name: TEXT if name in hidden_columns(sink, config) else column.type
        for name, column in published_contract(config).columns.items()
        if name in config.columns
    }
    if sink.output == "predictions":
        return _SHARED | {name: own[name] for name in (config.key, config.time)} | _predictions(config)
    if sink.output == "quarantine":
        return _SHARED | own | {"reasons": TEXT}
    return _SHARED | (PERFORMANCE if sink.output == "performance" else DECISIONS)


def _predictions(config: ModelConfig) -> dict[str, str]:
    classes = {f"p_{name}": NUMBER for name in config.target.classes}
    return {"prediction": TEXT if classes else NUMBER} | classes


def hidden_columns(sink: Sink, config: ModelConfig) -> tuple[str, ...]:
    """The columns whose values are sent as their keyed hash."""
    if sink.personal == "keep":
        return ()
    sent = {"predictions": (config.key,), "quarantine": config.columns}.get(sink.output, ())
    return tuple(name for name in sent if name in config.personal)


def contents(sink: Sink, res: Resources) -> dict[str, Content]:
    """What a sink should have: the present output of each partition that has one, by partition."""
    find = {"predictions": _scored, "quarantine": _quarantined, "performance": _assessed, "decisions": _decided}
    hidden = hidden_columns(sink, res.config)
    personal = [hidden, hash_inputs(res.config)] if hidden else []
    found = {}
    for content in find[sink.output](res):
        digest = digest_json(
            [VERSION, sink.output, content.digest, str(content.as_of), content.model_version, personal]
        )
        found[content.partition] = Content(**vars(content) | {"digest": digest})
    return found


def batches(content: Content, sink: Sink, res: Resources) -> "Iterator[pa.Table]":
    """The rows of an output, with exactly the columns of `columns`. Files are read in parts.

    Raises:
        PartitionChanged: another process has written other rows since `content` was determined.
    """
    import pyarrow as pa

    schema = pa.schema([(name, arrow_type(kind)) for name, kind in columns(sink, res.config).items()])
    hidden = hidden_columns(sink, res.config)
    about: dict[str, Any] = {"model": res.config.name, "partition": content.partition}
    about |= {"as_of": content.as_of, "model_version": content.model_version}
    for table in _tables(content, res.lake):
        yield _as_sent(table, schema, about, hidden)


def _tables(content: Content, lake: Lake) -> "Iterator[pa.Table]":
    import pyarrow as pa
    import pyarrow.parquet as pq

    if content.output == "predictions":
        pinned = PinnedLake(lake, {Stage.PREDICTIONS: {content.partition: content.source}}, strict=True)
        yield from pinned.batches(Stage.PREDICTIONS, content.partition)
    elif content.output == "quarantine" and content.source:
        with open_file(lake.path(Stage.QUARANTINE, content.partition)) as file:
            rows = file.read()
        if digest_of(io.BytesIO(rows)) != content.source:
            raise PartitionChanged(
                f"{lake.model} {content.partition}: its quarantined rows were replaced; run it again"
            )
        yield pq.read_table(io.BytesIO(rows))
    else:
        performance = content.output == "performance" and lake.record(Stage.PERFORMANCE, content.partition)
        if performance and performance.digest != content.source:
            raise PartitionChanged(f"{lake.model} {content.partition}: its performance was replaced; run it again")
        yield pa.Table.from_pylist([dict(row) for row in content.rows])


def _as_sent(table: "pa.Table", schema: "pa.Schema", about: Mapping[str, Any], hidden: Iterable[str]) -> "pa.Table":
    """A table with these columns: its own, hashed if they are hidden, else constants, else nulls."""
    import pyarrow as pa

    arrays = []
    for field in schema:
        if field.name in table.column_names:
            column = table[field.name]
            arrays.append(_hash(column) if field.name in hidden else column.cast(field.type))
        else:
            arrays.append(pa.repeat(pa.scalar(about.get(field.name), field.type), table.num_rows))
    return pa.Table.from_arrays(arrays, schema=schema)


def _hash(column: "pa.ChunkedArray") -> "pa.Array":
    import pyarrow as pa

    return pa.array([None if value is None else hashed(value) for value in column.to_pylist()], pa.string())


def arrow_type(kind: str) -> "pa.DataType":
    """The type of Arrow with this name, one of those of `columns`."""
    import pyarrow as pa

    return {TEXT: pa.string(), NUMBER: pa.float64(), COUNT: pa.int64(), TIME: pa.timestamp("us", "UTC")}[kind]


def _scored(res: Resources) -> Iterator[Content]:
    for record in _records(Stage.PREDICTIONS, res.lake):
        if record.status == "done":
            version, digest = str(record.data["version"]), record.digest
            yield Content("predictions", record.partition, record.as_of, version, digest, digest)


def _quarantined(res: Resources) -> Iterator[Content]:
    for record in _records(Stage.VALID, res.lake):
        scored = res.lake.record(Stage.PREDICTIONS, record.partition)
        version = str(scored.data["version"]) if scored and scored.status == "done" else ""
        digest = _file_digest(record, res.lake)
        yield Content("quarantine", record.partition, record.as_of, version, digest, digest)


def _file_digest(record: Record, lake: Lake) -> str:
    """Digest of the file with the quarantined rows, empty if there is none. Records of v0.1 do not have it."""
    path = lake.path(Stage.QUARANTINE, record.partition)
    if record.run and record.run.checksum:
        return record.run.files.get(str(path.relative_to(lake.root)), "")
    if not path.is_file():
        return ""
    with open_file(path) as file:
        return digest_of(file)


def _assessed(res: Resources) -> Iterator[Content]:
    for record in _records(Stage.PERFORMANCE, res.lake):
        if record.status == "done":
            rows, version = tuple(_metrics(record.data)), str(record.data["version"])
            yield Content("performance", record.partition, record.as_of, version, record.digest, record.digest, rows)


def _metrics(data: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    counts = {name: data.get(name) for name in ("scored", "mature", "pending", "never")}
    bounds = {**data.get("intervals", {}), "skill": data.get("skill_interval")}
    values = {**data["metrics"], **({"skill": data["skill"]} if "skill" in data else {})}
    for metric, value in values.items():
        lower, upper = bounds.get(metric) or (None, None)
        yield {"metric": metric, "value": value, "lower": lower, "upper": upper, **counts}


def _decided(res: Resources) -> Iterator[Content]:
    """The decisions, by the partition of their facts. A decision gets its outcome when its retraining ends."""
    facts: dict[str, Fact] = {fact.id: fact for fact in res.ledger.facts()}
    groups: dict[str, list[Decision]] = {}
    for decision in res.ledger.decisions():
        if fact := facts.get(decision.fact_id):
            groups.setdefault(fact.partition, []).append(decision)
    for partition, decisions in groups.items():
        rows = tuple(_decision_row(decision, facts[decision.fact_id]) for decision in decisions)
        newest = decisions[-1]
        yield Content("decisions", partition, newest.as_of, newest.version, digest_json(rows), rows=rows)


def _decision_row(decision: Decision, fact: Fact) -> dict[str, Any]:
    own = {name: getattr(decision, name) for name in ("action", "rule", "reason", "outcome", "detail", "seconds")}
    about = {"fact": fact.id, "fact_kind": fact.kind, "recorded_at": decision.recorded_at}
    return {**about, **own, "as_of": decision.as_of, "model_version": decision.version}


def _records(stage: Stage, lake: Lake) -> Iterator[Record]:
    for key in lake.keys(stage):
        if record := lake.record(stage, key):
            yield record
