"""Our programs under supervisord: start it, ask it, stop it, and find what it left behind."""

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
from ops.logs import set_aside
from ops.programs import HOME_MARK, PROGRAM_MARK, Program

TEMPLATE = Path(__file__).with_name("supervisord.conf.j2")
LONGEST_SOCKET = 90
"""Linux allows 107 bytes for a Unix socket's path, macOS 103; supervisord adds its process id for a moment."""


def socket_of(home: Path) -> Path:
    """Where supervisord listens: in the home, or under the temporary folder when that path is too long."""
    inside = home / "supervisor.sock"
    if len(bytes(inside)) <= LONGEST_SOCKET:
        return inside
    return Path(tempfile.gettempdir()) / f"evergreen-{hashlib.sha256(bytes(home)).hexdigest()[:16]}.sock"


def render(home: Path, programs: tuple[Program, ...]) -> str:
    """The text of supervisord's configuration."""
    template = jinja2.Template(TEMPLATE.read_text(encoding="utf-8"), undefined=jinja2.StrictUndefined, autoescape=False)
    paths = {"home": home, "logs": home / "logs", "socket": socket_of(home)}
    return template.render(programs=programs, **{key: str(value).replace("%", "%%") for key, value in paths.items()})


def start(home: Path, programs: tuple[Program, ...], environment: Mapping[str, str]) -> None:
    """Write the configuration and start supervisord, which starts every program that has `autostart`.

    Raises:
        StackError: supervisord does not come up; the message holds what it said.
    """
    set_aside(home)
    config = home / "supervisord.conf"
    config.write_text(render(home, programs), encoding="utf-8")
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(config)]
    said = subprocess.run(
        command, env=dict(environment), cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    for _ in range(200):
        if said.returncode or states(home):
            break
        time.sleep(0.1)
    else:
        raise StackError(
            f"supervisord does not answer; look at {home / 'logs' / 'supervisord.log'}, then run `make down`"
        )
    if said.returncode:
        raise StackError(f"supervisord did not start: {(said.stderr or said.stdout).strip()}")


def call(home: Path, method: str, *arguments: Any) -> Any:
    """One call of supervisord's XML-RPC, such as `startProcess`.

    Raises:
        OSError: no supervisord listens.
        xmlrpc.client.Fault: it refuses.
    """
    transport = SupervisorTransport(None, None, f"unix://{socket_of(home)}")
    with contextlib.closing(transport):
        server = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
        return getattr(server.supervisor, method)(*arguments)


def states(home: Path) -> dict[str, dict[str, Any]]:
    """supervisord's word on each program (`statename`, `pid`, `spawnerr` ...); empty when it does not run."""
    try:
        return {info["name"]: info for info in call(home, "getAllProcessInfo")}
    except (OSError, xmlrpc.client.Error):
        return {}


def alive(state: Mapping[str, Any] | None) -> bool:
    """Whether a program runs, however long it has."""
    return state is not None and state["statename"] in ("STARTING", "RUNNING")


def stop(home: Path, patience: float = 90) -> int:
    """Stop supervisord and its programs, then whatever of theirs is left. Returns how many processes there were.

    Everything that was started carries the stack's mark in its environment, which its children
    inherit, so a program whose parent was killed is found, and nobody else's is touched.
    """
    found = marked(home)
    with contextlib.suppress(OSError, xmlrpc.client.Error, psutil.Error):
        supervisord = psutil.Process(call(home, "getPID"))
        call(home, "shutdown")
        psutil.wait_procs([supervisord], timeout=patience)
    end(marked(home))
    socket_of(home).unlink(missing_ok=True)
    return len(found)


def end(processes: list[psutil.Process]) -> None:
    """Ask them to stop, and kill those that do not within ten seconds."""
    for ask in (psutil.Process.terminate, psutil.Process.kill):
        for process in processes:
            with contextlib.suppress(psutil.Error):
                ask(process)
        _, processes = psutil.wait_procs(processes, timeout=10)


def marked(home: Path, program: str = "") -> list[psutil.Process]:
    """Every process of the stack of this home, or of one of its programs; never this one or those above it."""
    wanted = {HOME_MARK: str(home)} | ({PROGRAM_MARK: program} if program else {})
    above = {process.pid for process in [psutil.Process(), *psutil.Process().parents()]}
    return [process for process in psutil.process_iter() if process.pid not in above and _carries(process, wanted)]


def _carries(process: psutil.Process, marks: Mapping[str, str]) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and marks.items() <= process.environ().items()
    except (psutil.Error, OSError):
        return False
