"""Adapter between functions and Prefect tasks.

In simulation mode, which a replay uses, tasks are plain function calls, the log is Python's, and no event is emitted.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.exceptions import MissingContextError
from prefect.utilities.timeout import CancelledError as LimitReached
from sqlalchemy.exc import OperationalError

from configs.settings import load_settings
from tasks.errors import RegistryUnavailable, SinkUnavailable, SourceUnavailable

TRANSIENT = (SourceUnavailable, SinkUnavailable, RegistryUnavailable, OperationalError, ConnectionError, TimeoutError)
"""Errors that are worth a retry. A failed expectation, a wrong config or a full disk is not."""
RETRY_SECONDS = [5.0 * 2**n for n in range(5)]
"""Seconds before each retry of a task. `EVERGREEN_RETRIES` sets how many there are."""

P = ParamSpec("P")
T = TypeVar("T")
_LOG = logging.getLogger("evergreen.simulation")
_SIMULATION: ContextVar[bool] = ContextVar("is_simulation", default=False)


@contextmanager
def simulation() -> Iterator[None]:
    """Enable simulation mode in this context (thread). Only errors are logged."""
    _LOG.setLevel(logging.ERROR)
    token = _SIMULATION.set(True)
    try:
        yield
    finally:
        _SIMULATION.reset(token)


def is_simulation() -> bool:
    """Return whether simulation mode is on."""
    return _SIMULATION.get()


def interruptible(function: Callable[P, T]) -> Callable[P, T]:
    """Let a run's limit end the function in a query too. DuckDB replaces the exception by which Prefect recognises its own limit."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except asyncio.CancelledError as error:
            raise error if isinstance(error, LimitReached) else LimitReached from error

    return call


def as_task(name: str, retried: bool = False) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorate a function as a Prefect task.

    Args:
        name: Name of the task run. It may contain the function's arguments, as in `judge v{version.version}`.
        retried: Repeat it after a transient error, `EVERGREEN_RETRIES` times. For functions that may run twice.
    """
    retries: dict[str, Any] = {"retries": len(RETRY_SECONDS), "retry_delay_seconds": RETRY_SECONDS}

    def wrap(function: Callable[P, T]) -> Callable[P, T]:
        function = interruptible(function)
        options = {**retries, "retry_condition_fn": _may_retry} if retried else {}
        prefect_task = task(cache_policy=NO_CACHE, task_run_name=name, **options)(function)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            return function(*args, **kwargs) if is_simulation() else prefect_task(*args, **kwargs)

        return call

    return wrap


def with_retries(call: Callable[[], T]) -> T:
    """Call a function, and again after a time if the source does not answer, `EVERGREEN_RETRIES` times."""
    for seconds in () if is_simulation() else RETRY_SECONDS[: load_settings().retries]:
        try:
            return call()
        except SourceUnavailable as error:
            run_log().warning("%s; tried again in %.0f s", error, seconds)
            time.sleep(seconds)
    return call()


def _may_retry(_task: object, run: TaskRun, state: State) -> bool:
    """Whether to repeat a task that failed: after a transient error, while retries are left. `with_retries` asks a source again."""
    error = state.result(raise_on_failure=False)
    transient = isinstance(error, TRANSIENT) and not isinstance(error, SourceUnavailable)
    return transient and run.run_count <= load_settings().retries


def run_log() -> "logging.Logger | logging.LoggerAdapter[logging.Logger]":
    """Return the log of the current flow or task run, or Python's log in simulation mode or without a run."""
    if is_simulation():
        return _LOG
    try:
        return get_run_logger()
    except MissingContextError:
        return _LOG
