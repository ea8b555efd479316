"""How many runs wait in Prefect's work queues, in one request for each queue and state: for the metrics."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from tasks.orchestration.schedules import Post, all_items


class QueueLength(NamedTuple):
    """Runs of a queue. `waiting` are those whose time has come, `pending` those that a worker has taken and not started."""

    pool: str
    queue: str
    waiting: int
    pending: int


def queue_lengths(post: Post, now: datetime | None = None) -> list[QueueLength]:
    """Return the length of each queue of each pool.

    Raises:
        OSError, ValueError: From `post`, if Prefect does not respond.
    """
    due = {"state": {"type": {"any_": ["SCHEDULED"]}}, "expected_start_time": {"before_": _text(now)}}
    taken = {"state": {"type": {"any_": ["PENDING"]}}}
    count: Callable[[str, dict[str, Any]], int] = lambda queue, runs: int(  # noqa: E731
        post("flow_runs/count", {"flow_runs": runs, "work_pool_queues": {"id": {"any_": [queue]}}})
    )
    return [
        QueueLength(q["work_pool_name"] or "", q["name"], count(q["id"], due), count(q["id"], taken))
        for q in all_items(post, "work_queues/filter", {})
    ]


def _text(now: datetime | None) -> str:
    return (now or datetime.now(UTC)).isoformat()
