"""Start and stop the servers and the worker on this machine: `python -m ops.stack up|down|restart-worker`.

State and logs are in `EVERGREEN_HOME` (`.evergreen`). Ports and folders are settings, so several stacks can run at once.
"""

import argparse
import contextlib
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from rich.console import Console

from configs.errors import ConfigError
from configs.settings import ROOT, Settings, load_settings
from ops import supervision
from ops.databases import create_databases
from ops.deploy import fingerprint
from ops.errors import DeployFailed, StackError
from ops.health import responds, wait_for, worker_online
from ops.ports import check_ports
from ops.prefect_ui import remove_analytics_key, ui_folder
from ops.programs import Program, child_environment, environment, home_of, programs
from ops.terminal import Bar, print_error, terminal
from tasks.storage.folders import make_folder, make_home

__all__ = ["down", "environment", "restart_worker", "running", "up"]

FIRST_START = 60.0
"""Expected seconds of a first start, on two busy cores. Later starts are expected to take as long as the last one."""


def up(settings: Settings, console: Console | None = None) -> None:
    """Start the programs that do not run, wait until all servers respond, and deploy if something has changed.

    Raises:
        PortTaken: Another program listens on one of the ports. Nothing was started.
        StackError: A server ended or did not respond in time, or deploying failed. A stack that
            this call started is stopped again. Its logs stay.
    """
    console = console or terminal()
    home, began = home_of(settings), time.monotonic()
    fresh = not supervision.states(home)
    missing = _end_orphans(settings, home)
    check_ports(missing)
    try:
        _start(settings, home, missing, fresh)
        _wait(settings, home, console)
    except BaseException:
        if fresh:
            supervision.stop(home)
        raise
    seconds = time.monotonic() - began
    if fresh:
        (home / "took").write_text(f"{seconds:.1f}", encoding="utf-8")
    console.print(f"All servers respond, after {seconds:.0f} s:\n{addresses(settings)}")


def down(settings: Settings, console: Console | None = None) -> None:
    """Stop everything that `up` started, child processes of killed servers included. Does nothing if nothing runs."""
    console = console or terminal()
    with console.status("stopping the worker, then the servers"):
        count = supervision.stop(home_of(settings))
    console.print(f"Stopped {count} processes." if count else "Nothing was running.")


def running(settings: Settings) -> dict[str, bool]:
    """Return for each program whether it runs and, if it is a server, responds."""
    states = supervision.states(home_of(settings))
    return {
        p.name: supervision.alive(states.get(p.name)) and (not p.health or responds(p.health))
        for p in programs(settings)
    }


def restart_worker(settings: Settings, console: Console | None = None) -> None:
    """Stop the worker and its flow runs, which end as crashed, and start the worker again.

    Raises:
        StackError: The stack does not run.
    """
    home = home_of(settings)
    if not supervision.states(home):
        raise StackError("nothing is running; run `make up`")
    with contextlib.suppress(xmlrpc.client.Fault):  # the worker was not running
        supervision.call(home, "stopProcess", "worker")
    supervision.call(home, "startProcess", "worker", False)
    (console or terminal()).print("The worker was restarted.")


def addresses(settings: Settings) -> str:
    """Return the servers' addresses and the commands to run next."""
    lines = [f"  {program.name:<12} {program.url}" for program in programs(settings) if program.url]
    return "\n".join(
        [
            *lines,
            "Next: `make demo` runs a year of flights, `make status` shows the models, `make down` stops everything.",
        ]
    )


def _end_orphans(settings: Settings, home: Path) -> list[Program]:
    """Return the programs that do not run, after ending child processes that they left."""
    states = supervision.states(home)
    missing = [program for program in programs(settings) if not supervision.alive(states.get(program.name))]
    for program in missing:
        supervision.terminate(supervision.find_processes(home, program.name))
    return missing


def _start(settings: Settings, home: Path, missing: list[Program], fresh: bool) -> None:
    folders = (
        make_home(home) / "mlflow" / "artifacts",
        settings.evidently_workspace,
        settings.pages,
        ui_folder(settings),
    )
    for folder in folders:
        make_folder(folder)
    create_databases(settings)
    if fresh:
        supervision.start(home, programs(settings), child_environment(settings))
    else:
        _start_programs(home, [program for program in missing if program.autostart])


def _start_programs(home: Path, missing: list[Program]) -> None:
    for program in missing:
        with contextlib.suppress(xmlrpc.client.Fault):  # supervisord is already starting it
            supervision.call(home, "startProcess", program.name, False)


def _wait(settings: Settings, home: Path, console: Console) -> None:
    """Wait for all programs. Worker and deployments start as soon as Prefect responds, while other servers still start."""
    deadline = time.monotonic() + settings.start_timeout
    checks: dict[str, Callable[[], bool]] = {
        p.name: partial(responds, p.health) for p in programs(settings) if p.health
    }
    first = {"prefect": checks.pop("prefect")}
    with Bar(console, "waiting for prefect", len(first) + len(checks) + 2, _expected_seconds(home)) as bar:
        wait_for(first, home, deadline, console, bar)
        remove_analytics_key(settings)
        if not supervision.alive(supervision.states(home).get("worker")):
            _start_programs(home, [program for program in programs(settings) if program.name == "worker"])
        with deploying(settings, home) as deployed:
            checks |= {"worker": partial(worker_online, settings), "deployments": deployed}
            wait_for(checks, home, deadline, console, bar)


def _expected_seconds(home: Path) -> float:
    """Return the seconds that the last start took, or the default for a first start."""
    try:
        return float((home / "took").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return FIRST_START


@contextlib.contextmanager
def deploying(settings: Settings, home: Path) -> Iterator[Callable[[], bool]]:
    """Deploy in a separate process, unless nothing has changed since the last time. Yields a check whether it is done."""
    stamp, log, current = home / "deployed", home / "logs" / "deploy.log", fingerprint()
    if stamp.is_file() and stamp.read_text() == current:
        yield lambda: True
        return
    with log.open("w") as out:
        command = [sys.executable, "-m", "ops.deploy"]
        process = subprocess.Popen(
            command, cwd=ROOT, env=child_environment(settings), stdout=out, stderr=subprocess.STDOUT
        )
    try:
        yield partial(_has_deployed, process, log)
        stamp.write_text(current)
    finally:
        process.kill()
        process.wait()


def _has_deployed(process: subprocess.Popen[bytes], log: Path) -> bool:
    if process.poll():
        raise DeployFailed(
            f"deploying failed; {log} contains:\n{log.read_text(encoding='utf-8').removeprefix('error: ')}"
        )
    return process.returncode == 0


def main() -> int:
    actions = {"up": up, "down": down, "restart-worker": restart_worker}
    parser = argparse.ArgumentParser(
        prog="python -m ops.stack", description="The servers and the worker on this machine."
    )
    parser.add_argument("action", choices=actions)
    try:
        actions[parser.parse_args().action](load_settings())
    except (ConfigError, StackError) as error:
        return print_error(error)
    except KeyboardInterrupt:
        print("Stopped. `make status` shows which programs run.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
