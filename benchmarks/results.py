"""Write docs/benchmarks.json and docs/benchmarks.md: the measurements, the machine and the date."""

import json
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime

from benchmarks.harness import Row, machine
from configs.settings import ROOT

INTRODUCTION = """\
# Benchmarks

`make bench` wrote this page on {date}, in {minutes:.0f} minutes, on {machine}, at commit {commit}.

This page answers: how much do our parts cost, compared with the raw libraries?

Each row is a ratio to a reference that ran on the same machine at the same time: the median of our rounds over that of the reference,
and the least and greatest ratio of a round. CPU seconds are of whole process trees, or of one process if all of the work is in it.
[benchmarks.json](benchmarks.json) has the same rows. [Decision 6](decisions/0006-what-a-run-pays-for.md) explains the missed aims.

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
    content = about | {"rows": [_plain(row) for row in rows]}
    (ROOT / "docs" / "benchmarks.json").write_text(json.dumps(content, indent=1) + "\n")


def commit() -> str:
    """Return the measured commit, and whether files differed from it."""
    commands = (["git", "rev-parse", "--short", "HEAD"], ["git", "status", "--porcelain", "--untracked-files=no"])
    head, changed = (subprocess.run(c, cwd=ROOT, capture_output=True, text=True).stdout.strip() for c in commands)
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
