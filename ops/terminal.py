"""Terminal output of all commands: colours and progress bars on a terminal, plain lines in a pipe."""

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from configs.errors import ConfigError
from tasks.contracts.escape import for_terminal, one_line
from tasks.contracts.words import duration_text

WIDE = 500
"""Most columns of a table in a pipe, where no line is broken."""


def terminal(wide: bool = False) -> Console:
    """Return a console for standard output. In a file or a pipe, long lines are not wrapped.

    Args:
        wide: In a file or a pipe, tables may be wider than 80 columns too, so that each row is one line.
    """
    piped = not sys.stdout.isatty()
    return Console(soft_wrap=piped, highlight=False, emoji=False, width=WIDE if piped and wide else None)


def print_error(error: Exception) -> int:
    """Print an error to standard error and return the exit code: 2 for a wrong configuration, otherwise 1."""
    Console(stderr=True, soft_wrap=True, highlight=False, emoji=False).print(f"error: {message(error)}", style="red")
    return 2 if isinstance(error, ConfigError) else 1


def message(text: object) -> str:
    """Return a text of several lines, such as that of an error, for a console: each line is printed as it is."""
    return "\n".join(map(for_terminal, str(text).splitlines()))


class TimeLeft(ProgressColumn):
    """The rest of the expected time. It counts down between two steps; rich's own column does not if a step takes minutes."""

    def render(self, task: Task) -> Text:
        """Return the time left by the task's expected seconds; empty once they have passed."""
        left = (task.fields["expected"] or 0.0) - (task.elapsed or 0.0)
        return Text(f"{duration_text(left)} left" if left > 0 else "", style="progress.remaining")


class Bar:
    """A progress bar at the bottom of the terminal, removed at the end.

    Other output is printed above it, and nested bars below it. In a pipe nothing is shown.

    Args:
        console: Where to show the bar.
        description: The current activity.
        total: Number of steps. Without it the bar only pulses.
        expected: Expected duration in seconds. Without it, the duration is extrapolated from the progress so far.
    """

    def __init__(
        self, console: Console, description: str, total: float | None = None, expected: float | None = None
    ) -> None:
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
        self._has_expected = expected is not None
        self._task = self._progress.add_task(description, total=total, expected=expected)

    def __enter__(self) -> Self:
        try:
            self._progress.start()
        except BaseException:  # Control-C while the cursor is being hidden
            self._progress.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def describe(self, description: str) -> None:
        """Show the current activity."""
        self._progress.update(self._task, description=one_line(description), refresh=True)

    def advance(self) -> None:
        """Count one more step as done."""
        self._progress.update(self._task, advance=1, refresh=True)

    def set_progress(self, done: float, total: float) -> None:
        """Set how many of all steps are done."""
        task = self._progress.tasks[0]
        if not self._has_expected and done > task.completed:
            self._progress.update(self._task, expected=(task.elapsed or 0.0) * total / done)
        self._progress.update(self._task, completed=done, total=total, refresh=True)
