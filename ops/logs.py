"""Errors in the logs of the stack's servers and worker.

A server can fail repeatedly while every health check passes, and only its log shows it. `make demo`, `make status` and the
tests of whole stacks search all logs of a home for records of level ERROR and for tracebacks.
"""

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.storage.folders import make_folder

TIME = r"\d\d\d\d[-/]\d\d[-/]\d\d[ T]\d\d:\d\d:\d\d[,.]?\d*"
LEVELS = "DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|CRIT"
RECORD = re.compile(rf"{TIME}|\d\d:\d\d:\d\d\.\d\d\d \||[\da-fA-F.:]+ - - \[|\[{TIME}|(?:{LEVELS})(?::| +-| +\[)")
"""Start of a record. Other lines, such as those of a traceback, belong to the record before them."""
ERROR = re.compile(
    rf"^(?:[^|]*\| (?:ERROR|CRITICAL) *\|"  # Prefect
    rf"|\[?{TIME}(?: [+-]\d\d\d\d)?\]?(?: \[\d+\])? \[?(?:ERROR|CRITICAL|CRIT)\b"  # MLflow, supervisord, Flask, gunicorn
    rf"|(?:ERROR|CRITICAL)(?::| +-| +\[)"  # uvicorn, Litestar (Evidently), alembic
    rf'|.*HTTP/[\d.]+" 500)'  # access logs: Evidently logs an internal error only here
)
"""First line of an error record: the level at its position in each program's format."""
DEATH = re.compile(r"^\S+ \S+ WARN exited: \S+ \(.*; not expected\)|^\S+ \S+ INFO gave up: ")
"""supervisord's record of a program that ended unexpectedly."""
TRACEBACK = re.compile(r"^\s*(?:\+ )?(?:Exception Group )?Traceback \(most recent call last\)", re.MULTILINE)
ID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
NAMED = re.compile(rf"\| (?:Flow|Task) run (['\"])(?P<name>.*)\1 \((?P<id>{ID})\) - ")
"""A record of a flow run or task run. The format in configs/env/dev.env adds the flow run's id."""
ABOUT = re.compile(rf"[Ff]low run (?:UUID\()?['\"](?P<id>{ID})['\"]")
BY_NAME = re.compile(r"[Ff]low run (['\"])(?P<name>.*?)\1")
CRASH = re.compile(r" - Process exited with status code: ")
"""Prefect's record of a killed run. It does not name the run; a record close to it does."""


@dataclass(frozen=True)
class LogError:
    """One log record of level ERROR or CRITICAL, or one with a traceback.

    Attributes:
        program: The program whose log it is: `prefect`, `mlflow`, `worker` ...
        file: The log.
        line: Number of the record's first line, from 1.
        text: The whole record, without its last newline.
        run: Id of the flow run that the record is about. Empty for a program's own records.
    """

    program: str
    file: Path
    line: int
    text: str
    run: str = ""

    def __str__(self) -> str:
        first, *_, last = self.text.splitlines() * 2
        return f"{self.file}:{self.line}: {first if ERROR.search(first) or DEATH.search(first) else last}"


@dataclass(frozen=True)
class Exemption:
    """Records that look like errors but are not. `pattern` is searched in the whole record."""

    program: str
    pattern: str
    reason: str


LOCKED = r"sqlalchemy\.exc\.OperationalError: \(sqlite3\.OperationalError\) database is locked"
EXEMPT = (
    Exemption("supervisord", "CRIT Supervisor is running as root", "in a container and in CI there is no other user"),
    Exemption("supervisord", "CRIT Server 'unix_http_server' running without any HTTP", "its socket has mode 0700"),
    Exemption(
        "prefect",
        rf"Worker channel (heartbeat persistence|setup) failed(.|\n)*^{LOCKED}",
        "Prefect 3.9.1 reads before it writes here, which SQLite refuses when another write comes between. It closes the "
        "worker's channel; the worker polls instead and connects again within seconds.",
    ),
    Exemption(
        "prefect",
        rf"docket\.dependencies - (.|\n)*^{LOCKED}",
        "The same in a periodic service of the server, such as `monitor_worker_health`. It runs again within a minute.",
    ),
    Exemption(
        "prefect",
        rf"Encountered error during state validation(.|\n)*^{LOCKED}",
        "The same where a run is created. The server answers 503 and Prefect's client repeats the request: in "
        "`python -m benchmarks server` no run and no event was lost. PostgreSQL has none of these.",
    ),
)
"""All exemptions. A new one needs a reason that a user would accept."""


