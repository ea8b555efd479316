"""The terminal, for every command alike: plain lines where output is piped, else colours, and a bar with the time left while one waits."""

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from configs.errors import ConfigError
from tasks.contracts.words import duration_text


def terminal() -> Console:
    """Standard output. A line stays one line where it goes into a file or another program."""
    return Console(soft_wrap=not sys.stdout.isatty(), highlight=False, emoji=False)


def complain(error: Exception) -> int:
    """Say on standard error what is wrong and what to do, in whole lines; returns the exit code: 2 for a wrong config, else 1."""
    Console(stderr=True, soft_wrap=True, highlight=False, emoji=False).print(
        f"error: {error}", style="red", markup=False
    )
    return 2 if isinstance(error, ConfigError) else 1


class TimeLeft(ProgressColumn):
    """What is left of the expected time. It counts down between two steps, which rich's own does not when a step takes minutes."""

    def render(self, task: Task) -> Text:
        left = (task.fields["expected"] or 0.0) - (task.elapsed or 0.0)
        return Text(f"{duration_text(left)} left" if left > 0 else "", style="progress.remaining")


class Bar:
    """How far something is, at the foot of a terminal and gone when it is over; lines are printed above it, other bars stand below.

    Where output is piped it is not there at all. Without `total` it only moves. How long it will take is what was
    `expected`, or else it goes on as it did.
    """

    def __init__(self, console: Console, doing: str, total: float | None = None, expected: float | None = None) -> None:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
            BarColumn(bar_width=12),
            TimeElapsedColumn(),
            TimeLeft(table_column=Column(min_width=len("60 min left"), no_wrap=True, justify="right")),
        )
        self._progress = Progress(
            *columns, console=console, transient=True, expand=True, disable=not console.is_terminal
        )
        self._known = expected is not None
        self._task = self._progress.add_task(doing, total=total, expected=expected)

    def __enter__(self) -> Self:
        try:
            self._progress.start()
        except BaseException:  # Control-C may come while the cursor is being hidden
            self._progress.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, doing: str) -> None:
        """What is being done now."""
        self._progress.update(self._task, description=doing, refresh=True)

    def advance(self) -> None:
        """Take in that one more is done."""
        self._progress.update(self._task, advance=1, refresh=True)

    def reach(self, done: float, total: float) -> None:
        """Take in how much is done of all."""
        task = self._progress.tasks[0]
        if not self._known and done > task.completed:
            self._progress.update(self._task, expected=(task.elapsed or 0.0) * total / done)
        self._progress.update(self._task, completed=done, total=total, refresh=True)
