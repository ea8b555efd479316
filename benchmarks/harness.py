"""Measure several ways of doing the same: in this process, or each in its own process tree.

CPU and memory are of whole trees: the time of a child counts for the process that waited for it.
"""

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from configs.settings import ROOT, disable_telemetry

ROUNDS = 5
INTERVAL = 0.1
"""Seconds between two measurements of a tree's memory."""


@dataclass(frozen=True)
class Spent:
    """The cost of one way: wall and CPU seconds, and the peak resident memory of its tree in MB."""

    wall: float
    cpu: float
    mb: float = float("nan")


@dataclass(frozen=True)
class Row:
    """One comparison: `ratio` is the median of ours over the median of theirs, `spread` the least and greatest ratio of a round."""

    subject: str
    against: str
    unit: str
    ours: float
    theirs: float
    ratio: float
    spread: tuple[float, float]
    aim: float | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the aim is reached; None if there is none."""
        return None if self.aim is None else self.ratio <= self.aim


def row(
    subject: str,
    against: str,
    ours: Sequence[Spent],
    theirs: Sequence[Spent],
    aim: float | None = None,
    what: str = "cpu",
    note: str = "",
) -> Row:
    """Return the comparison of two ways over some rounds. `what` is `cpu`, `wall` or `mb`, `note` a remark for the reader."""
    mine, other = ([getattr(spent, what) for spent in rounds] for rounds in (ours, theirs))
    each = [a / b for a, b in zip(mine, other, strict=True)]
    middle = statistics.median(mine), statistics.median(other)
    unit = {"cpu": "CPU s", "wall": "wall s", "mb": "MB"}[what]
    return Row(subject, against, unit, *middle, middle[0] / middle[1], (min(each), max(each)), aim, note)


def in_turns(*ways: Callable[[], Spent], rounds: int = ROUNDS, warm: bool = True) -> list[list[Spent]]:
    """Measure the ways alternately, so that noise of the machine affects all. With `warm`, each runs once before, unmeasured."""
    if warm:
        for way in ways:
            way()
    costs = [[way() for way in ways] for _ in range(rounds)]
    return [list(column) for column in zip(*costs, strict=True)]


def in_this_process(call: Callable[[], object]) -> Callable[[], Spent]:
    """Measure a call in this process, without its peak of memory."""

    def measured() -> Spent:
        began = time.perf_counter(), time.process_time()
        call()
        return Spent(time.perf_counter() - began[0], time.process_time() - began[1])

    return measured


def in_new_process(code: str, environment: Mapping[str, str] | None = None) -> Callable[[], Spent]:
    """Measure code in a new Python process in the repository's root, its start included."""
    return run_program([sys.executable, "-c", code], environment)


def run_program(
    command: Sequence[str], environment: Mapping[str, str] | None = None, folder: Path = ROOT
) -> Callable[[], Spent]:
    """Measure a program with its children, run in a folder.

    Raises:
        RuntimeError: the program fails; the message has the end of its output.
    """

    def measured() -> Spent:
        disable_telemetry()
        began = time.perf_counter()
        process = subprocess.Popen(
            list(command),
            cwd=folder,
            env=os.environ | dict(environment or {}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        stderr = process.stderr
        assert stderr
        peak = Peak(process.pid)
        output: list[bytes] = []
        reader = threading.Thread(target=lambda: output.append(stderr.read()))
        reader.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        reader.join()
        stderr.close()
        mb = peak.stop()
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)[:200]}: {output[0].decode()[-3000:]}")
        return Spent(wall, usage.ru_utime + usage.ru_stime, mb)

    return measured


class Peak:
    """Measures at intervals the memory of a process and its children together."""

    def __init__(self, pid: int) -> None:
        self.pid, self.most, self._stopped = pid, 0, threading.Event()
        self._thread = threading.Thread(target=self._measure, daemon=True)
        self._thread.start()

    def _measure(self) -> None:
        while not self._stopped.wait(INTERVAL):
            try:
                process = psutil.Process(self.pid)
                size = sum(p.memory_info().rss for p in (process, *process.children(recursive=True)))
            except psutil.Error:
                continue
            self.most = max(self.most, size)

    def stop(self) -> float:
        """Stop, and return the greatest value in MB."""
        self._stopped.set()
        self._thread.join()
        return self.most / 1e6


def machine() -> str:
    """Return a description such as `Linux x86_64, 2 cores (Intel Xeon ...), 24 GB, Python 3.11.7`."""
    import platform

    name = next(
        (line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine()
    )
    gigabytes = round(psutil.virtual_memory().total / 2**30)
    return f"{platform.system()}, {os.cpu_count()} cores ({name}), {gigabytes} GB, Python {platform.python_version()}"


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
