"""Send the outputs that the sinks of a model do not have yet. Loads no Prefect."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from configs.publish import Sink
from tasks.errors import EvergreenError, PartitionChanged, SinkRowsRefused
from tasks.ledger.claims import Claims
from tasks.resources import Resources
from tasks.sinks.kinds import open_target
from tasks.sinks.outputs import Content, arrow_type, batches, columns, contents
from tasks.sinks.records import Sent, failures, read_sent, write_failure, write_sent
from tasks.storage.personal import error_text


@dataclass(frozen=True)
class Unsent:
    """An output of one partition that a sink does not have."""

    name: str
    sink: Sink
    content: Content

    @property
    def partition(self) -> str:
        """The partition."""
        return self.content.partition


def find_unsent(res: Resources, name: str = "") -> list[Unsent]:
    """What the sinks of a model do not have, newest partition first, so that a long history does not delay the newest.

    Nothing of a variant or a replay: other teams read only what production has written.

    Args:
        res: The model's resources.
        name: The sink; empty for all.
    """
    if not res.lake.publishes:
        return []
    sinks = {key: sink for key, sink in res.config.publish.items() if name in ("", key)}
    found = [item for key, sink in sinks.items() for item in _unsent(key, sink, res)]
    return sorted(found, key=lambda item: item.partition, reverse=True)


def failing(res: Resources, name: str) -> tuple[list[tuple[str, str, datetime]], int]:
    """Partition, error and time of the failures of a sink that it still does not have, newest first, and how many outputs it has not."""
    noted = [*failures(res.lake, name)]
    unsent = {item.partition for item in find_unsent(res, name)} if noted else set[str]()
    return [failure for failure in noted if failure[0] in unsent], len(unsent)


def _unsent(name: str, sink: Sink, res: Resources) -> Iterator[Unsent]:
    for key, content in contents(sink, res).items():
        sent = read_sent(res.lake, name, key)
        if sent is None or (sent.digest, sent.target) != (content.digest, sink.place):
            yield Unsent(name, sink, content)


def send(item: Unsent, res: Resources) -> Sent | None:
    """Send one output, and record it. None if another process is sending it, or has sent or replaced it in the meantime.

    If this process is killed before the record is written, the next one sends it again, with the same result.

    Raises:
        EvergreenError: see `Target.replace`. It is noted as a failure.
    """
    claims = Claims(res.settings.database, f"{res.title}: publish {item.name}", res.flow_run)
    if claims.acquire(item.partition):
        return None
    try:
        current = read_sent(res.lake, item.name, item.partition)
        if current and (current.digest, current.target) == (item.content.digest, item.sink.place):
            return None
        return _send(item, res)
    except PartitionChanged:
        return None
    except Exception as error:  # noqa: BLE001  (any error is noted, and raised as one that can be shown)
        shown = error if isinstance(error, EvergreenError) else _shown(error, item, res)
        write_failure(res.lake, item.name, item.partition, str(shown))
        raise shown from (None if res.config.personal or shown is error else error)
    finally:
        claims.release(item.partition)


def _send(item: Unsent, res: Resources) -> Sent:
    import pyarrow as pa

    started, content, sink = datetime.now(UTC), item.content, item.sink
    schema = pa.schema([(name, arrow_type(kind)) for name, kind in columns(sink, res.config).items()])
    target = open_target(item.name, sink, res.config)
    rows = target.replace(content.partition, schema, batches(content, sink, res))
    sent = Sent(
        model=res.config.name,
        sink=item.name,
        output=sink.output,
        partition=content.partition,
        target=sink.place,
        digest=content.digest,
        rows=rows,
        as_of=content.as_of,
        model_version=content.model_version,
        run=res.run_info(started),
    )
    write_sent(res.lake, sent)
    return sent


def _shown(error: Exception, item: Unsent, res: Resources) -> EvergreenError:
    """A library's error about the rows, without their values if the model has personal columns."""
    return SinkRowsRefused(f"publish.{item.name}: {item.partition} could not be sent: {error_text(res.config, error)}")
