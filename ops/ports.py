"""Check whether the ports of the servers are free, and find the program that uses one that is not."""

import contextlib
import socket
from collections.abc import Iterable

import psutil

from ops.errors import PortTaken
from ops.programs import Program


def check_ports(programs: Iterable[Program]) -> None:
    """Check that no other program listens on the ports of these programs.

    Raises:
        PortTaken: Names the port, the program that uses it if this user may see it, and the setting that changes the port.
    """
    for program in programs:
        if program.port and not is_free(program.host, program.port):
            raise PortTaken(
                f"port {program.port} of {program.name} is used by {holder_of(program.port)}; "
                f"stop that program, or choose another port: {program.setting}={program.port + 1} make up"
            )


def is_free(host: str, port: int) -> bool:
    """Return whether a server can listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def holder_of(port: int) -> str:
    """Return name and process id of the program that listens on a port. Other users' programs have no name here."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
            if listens and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    return "another program"
