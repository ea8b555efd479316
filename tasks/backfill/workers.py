"""Where a backfill's partitions run: on threads of the flow's own process, or on a Dask cluster that shares its storage."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from configs.settings import load_settings
from tasks.contracts import Runner
from tasks.errors import ClusterMismatch, ClusterUnreachable
from tasks.storage.files import digest_json

CONNECT = 10
"""Seconds within which a Dask scheduler must answer."""
COARSE = 4.0
"""Seconds of work that are worth a Dask task, which itself costs about a third of one."""
MOST = 25
"""Partitions of one Dask task: what is lost when its worker dies, and the grain of a cancellation."""


@dataclass(frozen=True)
class Workers:
    """How many partitions are worked on side by side, and where."""

    runner: Runner = "threads"
    concurrency: int = 2
    dask: str = ""
    """Address of a Dask scheduler, such as tcp://127.0.0.1:8786."""

    def threads_each(self, threads: int) -> int:
        """Cores for each that runs in this process. Workers of a cluster have their own setting."""
        return max(1, threads // self.concurrency) if self.runner == "threads" else threads

    def chunk(self, seconds: float | None, partitions: int) -> int:
        """How many partitions make one task, from what they take in all."""
        if self.runner == "threads" or not partitions:
            return 1
        each = (seconds or 0.0) / partitions or COARSE
        share = -(-partitions // (2 * self.concurrency))  # at least two tasks for each that runs
        return max(1, min(round(COARSE / each), share, MOST))


@contextmanager
def opened(workers: Workers) -> Iterator[TaskRunner[Any]]:
    """The task runner, started; Dask's only after its workers have shown that they see the same storage.

    Raises:
        ClusterUnreachable: no scheduler answers at the address, or it has no worker.
        ClusterMismatch: a worker has another lake, database or code.
    """
    if workers.runner == "threads":
        with ThreadPoolTaskRunner(max_workers=workers.concurrency) as runner:
            yield runner
        return
    if not workers.dask:
        raise ClusterUnreachable("runner dask needs the address of a scheduler, such as dask=tcp://127.0.0.1:8786")
    from prefect_dask.task_runners import DaskTaskRunner  # noqa: PLC0415  (half a second, for those who use it)

    dask = DaskTaskRunner(address=workers.dask, client_kwargs={"timeout": CONNECT})
    with dask:
        try:
            seen = dask.client.run(surroundings)
        except (OSError, ValueError) as error:
            raise ClusterUnreachable(
                f"no Dask scheduler answers at {workers.dask!r} ({error}); start one with `dask scheduler`, or use runner threads"
            ) from None
        if not seen:
            raise ClusterUnreachable(f"the scheduler at {workers.dask} has no worker; start some with `dask worker`")
        require_same_environment(seen)
        yield dask


def surroundings() -> dict[str, str]:
    """What must be the same in this process and in every worker; secrets as digests."""
    from tasks.steps.order import ALL  # noqa: PLC0415  (in the worker, not where the address is read)

    settings = load_settings()
    return {
        "EVERGREEN_LAKE": settings.lake,
        "EVERGREEN_DATABASE_URL": f"digest {digest_json(settings.database)[:8]}",
        "the stages' code": digest_json({step.verb: step.version for step in ALL})[:8],
    }


def require_same_environment(seen: dict[str, dict[str, str]]) -> None:
    """Refuse workers that would read or write elsewhere."""
    mine = surroundings()
    for address, theirs in seen.items():
        for name, value in mine.items():
            if theirs.get(name) != value:
                raise ClusterMismatch(
                    f"the Dask worker {address} has {name} {theirs.get(name)!r}, and this run has {value!r}; start it in the same "
                    f"repository with the same EVERGREEN_ variables"
                )
