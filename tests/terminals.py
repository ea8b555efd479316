"""Run commands as people do: on a terminal of 80 columns, or into a pipe."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from configs.settings import ROOT

WIDTH = 80
DISPLAY = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Output:
    """Exit code and output of a command. On a terminal everything is in `out`."""

    code: int
    out: str
    err: str = ""

    @property
    def lines(self) -> list[str]:
        """The output by line, overwritten lines too, without colours and other escapes."""
        return [ESCAPES.sub("", line) for line in re.split(r"[\r\n]+", self.out)]

    @property
    def widest(self) -> int:
        return max(map(len, self.lines))


def environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a person at a common terminal, without the variables of a `make` that runs the tests."""
    result = dict(os.environ if variables is None else variables)
    for name in (*DISPLAY, "CI", "MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
        result.pop(name, None)
    return result | {"TERM": "xterm-256color"}


def piped(*command: str, folder: Path = ROOT, env: Mapping[str, str] | None = None) -> Output:
    """Run Python with these arguments, or another program, with its output in pipes."""
    done = subprocess.run(_whole(command), cwd=folder, env=environment(env), capture_output=True, text=True)
    return Output(done.returncode, done.stdout, done.stderr)


def on_terminal(*command: str, folder: Path = ROOT, env: Mapping[str, str] | None = None, stop_at: str = "") -> Output:
    """Run the same on a terminal. When it shows `stop_at`, interrupt the command as Control-C does."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, WIDTH, 0, 0))
    process = subprocess.Popen(
        _whole(command),
        cwd=folder,
        env=environment(env),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background may ignore it
    )
    os.close(slave)
    output = bytearray()
    while chunk := _read(master):
        output += chunk
        if stop_at and stop_at.encode() in output:
            process.send_signal(signal.SIGINT)
            stop_at = ""
    os.close(master)
    return Output(process.wait(), output.decode())


def _whole(command: tuple[str, ...]) -> list[str]:
    return [sys.executable, *command] if command[0].startswith("-") else list(command)


def _read(master: int) -> bytes:
    """Read what is there; nothing after all processes have closed the terminal, which Linux reports as an error."""
    try:
        return os.read(master, 65536)
    except OSError:
        return b""
