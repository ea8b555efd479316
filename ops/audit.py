"""Print which version was champion at a time, why, who approved it and on what evidence, and verify the audit records.

make audit MODEL=flights AT=2013-06-15
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.table import Table

from configs.base import to_utc
from configs.errors import ConfigError
from configs.settings import load_settings
from ops import stack
from ops.programs import home_of
from ops.tables import empty_table
from ops.terminal import message, print_error, terminal
from tasks.contracts import Promotion
from tasks.contracts.escape import for_terminal
from tasks.contracts.words import who
from tasks.errors import EvergreenError
from tasks.reports.refusals import limit_word
from tasks.resources import Resources, open_resources
from tasks.storage.folders import make_home

if TYPE_CHECKING:
    from tasks.lifecycle.audit import Audit


def parse_time(text: str, res: Resources) -> datetime | None:
    """Parse an ISO 8601 date or time. Without a time zone it is in the model's zone. Empty text gives None.

    Raises:
        ConfigError: The text is no date or time.
    """
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"AT={text} is no date or time; write it as 2013-06-15 or 2013-06-15T12:00:00-04:00"
        ) from None
    time = time if time.tzinfo else time.replace(tzinfo=ZoneInfo(res.config.partition.timezone))
    try:
        to_utc(time)
    except ValueError as error:
        raise ConfigError(f"AT={text}: {error}") from None
    return time


def print_audit(result: "Audit", console: Console) -> None:
    """Print what was checked, the problems, and the champion's rows of the ledger with the verdicts of the gate."""
    console.print(f"Checked: {for_terminal(result.checked)}.")
    if result.problems:
        console.print("\n[bold]Problems[/]")
    for problem in result.problems:
        console.print(f"  [red]{for_terminal(problem)}[/]")
    if result.path:
        console.print(f"\n[bold]How version {result.path[-1].version} became champion[/]")
        console.print(path_table(result.path))
    if verdicts := [row.evidence["verdicts"] for row in result.path if row.evidence.get("verdicts")]:
        console.print("[bold]Verdicts of the gate[/]")
        console.print(verdict_table(verdicts[-1]))


def path_table(rows: Sequence[Promotion]) -> Table:
    """Return a table of rows of the ledger, oldest first."""
    table = empty_table(
        "", ("row", True), ("action", False), ("as of", True), ("written, UTC", True), ("by", False), ("reason", False)
    )
    for row in rows:
        author = who(row.by) if row.assurance == "automation" else f"{row.by} ({row.assurance} name)"
        written = f"{row.recorded_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if row.recorded_at else ""
        texts = f"{row.as_of:%Y-%m-%d}", written, for_terminal(author), for_terminal(row.reason)
        table.add_row(str(row.sequence), row.action, *texts)
    return table


def verdict_table(verdicts: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of the gate's rules, as in the ledger's evidence."""
    table = empty_table("", ("rule", False), ("verdict", False), ("value", True), ("threshold", True), ("note", False))
    for v in verdicts:
        value, limit = ("" if v[name] is None else f"{v[name]:.4g}" for name in ("value", "threshold"))
        threshold = f"{limit_word(v['rule'])} {limit}" if limit else ""
        table.add_row(for_terminal(v["rule"]), v["outcome"], value, threshold, for_terminal(v["note"]))
    return table


def main() -> int:
    """Audit the model of the command line. Exit status 1 if there are problems, 2 if the audit cannot run."""
    parser = argparse.ArgumentParser(
        prog="make audit", usage="make audit MODEL=flights [AT=2013-06-15]", description=__doc__
    )
    parser.add_argument("model")
    parser.add_argument("--at", default="")
    arguments = parser.parse_args()
    console = terminal(wide=True)
    try:
        settings = load_settings()
        os.environ.update(stack.environment(settings))
        res = open_resources(arguments.model)
        at = parse_time(arguments.at, res)
        make_home(home_of(settings))  # Prefect creates a folder in it when it is imported
        from tasks.lifecycle.audit import audit
        from tasks.orchestration.events import known_hashes
        from tasks.reports.artifacts import audit_headline

        events = known_hashes(arguments.model) if stack.running(settings).get("prefect") else None
        result = audit(res, at, events)
        console.print(message(audit_headline(result)), style="bold")
        print_audit(result, console)
    except (ConfigError, EvergreenError) as error:
        print_error(error)
        return 2
    return 1 if result.problems else 0


if __name__ == "__main__":
    sys.exit(main())
