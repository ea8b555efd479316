"""Send outputs to the places that `publish` names, at the end of a run. Nothing depends on it, and a failure fails no run.

What could not be sent is sent by the next run of `process`, `assess`, `backfill` or `remind`.
"""

import time
from collections import Counter
from dataclasses import dataclass, field

from tasks.contracts.words import counted, first_line
from tasks.errors import SinkMismatch, SinkRefused, SinkUnavailable
from tasks.orchestration.prefect_tasks import as_task, run_log
from tasks.resources import Resources
from tasks.sinks.records import Sent
from tasks.sinks.send import Unsent, find_unsent, send

SECONDS = 1200.0
"""Time after which a run begins to send no further partition, so that a long history does not use up its limit. The next run continues."""


@dataclass
class Sending:
    """What a run has sent.

    Attributes:
        sent: Partitions by sink.
        failed: Partitions that were not sent, by sink, and the first error of each sink.
        left: Outputs of partitions for the next run, of all sinks.
        unreadable: Why it is not known what the sinks have; empty if it is.
    """

    sent: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    errors: dict[str, str] = field(default_factory=dict)
    left: int = 0
    unreadable: str = ""

    @property
    def had_work(self) -> bool:
        """Whether anything was sent or failed."""
        return bool(self.sent or self.failed or self.unreadable)

    @property
    def message(self) -> str:
        """A sentence for each sink that failed, beginning with a space, and one if outputs are left."""
        errors = {name: error.removeprefix(f"publish.{name}: ") for name, error in self.errors.items()}
        text = "".join(
            f" Not sent to {name}: {counted(count, 'partition')}, tried again by the next run: {first_line(errors[name])}."
            for name, count in self.failed.items()
        )
        text += (
            f" Nothing sent, since the records of what was sent cannot be read: {self.unreadable}."
            if self.unreadable
            else ""
        )
        return text + (f" {counted(self.left, 'output')} left to send, by the next run." if self.left else "")

    @property
    def tags(self) -> list[str]:
        """The tag of a run that a person should look at."""
        return ["warning"] if self.failed or self.unreadable else []


def send_outputs(res: Resources, deadline: float | None = None) -> Sending:
    """Send what the sinks of a model do not have, newest partition first, each as a task.

    A sink that does not respond, refuses us or has other columns gets nothing more in this run. The others continue.

    Args:
        res: The model's resources.
        deadline: When to begin with no further partition, by `time.monotonic()`. By default after `SECONDS`.
    """
    deadline, result, log = time.monotonic() + SECONDS if deadline is None else deadline, Sending(), run_log()
    down: set[str] = set()
    try:
        items = find_unsent(res)
    except Exception as error:  # noqa: BLE001  (nothing may depend on a sink)
        log.error("%s: what its sinks have cannot be read: %s", res.config.name, error)
        result.unreadable = first_line(str(error))
        return result
    for name, count in Counter(item.name for item in items).items():
        log.info("%s: %s to send to %s", res.config.name, counted(count, "partition"), name)
    for at, item in enumerate(items):
        if time.monotonic() > deadline:
            result.left = len(items) - at
            break
        if item.name in down:
            result.failed[item.name] += 1
            continue
        try:
            sent = send_partition(item, res)
        except Exception as error:  # noqa: BLE001  (nothing may depend on a sink)
            if isinstance(error, SinkUnavailable | SinkRefused | SinkMismatch):
                down.add(item.name)
            result.failed[item.name] += 1
            result.errors.setdefault(item.name, str(error))
            log.error("%s %s was not sent to %s: %s", res.config.name, item.partition, item.name, error)
        else:
            result.sent.update([item.name] if sent else [])
    return result


@as_task("send {item.partition} to {item.name}")  # not retried: the next run does, and nothing waits for a sink
def send_partition(item: Unsent, res: Resources) -> Sent | None:
    """Send one partition to one sink, and log it."""
    sent = send(item, res)
    if sent:
        rows = counted(sent.rows, "row")
        run_log().info(
            "%s of %s sent to %s: %s in %.2f s", sent.output, sent.partition, sent.sink, rows, sent.run.seconds
        )
    return sent
