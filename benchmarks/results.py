"""docs/benchmarks.json and docs/benchmarks.md: what was measured, on which machine, and when."""

import json
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime

from benchmarks.harness import Row, machine
from configs.settings import ROOT

INTRODUCTION = """\
# Benchmarks

`make bench` wrote this page on {date}, in {minutes:.0f} minutes, on {machine}, at commit {commit}.

Every row is a ratio to something that ran beside it: the middle of the rounds of ours over that of theirs, and the least and most
over the rounds. CPU seconds are of whole process trees, or of one process where all of the work is in it. The same as rows of JSON:
[benchmarks.json](benchmarks.json). What misses its aim, and why: [decisions/0006](decisions/0006-what-a-run-pays-for.md).

| subject | against | ours | theirs | ratio | spread | aim | |
|---|---|---:|---:|---:|---:|---:|---|
"""


def write(rows: Sequence[Row], seconds: float) -> None:
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    lines = [_line(row) for row in rows]
    about = {"date": date, "machine": machine(), "commit": commit()}
    text = INTRODUCTION.format(minutes=seconds / 60, **about) + "\n".join(lines) + "\n"
    notes = [f"- {row.subject}: {row.note}" for row in rows if row.note]
    (ROOT / "docs" / "benchmarks.md").write_text(text + ("\n" + "\n".join(notes) + "\n" if notes else ""))
    found = about | {"rows": [_plain(row) for row in rows]}
    (ROOT / "docs" / "benchmarks.json").write_text(json.dumps(found, indent=1) + "\n")


def commit() -> str:
    """The commit that was measured, and whether files differed from it."""
    asked = (["git", "rev-parse", "--short", "HEAD"], ["git", "status", "--porcelain", "--untracked-files=no"])
    head, changed = (subprocess.run(c, cwd=ROOT, capture_output=True, text=True).stdout.strip() for c in asked)
    return f"{head} with uncommitted changes" if changed else head


def _line(row: Row) -> str:
    low, high = row.spread
    met = {None: "", True: "met", False: "**missed**"}[row.met]
    aim = "" if row.aim is None else f"{row.aim:.3g}"
    return (
        f"| {row.subject} | {row.against} | {row.ours:.3g} {row.unit} | {row.theirs:.3g} | {row.ratio:.3g} "
        f"| {low:.3g}-{high:.3g} | {aim} | {met} |"
    )


def _plain(row: Row) -> dict[str, object]:
    return {
        "subject": row.subject,
        "against": row.against,
        "ratio": round(row.ratio, 4),
        "spread": [round(value, 4) for value in row.spread],
        "aim": row.aim,
        "met": row.met,
    }
