"""The commands in the docs: where they are, which tests replace a part of them, and which no test can run.

Every line of a block of commands is a command, so new lines are found without a list. A block is fenced as ```bash, or
indented. ```python blocks are whole programs. In prose, a command is between backticks.
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
"""The beginning of a command, in text that has other lines too."""


@dataclass(frozen=True)
class Command:
    """One command of a page, without its comment. Continued lines are part of it."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"

    def begins(self, words: str) -> bool:
        return self.text == words or self.text.startswith(f"{words} ")


@dataclass
class Block:
    """A block of lines of a page. `kind` is the language after the fence, or `indented`."""

    page: str
    line: int
    kind: str
    lines: list[str] = field(default_factory=list)

    def commands(self) -> list[Command]:
        """The commands of the block; none if it is not a block of commands."""
        if self.kind not in ("bash", "indented"):
            return []
        commands, first, text = [], 0, ""
        for number, raw in enumerate(self.lines, self.line):
            line = re.sub(r"\s{2,}# .*$", "", raw)
            first, text = (first, f"{text}\n{line}") if text else (number, line.strip())
            if text and not text.startswith("#") and complete(text):
                commands.append(Command(self.page, first, text))
                text = ""
            elif text.startswith("#"):
                text = ""
        if text:
            commands.append(Command(self.page, first, text))
        return commands


def complete(text: str) -> bool:
    """Whether a shell would run the text, and not wait for another line."""
    try:
        shlex.split(text)
    except ValueError:
        return False
    return not text.endswith("\\")


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page, in order."""
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
    """Return the commands between backticks, outside of blocks."""
    name, commands, fenced = page.relative_to(ROOT).as_posix(), [], False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fenced = fenced != line.startswith("```")
        if not fenced:
            spans = re.findall(r"`([^`]+)`", line)
            commands += [Command(name, number, span) for span in spans if COMMAND.match(f"{span} ") and " " in span]
    return commands


BLOCKS = [block for page in PAGES for block in blocks(page)]
IN_BLOCKS = [command for block in BLOCKS for command in block.commands()]
IN_PROSE = [command for page in PAGES for command in in_prose(page)]
ONLY_IN_PROSE = list(
    {one.text: one for one in IN_PROSE if not any(other.begins(one.text) for other in IN_BLOCKS)}.values()
)
"""Each once, without those that are the beginning of a command in a block."""


class Exclusion(NamedTuple):
    """Why a command is not run, and the test that covers it, if there is one."""

    why: str
    instead: str = ""


NOT_RUN = {
    "make demo": Exclusion("processes a year, in seven minutes", "tests/flows/test_flights_year.py"),
    "make play MODEL=trains": Exclusion("plays a model that a reader has added", "tests/e2e/test_play.py"),
    "make model NAME=trains": Exclusion("makes a model from a reader's file", "tests/e2e/test_new_model.py"),
    "make play MODEL=power": Exclusion("plays three months after a first training", "tests/e2e/test_new_model.py"),
    "make suggest MODEL=power": Exclusion("needs the partitions of that play", "tests/ops/profiling/test_suggest.py"),
    "make test": Exclusion("is what runs the tests"),
    "make test-all": Exclusion("is what runs this test"),
    "make ci": Exclusion("is what runs the tests"),
    "make lint": Exclusion("checks the tests, which a copy does not have; CI runs it"),
    "make lock": Exclusion("asks PyPI for newer packages"),
    "make bench": Exclusion("measures, for a quarter of an hour"),
    "make compare": Exclusion("replays two models of a git checkout, for minutes", "tests/ops/test_compare.py"),
    "make deploy MODELS='store-*'": Exclusion("deploys a reader's models", "tests/ops/test_generated.py"),
    'prefect deployment run backfill/manual -p models="store-*"': Exclusion(
        "runs a reader's models", "tests/flows/test_selection.py"
    ),
    'prefect deployment run train/manual -p models="store-*"': Exclusion(
        "runs a reader's models", "tests/flows/test_selection.py"
    ),
    'prefect deployment run replay/manual -p models="store-a,store-b"': Exclusion(
        "runs a reader's models", "tests/flows/test_selection.py"
    ),
    "make deploy ENV=prod": Exclusion(
        "is for other servers; deploying to them is the same", "tests/ops/test_deploy.py"
    ),
    "python -m benchmarks": Exclusion("measures, some of it for hours"),
    "python -m data.flights.rebuild": Exclusion("downloads from PyPI", "tests/data/test_archive.py"),
    "python -m data.electricity.rebuild": Exclusion("downloads from PyPI", "tests/data/test_archive.py"),
    "python -m ops.keys --write": Exclusion("writes a page of the docs", "tests/ops/test_keys.py"),
    "python -m ops.metrics": Exclusion("is started by `make up`", "tests/ops/test_metrics.py"),
    "python -m ops.worker": Exclusion("is started by `make up`", "tests/ops/test_stack.py"),
    "uv add s3fs": Exclusion("changes what is installed", "tests/flows/test_backfill_elsewhere.py"),
    "mlflow models serve": Exclusion("is named as a reference, not to be typed"),
    "EVERGREEN_NOTIFY_URL=mailto://user:password@example.com make up": Exclusion(
        "would send messages to people", "tests/e2e/test_loop.py"
    ),
    "EVERGREEN_NOTIFY_BLOCK=slack-webhook/alerts make deploy": Exclusion(
        "would send messages to people", "tests/ops/test_notify.py"
    ),
}
"""Commands that are not run here, by their beginning."""


class Replacement(NamedTuple):
    """A part of a command that a test replaces. Names in braces are filled in at run time."""

    text: str
    run: str
    why: str


REPLACEMENTS = [
    Replacement("127.0.0.1:8080", "127.0.0.1:{serving}", "the test's stack has ports of its own"),
    Replacement("127.0.0.1:8400", "127.0.0.1:{metrics}", "the test's stack has ports of its own"),
    Replacement("make serve", "EVERGREEN_SERVING_PORT={port} make serve", "the stack has one at its own port"),
    Replacement(
        "evidently ui --workspace $EVERGREEN_HOME/evidently",
        "evidently ui --workspace .evergreen/evidently --port {port}",
        "the stack has one at its own port, and its home where it is by default",
    ),
    Replacement("--host 10.0.0.5", "--host 127.0.0.1 --port {dask} --no-dashboard", "there is one machine"),
    Replacement("10.0.0.5:8786", "127.0.0.1:{dask}", "there is one machine"),
    Replacement("plan=1f0c2a9b77de", "plan={plan}", "the digest is that of the dry run before it"),
    Replacement(
        "replay/manual -p model=flights -p start=2013-04 -p end=2013-12",
        "replay/manual -p model=flights -p start=2013-04 -p end=2013-05",
        "nine months take many minutes; tests/flows/test_flights_replay.py covers them",
    ),
    Replacement(
        "replay/manual -p model=electricity -p start=1996-W27 -p end=1998-W49",
        "replay/manual -p model=electricity -p start=1996-W27 -p end=1996-W32",
        "127 weeks take many minutes",
    ),
    Replacement(
        "FROM=backups/2026-11-30T07-31-12Z",
        "FROM=$(ls -d backups/*Z | tail -1)",
        "the backup that the command before it made",
    ),
    Replacement("FROM=1998-W27 TO=1998-W40", "FROM=1998-W39 TO=1998-W40", "two weeks instead of fourteen"),
]
"""Parts of commands in the docs, and what is run instead."""
