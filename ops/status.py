"""Print what needs a person, then a line per model: `make status`. One model in full: `make status MODEL=flights`."""

import argparse
import os
import sys
from datetime import UTC, datetime, timedelta

from rich.console import Console

from configs.errors import ConfigError
from configs.load import model_names
from configs.settings import load_settings
from ops import stack
from ops.status_model import count_text, print_model
from ops.status_servers import Deployments, print_alerts, print_servers, read_schedules, server_alerts
from ops.tables import models_table
from ops.terminal import message, print_error, terminal
from tasks.contracts import Stage
from tasks.contracts.escape import for_terminal
from tasks.contracts.words import decision_text, duration_text, number, percent
from tasks.errors import EvergreenError
from tasks.orchestration.schedules import Schedule
from tasks.reports.health import Alert, Severity, alerts, schedule_alerts, state
from tasks.reports.newest import last_decision, newest_assessed
from tasks.resources import LiveResources, open_resources
from tasks.source.extent import available_partitions


class Overview:
    """The models' alerts, table rows and errors, collected one model after the other.

    Attributes:
        alerts: Each with the model's name.
        rows: For `models_table`.
        untouched: A line for each model without any partition and champion.
        code: The exit code.
    """

    def __init__(self) -> None:
        self.alerts: list[tuple[str, Alert]] = []
        self.rows: list[tuple[str, ...]] = []
        self.untouched: list[str] = []
        self.code = 0

    def add(self, name: str, deployments: Deployments) -> None:
        """Collect one model, or its error, so that the other models are still shown."""
        try:
            self._add(open_resources(name), deployments.schedules_of(name))
        except (ConfigError, EvergreenError) as error:
            self.alerts.append((name, Alert(Severity.ERROR, "; ".join(str(error).splitlines()))))
            self.code = max(self.code, 2 if isinstance(error, ConfigError) else 1)

    def _add(self, res: LiveResources, schedules: list[Schedule]) -> None:
        name = res.config.name
        if is_untouched(res) and (available := available_partitions(res.model)):
            self.untouched.append(f"{name}: not started, {count_text(available)}")
            return
        current = alerts(res)
        self.alerts += [(name, alert) for alert in current]
        worst = str(Severity.ERROR) if schedule_alerts(schedules) else state(current)
        self.rows.append((name, worst, *model_cells(res), next_run_text(schedules, datetime.now(UTC))))

    def print(self, console: Console) -> None:
        """Print a line per model."""
        console.print("[bold]Models[/]")
        if self.rows:
            console.print(models_table(self.rows))
        for line in self.untouched:
            console.print(f"  {for_terminal(line)}")
        console.print("  `make status MODEL=<model>` shows the partitions, steps and events of one.")


def is_untouched(res: LiveResources) -> bool:
    """Return whether nothing was done for a model yet: it has no version and no partition, not even a failed one."""
    stages = (Stage.RAW, Stage.VALID)
    return not (
        res.ledger.promotions() or any(res.lake.keys(stage) or list(res.lake.failed(stage)) for stage in stages)
    )


def model_cells(res: LiveResources) -> tuple[str, ...]:
    """Return champion, newest partition, newest assessed one with its loss and skill, and the last decision."""
    ledger, ingested, measured = res.ledger, res.lake.keys(Stage.RAW), newest_assessed(res)
    champion, decision = ledger.champion(), last_decision(res)
    return (
        f"v{champion.version}" if champion else "none",
        ingested[-1] if ingested else "",
        measured.partition if measured else "",
        number(measured.data["metrics"].get(res.config.target.eval_loss)) if measured else "",
        percent(measured.data.get("skill")) if measured else "",
        decision_text(decision, ledger.promotions()) if decision else "",
    )


def next_run_text(schedules: list[Schedule], now: datetime) -> str:
    """Return when the next planned run starts: `in 3.2 h`. Empty without one."""
    planned = [s.next_run for s in schedules if s.next_run]
    if not planned:
        return ""
    left = max(timedelta(), min(planned) - now)
    return f"in {left.days} days" if left.days > 1 else f"in {duration_text(left.total_seconds())}"


def print_or_error(name: str, deployments: Deployments, servers: list[tuple[str, Alert]], console: Console) -> int:
    """Print one model in full, or its error. Return the exit code."""
    console.print(f"[bold]Model {for_terminal(name)}[/]")
    try:
        res = open_resources(name)
        print_alerts([*servers, *((name, alert) for alert in alerts(res))], console)
        print_model(res, console)
    except (ConfigError, EvergreenError) as error:
        console.print(f"  error: {message(error)}", style="red")
        return 2 if isinstance(error, ConfigError) else 1
    deployments.print(name, console)
    return 0


def main() -> int:
    """Print all models, or one. The exit status is 1 if a server is down, 2 if a model or a setting is wrong."""
    parser = argparse.ArgumentParser(prog="make status", usage="make status [MODEL=flights]", description=__doc__)
    parser.add_argument("model", nargs="?", default="")
    name, console = parser.parse_args().model, terminal(wide=True)
    try:
        settings = load_settings()
        os.environ.update(stack.environment(settings))
        states = stack.running(settings)
        deployments = read_schedules(settings) if states["prefect"] else Deployments()
        servers = [("", alert) for alert in (*server_alerts(states, settings), *deployments.alerts)]
        if name:
            code = print_or_error(name, deployments, servers, console)
        else:
            overview = Overview()
            for model in model_names():
                overview.add(model, deployments)
            print_alerts([*servers, *overview.alerts], console)
            overview.print(console)
            deployments.print("", console)
            print_servers(states, settings, console)
            code = overview.code
    except ConfigError as error:
        return print_error(error)
    return max(0 if all(states.values()) else 1, code)


if __name__ == "__main__":
    sys.exit(main())
