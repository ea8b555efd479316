"""Where a backfill's partitions run: in threads of the flow's process, or on a Dask cluster that shares its storage."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from configs.settings import load_settings
from tasks.contracts import Runner
from tasks.errors import ClusterMismatch, ClusterUnreachable
from tasks.storage.files import digest_json

CONNECT_SECONDS = 10
"""Seconds within which a Dask scheduler must answer."""
TASK_SECONDS = 4.0
"""Seconds of work that one Dask task should have. The overhead of a task is about a third of a second."""
MAX_CHUNK = 25
"""Maximum partitions in one Dask task. They run again if its worker dies, and a cancellation waits for them."""


@dataclass(frozen=True)
class Workers:
    """How many partitions run in parallel, and where."""

    runner: Runner = "threads"
    concurrency: int = 2
    dask: str = ""
    """Address of a Dask scheduler, such as tcp://127.0.0.1:8786."""

    def threads_per_partition(self, threads: int) -> int:
        """Threads for each partition that runs in this process. Workers of a cluster have their own setting."""
        return max(1, threads // self.concurrency) if self.runner == "threads" else threads

    def chunk_size(self, seconds: float | None, partitions: int) -> int:
        """How many partitions one task runs. `seconds` is the estimate for all of them; None if unknown."""
        if self.runner == "threads" or not partitions:
            return 1
        each = (seconds or 0.0) / partitions or TASK_SECONDS
        share = -(-partitions // (2 * self.concurrency))  # at least two tasks per worker
        return max(1, min(round(TASK_SECONDS / each), share, MAX_CHUNK))


@contextmanager
def open_runner(workers: Workers) -> Iterator[TaskRunner[Any]]:
    """Start the task runner. Dask workers must have the same lake, database and code as this process.

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
    from prefect_dask.task_runners import DaskTaskRunner  # noqa: PLC0415  (half a second to import)

    dask = DaskTaskRunner(address=workers.dask, client_kwargs={"timeout": CONNECT_SECONDS})
    with dask:
        try:
            environments = dask.client.run(worker_environment)
        except (OSError, ValueError) as error:
            raise ClusterUnreachable(
                f"no Dask scheduler answers at {workers.dask!r} ({error}); start one with `dask scheduler`, or use runner threads"
            ) from None
        if not environments:
            raise ClusterUnreachable(f"the scheduler at {workers.dask} has no worker; start some with `dask worker`")
        require_same_environment(environments)
        yield dask


def worker_environment() -> dict[str, str]:
    """What must be equal in this process and in every worker. Secrets are replaced by digests."""
    from tasks.steps.order import ALL  # noqa: PLC0415  (only the worker needs it)

    settings = load_settings()
    return {
        "EVERGREEN_LAKE": settings.lake,
        "EVERGREEN_DATABASE_URL": f"digest {digest_json(settings.database)[:8]}",
        "step versions": digest_json({step.verb: step.version for step in ALL})[:8],
    }


def require_same_environment(environments: dict[str, dict[str, str]]) -> None:
    """Refuse workers that would read or write elsewhere.

    Args:
        environments: The `worker_environment` of each worker, by its address.

    Raises:
        ClusterMismatch: a worker differs from this process.
    """
    expected = worker_environment()
    for address, environment in environments.items():
        for name, value in expected.items():
            if environment.get(name) != value:
                raise ClusterMismatch(
                    f"the Dask worker {address} has {name} {environment.get(name)!r}, but this run has {value!r}. Start the worker in "
                    f"the same repository with the same EVERGREEN_ variables"
                )