def log_errors(home: Path, exempt: Iterable[Exemption] = EXEMPT, folder: str = "logs") -> list[LogError]:
    """Return the errors in all logs of a stack since it was started, by program and from old to new.

    `folder` is `logs`, or `logs/previous` for the start before.
    """
    files = [*(home / folder).glob("*.log"), *(home / folder).glob("*.log.1")]
    return [
        error
        for file in sorted(files, key=lambda file: (_program(file), file.suffix == ".log"))
        for error in _errors(file)
        if not any(e.program == error.program and re.search(e.pattern, error.text, re.MULTILINE) for e in exempt)
    ]


def server_errors(home: Path) -> list[LogError]:
    """Return the errors that no flow run caused. Failed runs are shown by Prefect, so `make status` leaves them out."""
    return [error for error in log_errors(home) if not error.run]


def summary(errors: Sequence[LogError]) -> list[str]:
    """Return a line for each program with errors: how many there are, and the first one."""
    lines = []
    for program in dict.fromkeys(error.program for error in errors):
        own = [error for error in errors if error.program == program]
        count = "1 error" if len(own) == 1 else f"{len(own)} errors"
        lines.append(f"{program}: {count} in its log, first {own[0]}")
    return lines


def archive_logs(home: Path) -> None:
    """Move the logs of an earlier start into `logs/previous`, so that its errors are not reported again."""
    logs, previous = home / "logs", home / "logs" / "previous"
    shutil.rmtree(previous, ignore_errors=True)
    make_folder(previous)
    for file in [*logs.glob("*.log"), *logs.glob("*.log.1")]:
        file.replace(previous / file.name)


def _program(file: Path) -> str:
    return file.name.partition(".")[0]


def _errors(file: Path) -> Iterator[LogError]:
    program = _program(file)
    records = [LogError(program, file, line, text) for line, text in _records(file)]
    errors = [at for at, record in enumerate(records) if _is_error(record)]
    runs = _runs(records) if program == "worker" and errors else {}
    for at in errors:
        yield replace(records[at], run=runs.get(at, ""))


def as_text(line: str) -> str:
    """Return a line of `tasks/log_format.py` in the format of Prefect's text, with its traceback. Other lines stay as they are."""
    if not line.startswith('{"time": '):
        return line
    try:
        entry = json.loads(line)
        about = f"{entry['logger']} - "
        if entry.get("run") and entry.get("run_name"):
            kind, name = ("Task", entry["task"]) if entry.get("task") else ("Flow", entry["run_name"])
            about = f"{kind} run {name!r} ({entry['run']}) - "
        moment = entry["time"].replace("T", " ").removesuffix("Z")
        text = f"{moment} | {entry['level']:<7} | {about}{entry['message']}\n"
    except (ValueError, KeyError, TypeError, AttributeError):  # a program was killed while it wrote the line
        return line
    return text + (f"{entry['exception']}\n" if entry.get("exception") else "")


def _is_error(record: LogError) -> bool:
    first = record.text.partition("\n")[0]
    died = record.program == "supervisord" and DEATH.search(first)
    return bool(ERROR.search(first) or died or TRACEBACK.search(record.text))


def _runs(records: Sequence[LogError]) -> dict[int, str]:
    """Return the ids of the flow runs that records of the worker's log are about, by the record's position."""
    ids, runs, lines = dict[str, str](), dict[int, str](), [record.text.partition("\n")[0] for record in records]
    for at, line in enumerate(lines):
        if match := NAMED.search(line):
            ids[match["name"]] = runs[at] = match["id"]
        elif match := ABOUT.search(line):
            runs[at] = match["id"]
        elif (match := BY_NAME.search(line)) and match["name"] in ids:
            runs[at] = ids[match["name"]]
    for at, line in enumerate(lines):
        if CRASH.search(line):
            near = [n for n in (at + 1, at - 1, at + 2, at - 2, at + 3) if n in runs and " as crashed" in lines[n]]
            runs |= {at: runs[near[0]]} if near else {}
    return runs


def _records(file: Path) -> Iterator[tuple[int, str]]:
    """Yield each record of a log with the number of its first line. A line of JSON is yielded as the text of the same record."""
    begin, lines = 1, list[str]()
    with file.open(encoding="utf-8", errors="replace") as log:
        for number, raw in enumerate(log, start=1):
            line = as_text(raw)
            if lines and RECORD.match(line):
                yield begin, "".join(lines).rstrip("\n")
                lines.clear()
            if not lines:
                begin = number
            lines.append(line)
    if lines:
        yield begin, "".join(lines).rstrip("\n")
