"""Whether our servers' ports are free, and who has one that is not."""

import contextlib
import socket
from collections.abc import Iterable

import psutil

from ops.errors import PortTaken
from ops.programs import Program


def check_ports(programs: Iterable[Program]) -> None:
    """Refuse to start when another program listens where one of these should.

    Raises:
        PortTaken: names the port, who has it as far as this user may see, and the setting that moves ours.
    """
    for program in programs:
        if program.port and not is_free(program.host, program.port):
            raise PortTaken(
                f"port {program.port}, where {program.name} should listen, is taken by {holder_of(program.port)}; "
                f"stop that, or choose another port: {program.setting}={program.port + 1} make up"
            )


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def holder_of(port: int) -> str:
    """Name and process id of whoever listens on a port; other users' programs cannot be named."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
            if listens and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    return "another program"
