"""Commands that the docs tell people to type: where they stand, what is run in their place, and which no test can run as they are.

Everything in a block of commands is one, so a new line of any page is found without being named anywhere. A block is
fenced as ```bash, or indented; ```python blocks are whole programs. In prose, a command stands between backticks.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from configs.settings import ROOT

PAGES = [ROOT / "README.md", ROOT / "data" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = "make|prefect|python3?|curl|uv|evidently|mlflow|pg_dump|pg_restore"
COMMAND = re.compile(rf"(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?(?:{PROGRAMS}) ")
"""How a command begins, where not everything is one."""


@dataclass(frozen=True)
class Command:
    """One command of a page, without its comment; continued lines are part of it."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"

    def begins(self, words: str) -> bool:
        return self.text == words or self.text.startswith(f"{words} ")


@dataclass
class Block:
    """Lines of a page that belong together: kind is what the fence says, or `indented`."""

    page: str
    line: int
    kind: str
    lines: list[str] = field(default_factory=list)

    def commands(self) -> list[Command]:
        """Its commands, where it is one of commands."""
        if self.kind not in ("bash", "indented"):
            return []
        found, begun, text = [], 0, ""
        for number, line in enumerate(self.lines, self.line):
            bare = re.sub(r"\s{2,}# .*$", "", line)
            begun, text = (begun, f"{text}\n{bare}") if text else (number, bare.strip())
            if text and not text.startswith("#") and complete(text):
                found.append(Command(self.page, begun, text))
                text = ""
            elif text.startswith("#"):
                text = ""
        if text:
            found.append(Command(self.page, begun, text))
        return found


def complete(text: str) -> bool:
    """Whether a shell would not wait for another line."""
    try:
        shlex.split(text)
    except ValueError:
        return False
    return not text.endswith("\\")


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page, in order."""
    name, block, before = page.relative_to(ROOT).as_posix(), None, ""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fenced = block is not None and block.kind != "indented"
        if line.startswith("```"):
            if block:
                yield block
            block = None if fenced else Block(name, number + 1, line.removeprefix("```").strip())
        elif fenced and block:
            block.lines.append(line)
        elif line.startswith("    ") and (block or not before.strip()):
            block = block or Block(name, number, "indented")
            block.lines.append(line.removeprefix("    "))
        elif block:
            yield block
            block = None
        before = line
    if block:
        yield block


def in_prose(page: Path) -> list[Command]:
    """Commands between backticks, outside of blocks."""
    name, found, fenced = page.relative_to(ROOT).as_posix(), [], False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fenced = fenced != line.startswith("```")
        if not fenced:
            spans = re.findall(r"`([^`]+)`", line)
            found += [Command(name, number, span) for span in spans if COMMAND.match(f"{span} ") and " " in span]
    return found


BLOCKS = [block for page in PAGES for block in blocks(page)]
IN_BLOCKS = [command for block in BLOCKS for command in block.commands()]
IN_PROSE = [command for page in PAGES for command in in_prose(page)]
ONLY_IN_PROSE = list(
    {one.text: one for one in IN_PROSE if not any(other.begins(one.text) for other in IN_BLOCKS)}.values()
)
"""Each once, and none that a block has, be it with more said."""


class Left(NamedTuple):
    """Why a command is not run, and the test that does what it does, where there is one."""

    why: str
    instead: str = ""


NOT_RUN = {
    "make demo": Left("plays a year, in seven minutes", "tests/flows/test_flights_year.py"),
    "make test": Left("is what runs the tests"),
    "make test-all": Left("is what runs this test"),
    "make ci": Left("is what runs the tests"),
    "make lint": Left("looks at tests, which a copy does not have; CI runs it"),
    "make lock": Left("asks PyPI for newer packages"),
    "make bench": Left("takes a quarter of an hour, and measures"),
    "make deploy ENV=prod": Left(
        "is for servers elsewhere; they are deployed to as others are", "tests/ops/test_deploy.py"
    ),
    "python -m benchmarks": Left("measures, some of it for hours"),
    "python -m data.flights.rebuild": Left("downloads from PyPI", "tests/data/test_archive.py"),
    "python -m data.electricity.rebuild": Left("downloads from PyPI", "tests/data/test_archive.py"),
    "python -m ops.keys --write": Left("writes a page of the docs", "tests/ops/test_keys.py"),
    "uv add s3fs": Left("changes what is installed", "tests/flows/test_backfill_elsewhere.py"),
    "mlflow models serve": Left("is what ours is measured against, and nothing to type"),
    "pg_dump": Left("belongs to a PostgreSQL server, and comes with it"),
    "pg_restore": Left("belongs to a PostgreSQL server, and comes with it"),
    "EVERGREEN_NOTIFY_URL=mailto://user:password@example.com make up": Left(
        "would write to people", "tests/e2e/test_loop.py"
    ),
    "EVERGREEN_NOTIFY_BLOCK=slack-webhook/alerts make deploy": Left(
        "would write to people", "tests/ops/test_notify.py"
    ),
}
"""Commands that are not run here, by how they begin."""


class Other(NamedTuple):
    """A part of a command that is run otherwise; braces hold what is known at run time."""

    said: str
    run: str
    why: str


OTHERWISE = [
    Other("127.0.0.1:8080", "127.0.0.1:{serving}", "the test's stack has ports of its own"),
    Other("make serve", "EVERGREEN_SERVING_PORT={port} make serve", "the stack has one at its own port"),
    Other(
        "evidently ui --workspace $EVERGREEN_HOME/evidently",
        "evidently ui --workspace .evergreen/evidently --port {port}",
        "the stack has one at its own port, and its home where it is by default",
    ),
    Other("--host 10.0.0.5", "--host 127.0.0.1 --port {dask} --no-dashboard", "there is one machine"),
    Other("10.0.0.5:8786", "127.0.0.1:{dask}", "there is one machine"),
    Other("plan=1f0c2a9b77de", "plan={plan}", "the digest is the one that the dry run before it has told"),
    Other(
        "replay/manual -p model=flights -p start=2013-04 -p end=2013-12",
        "replay/manual -p model=flights -p start=2013-04 -p end=2013-05",
        "nine months take many minutes; tests/flows/test_flights_replay.py plays them",
    ),
    Other(
        "replay/manual -p model=electricity -p start=1996-W27 -p end=1998-W49",
        "replay/manual -p model=electricity -p start=1996-W27 -p end=1996-W32",
        "127 weeks take many minutes",
    ),
]
"""What stands in the docs, and what is run in its place."""
