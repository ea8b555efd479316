"""Measure ways of doing the same side by side: in this process, or each in a process tree of its own.

CPU and memory are of whole trees: what a child has spent counts for whoever waited for it.
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

from configs.settings import ROOT, silence_vendors

ROUNDS = 5
LOOKS = 0.1
"""Seconds between two looks at the memory of a tree."""


@dataclass(frozen=True)
class Spent:
    """What one way of doing it took: seconds of wall and CPU, and the peak of its tree's resident memory in MB."""

    wall: float
    cpu: float
    mb: float = float("nan")


@dataclass(frozen=True)
class Row:
    """One comparison: `ratio` is the middle of ours over the middle of theirs, `spread` the least and most over the rounds."""

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
        """Whether the aim is reached; None where there is none."""
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
    """The ratio of what some rounds took; round by round for the spread. `note` is what a reader must know of it."""
    mine, other = ([getattr(spent, what) for spent in rounds] for rounds in (ours, theirs))
    each = [a / b for a, b in zip(mine, other, strict=True)]
    middle = statistics.median(mine), statistics.median(other)
    unit = {"cpu": "CPU s", "wall": "wall s", "mb": "MB"}[what]
    return Row(subject, against, unit, *middle, middle[0] / middle[1], (min(each), max(each)), aim, note)


def in_turns(*ways: Callable[[], Spent], rounds: int = ROUNDS, warm: bool = True) -> list[list[Spent]]:
    """What each way took in each round, in turns, so that a noisy machine is noisy to all; with `warm`, once before that counts."""
    if warm:
        for way in ways:
            way()
    taken = [[way() for way in ways] for _ in range(rounds)]
    return [list(column) for column in zip(*taken, strict=True)]


def here(call: Callable[[], object]) -> Callable[[], Spent]:
    """Do it in this process; its peak of memory is not told."""

    def measured() -> Spent:
        began = time.perf_counter(), time.process_time()
        call()
        return Spent(time.perf_counter() - began[0], time.process_time() - began[1])

    return measured


def apart(code: str, environment: Mapping[str, str] | None = None) -> Callable[[], Spent]:
    """Do it in a new Python that stands in the repository's root, its start included."""
    return tree([sys.executable, "-c", code], environment)


def tree(
    command: Sequence[str], environment: Mapping[str, str] | None = None, folder: Path = ROOT
) -> Callable[[], Spent]:
    """Run a program with its children in a folder.

    Raises:
        RuntimeError: it fails; with the end of what it said.
    """

    def measured() -> Spent:
        silence_vendors()
        began = time.perf_counter()
        process = subprocess.Popen(
            list(command),
            cwd=folder,
            env=os.environ | dict(environment or {}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert process.stderr
        peak = Peak(process.pid)
        said: list[bytes] = []
        reader = threading.Thread(target=lambda: said.append(process.stderr.read()))
        reader.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        reader.join()
        process.stderr.close()
        mb = peak.stop()
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)[:200]}: {said[0].decode()[-3000:]}")
        return Spent(wall, usage.ru_utime + usage.ru_stime, mb)

    return measured


class Peak:
    """Looks again and again at how much memory a process and its children hold together."""

    def __init__(self, pid: int) -> None:
        self.pid, self.most, self._over = pid, 0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(LOOKS):
            try:
                process = psutil.Process(self.pid)
                held = sum(p.memory_info().rss for p in (process, *process.children(recursive=True)))
            except psutil.Error:
                continue
            self.most = max(self.most, held)

    def stop(self) -> float:
        """The most, in MB."""
        self._over.set()
        self._thread.join()
        return self.most / 1e6


def machine() -> str:
    """Such as `Linux x86_64, 2 cores (Intel Xeon ...), 24 GB, Python 3.11.7`."""
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
