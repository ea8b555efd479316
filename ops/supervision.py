"""Start, query and stop supervisord with the stack's programs, and find processes that are left."""

import contextlib
import hashlib
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import psutil
from supervisor.xmlrpc import SupervisorTransport

from ops.errors import StackError
from ops.logs import archive_logs
from ops.programs import HOME_MARK, PROGRAM_MARK, Program

TEMPLATE = Path(__file__).with_name("supervisord.conf.j2")
LONGEST_SOCKET = 90
"""Bytes. Linux allows 107 for the path of a Unix socket, macOS 103, and supervisord appends its process id while it starts."""


def socket_of(home: Path) -> Path:
    """Return the path of supervisord's socket: in the home, or in the temporary folder if that path is too long."""
    inside = home / "supervisor.sock"
    if len(bytes(inside)) <= LONGEST_SOCKET:
        return inside
    return Path(tempfile.gettempdir()) / f"evergreen-{hashlib.sha256(bytes(home)).hexdigest()[:16]}.sock"


def render(home: Path, programs: tuple[Program, ...]) -> str:
    """Return supervisord's configuration."""
    template = jinja2.Template(TEMPLATE.read_text(encoding="utf-8"), undefined=jinja2.StrictUndefined, autoescape=False)
    paths = {"home": home, "logs": home / "logs", "socket": socket_of(home)}
    return template.render(programs=programs, **{key: str(value).replace("%", "%%") for key, value in paths.items()})


def start(home: Path, programs: tuple[Program, ...], environment: Mapping[str, str]) -> None:
    """Write the configuration and start supervisord, which starts every program that has `autostart`.

    Raises:
        StackError: supervisord did not start. The message has its output.
    """
    archive_logs(home)
    config = home / "supervisord.conf"
    config.write_text(render(home, programs), encoding="utf-8")
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(config)]
    done = subprocess.run(
        command, env=dict(environment), cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    for _ in range(200):
        if done.returncode or states(home):
            break
        time.sleep(0.1)
    else:
        raise StackError(
            f"supervisord does not respond; read {home / 'logs' / 'supervisord.log'}, then run `make down`"
        )
    if done.returncode:
        raise StackError(f"supervisord did not start: {(done.stderr or done.stdout).strip()}")


def call(home: Path, method: str, *arguments: Any) -> Any:
    """Call a method of supervisord's XML-RPC interface, such as `startProcess`.

    Raises:
        OSError: supervisord does not run.
        xmlrpc.client.Fault: supervisord refused the call.
    """
    transport = SupervisorTransport(None, None, f"unix://{socket_of(home)}")
    with contextlib.closing(transport):
        server = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
        return getattr(server.supervisor, method)(*arguments)


def states(home: Path) -> dict[str, dict[str, Any]]:
    """Return supervisord's state of each program (`statename`, `pid`, `spawnerr` ...), empty if supervisord does not run."""
    try:
        return {info["name"]: info for info in call(home, "getAllProcessInfo")}
    except (OSError, xmlrpc.client.Error):
        return {}


def alive(state: Mapping[str, Any] | None) -> bool:
    """Return whether a program is starting or running."""
    return state is not None and state["statename"] in ("STARTING", "RUNNING")


def stop(home: Path, timeout: float = 90) -> int:
    """Stop supervisord and its programs, then their remaining child processes. Return the number of processes.

    Every process of the stack has a variable in its environment that names the home. Child processes inherit it, so they
    are found even if their parent was killed, and no other process is stopped.
    """
    processes = find_processes(home)
    with contextlib.suppress(OSError, xmlrpc.client.Error, psutil.Error):
        supervisord = psutil.Process(call(home, "getPID"))
        call(home, "shutdown")
        psutil.wait_procs([supervisord], timeout=timeout)
    terminate(find_processes(home))
    socket_of(home).unlink(missing_ok=True)
    return len(processes)


def terminate(processes: list[psutil.Process]) -> None:
    """Terminate processes, and kill those that still run after ten seconds."""
    for signal in (psutil.Process.terminate, psutil.Process.kill):
        for process in processes:
            with contextlib.suppress(psutil.Error):
                signal(process)
        _, processes = psutil.wait_procs(processes, timeout=10)


def find_processes(home: Path, program: str = "") -> list[psutil.Process]:
    """Return the processes of a home's stack, or of one of its programs, without this process and its ancestors."""
    variables = {HOME_MARK: str(home)} | ({PROGRAM_MARK: program} if program else {})
    ancestors = {process.pid for process in [psutil.Process(), *psutil.Process().parents()]}
    return [
        process
        for process in psutil.process_iter()
        if process.pid not in ancestors and _has_variables(process, variables)
    ]


def _has_variables(process: psutil.Process, variables: Mapping[str, str]) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and variables.items() <= process.environ().items()
    except (psutil.Error, OSError):
        return False
