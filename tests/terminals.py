"""Commands as people run them: on a terminal of 80 columns, or into a pipe."""

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
SHOWING = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Said:
    """What a command said, and its exit code. On a terminal everything is in `out`."""

    code: int
    out: str
    err: str = ""

    @property
    def lines(self) -> list[str]:
        """What was written line by line, what was overwritten too, without colours and other escapes."""
        return [ESCAPES.sub("", line) for line in re.split(r"[\r\n]+", self.out)]

    @property
    def widest(self) -> int:
        return max(map(len, self.lines))


def environment(given: Mapping[str, str] | None = None) -> dict[str, str]:
    """A person's environment, of a terminal that can do what most can; nothing of a `make` that runs the tests."""
    mine = dict(os.environ if given is None else given)
    for name in (*SHOWING, "CI", "MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
        mine.pop(name, None)
    return mine | {"TERM": "xterm-256color"}


def piped(*command: str, folder: Path = ROOT, env: Mapping[str, str] | None = None) -> Said:
    """Run Python with these arguments, or another program, its output into pipes."""
    done = subprocess.run(_whole(command), cwd=folder, env=environment(env), capture_output=True, text=True)
    return Said(done.returncode, done.stdout, done.stderr)


def on_terminal(*command: str, folder: Path = ROOT, env: Mapping[str, str] | None = None, stop_at: str = "") -> Said:
    """The same on a terminal. As soon as that shows `stop_at`, the command is interrupted as by Control-C."""
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
    heard = bytearray()
    while chunk := _read(master):
        heard += chunk
        if stop_at and stop_at.encode() in heard:
            process.send_signal(signal.SIGINT)
            stop_at = ""
    os.close(master)
    return Said(process.wait(), heard.decode())


def _whole(command: tuple[str, ...]) -> list[str]:
    return [sys.executable, *command] if command[0].startswith("-") else list(command)


def _read(master: int) -> bytes:
    """What came; nothing when everybody has left the terminal, which Linux tells by an error."""
    try:
        return os.read(master, 65536)
    except OSError:
        return b""
