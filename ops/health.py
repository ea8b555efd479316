"""Check whether the servers respond, and wait until they do."""

import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from configs.settings import Settings
from ops import supervision
from ops.api import post
from ops.errors import ProgramDied, StackError
from ops.terminal import Bar

TAIL = 15
"""Lines of a log that an error message contains."""


def responds(url: str) -> bool:
    """Return whether a URL responds with status 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (OSError, ValueError):
        return False


def worker_online(settings: Settings) -> bool:
    """Return whether Prefect lists a worker of the pool as online."""
    try:
        workers = post(settings, f"work_pools/{settings.pool}/workers/filter", {}, seconds=5)
    except (OSError, ValueError):
        return False
    return any(worker["status"] == "ONLINE" for worker in workers)


def wait_for(checks: Mapping[str, Callable[[], bool]], home: Path, deadline: float, console: Console, bar: Bar) -> None:
    """Wait until every check has returned True once, and print a line for each.

    Args:
        checks: By the name that is printed.
        home: Folder of the stack.
        deadline: In seconds of `time.monotonic`.
        console: Where to print.
        bar: Advanced once per check.

    Raises:
        ProgramDied: A program of the stack ended during the wait.
        StackError: The deadline passed.
    """
    todo, pids = dict(checks), dict[str, int]()
    while todo:
        bar.describe(f"waiting for {', '.join(todo)}")
        check_programs(home, pids)
        for name in [name for name, check in todo.items() if check()]:
            del todo[name]
            bar.advance()
            console.print(f"  {name:<12} ready")
        if todo and time.monotonic() > deadline:
            late = ", ".join(todo)
            raise StackError(
                f"no response in time from {late}; see {home / 'logs'}, or wait longer: EVERGREEN_START_TIMEOUT=1800 make up"
            )
        time.sleep(0.5)


def check_programs(home: Path, pids: dict[str, int]) -> None:
    """Raise ProgramDied if a program has ended or restarted since its process id was added to `pids`. New ids are added."""
    for name, state in supervision.states(home).items():
        ended = state["statename"] in ("BACKOFF", "EXITED", "FATAL")
        if ended or (state["pid"] and pids.setdefault(name, state["pid"]) != state["pid"]):
            raise ProgramDied(_ended_message(home, name, state))


def tail(log: Path, lines: int = TAIL) -> str:
    """Return the last lines of a log, empty if the log does not exist."""
    text = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    return "\n".join(f"  | {line}" for line in text[-lines:])


def _ended_message(home: Path, name: str, state: Mapping[str, Any]) -> str:
    log = home / "logs" / f"{name}.log"
    return f"{name} ended while it was starting ({state['spawnerr'] or state['description']}); the end of {log}:\n{tail(log)}"
