"""Adapter between functions and Prefect tasks.

In simulation mode, which a replay uses, tasks are plain function calls, the log is Python's, and no event is emitted.
"""

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import MissingContextError

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


def as_task(name: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorate a function as a Prefect task. The task run's name may contain its arguments, as in `judge v{version.version}`."""

    def wrap(function: Callable[P, T]) -> Callable[P, T]:
        prefect_task = task(cache_policy=NO_CACHE, task_run_name=name)(function)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            return function(*args, **kwargs) if is_simulation() else prefect_task(*args, **kwargs)

        return call

    return wrap


def run_log() -> "logging.Logger | logging.LoggerAdapter[logging.Logger]":
    """Return the log of the current flow or task run, or Python's log in simulation mode or without a run."""
    if is_simulation():
        return _LOG
    try:
        return get_run_logger()
    except MissingContextError:
        return _LOG
