"""Run what flows run without Prefect seeing it: in a rehearsal, tasks are plain calls, the log is Python's, and no event leaves.

A replay is a rehearsal: it plays history with the code of the live flows.
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
_LOG = logging.getLogger("evergreen.rehearsal")
_SIMULATION: ContextVar[bool] = ContextVar("is_simulation", default=False)


@contextmanager
def simulation() -> Iterator[None]:
    """Within it, this thread only rehearses. What a live run would say of each decision is kept in the play, not said."""
    _LOG.setLevel(logging.ERROR)
    token = _SIMULATION.set(True)
    try:
        yield
    finally:
        _SIMULATION.reset(token)


def is_simulation() -> bool:
    return _SIMULATION.get()


def as_task(name: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Make a function a task of the flow run that calls it, under a name that may use its arguments."""

    def wrap(function: Callable[P, T]) -> Callable[P, T]:
        made = task(cache_policy=NO_CACHE, task_run_name=name)(function)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            return function(*args, **kwargs) if is_simulation() else made(*args, **kwargs)

        return call

    return wrap


def run_log() -> "logging.Logger | logging.LoggerAdapter[logging.Logger]":
    """The log of the run that is under way; Python's in a rehearsal, or where there is no run."""
    if is_simulation():
        return _LOG
    try:
        return get_run_logger()
    except MissingContextError:
        return _LOG
