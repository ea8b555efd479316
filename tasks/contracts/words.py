"""Text for numbers, decisions and stage changes, the same on every page and in the terminal.

A text that is stored and read later names an event or the date of a state, since the state changes.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.contracts.decisions import AUTOMATION, SERVING, Decision, Promotion

TIME = re.compile(r"\b(\d{4}-\d\d-\d\d)T(\d\d:\d\d):\d\d(\.\d+)?")
"""A time in ISO 8601, of which people read the minutes."""


def without_credentials(text: str) -> str:
    """Remove user name and password from the addresses in a text, since messages are shown to everybody."""
    return re.sub(r"//[^/@\s]+@", "//", text)


def first_line(text: str) -> str:
    """Return the first line of an error message, without credentials, at most 300 characters."""
    return without_credentials(text.strip().partition("\n")[0])[:300]


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with fixed decimals, or an empty string for None."""
    return "" if value is None else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """Return a share as a percentage with one decimal, or an empty string for None."""
    return "" if value is None else f"{value:.1%}"


def value_text(value: Any) -> str:
    """Return a value of a JSON document as people read it: three significant digits, `yes` and `no`, times without seconds.

    A list or mapping is its members with commas between them; an empty one, and null, are a dash.
    """
    if value is None or value == "" or (isinstance(value, Mapping | list | tuple) and not value):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{str(name).replace('_', ' ')} {value_text(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(value_text, value))
    return TIME.sub(r"\1 \2", str(value)).replace("+00:00", " UTC")


def bounds_text(bounds: Sequence[float] | None) -> str:
    """Return an interval as text, such as `0.412 to 0.520`, or an empty string for None."""
    return f"{number(bounds[0])} to {number(bounds[1])}" if bounds else ""


def counted(count: int, noun: str) -> str:
    """Return a number with its noun in singular or plural, such as `1 partition` or `1,200 rows`. The plural has an s."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration_text(seconds: float) -> str:
    """Return a duration as text: `8 s`, `3 min`, `2.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def who(by: str) -> str:
    """Return who did something, in words: the names of the automation stand for flows and for the scoring server."""
    return {AUTOMATION: "automation", SERVING: "scoring server"}.get(by, by)


def decision_text(decision: Decision | None, rows: Sequence[Promotion] = ()) -> str:
    """Return a short description of a decision, such as `declined: cool-down`.

    Args:
        decision: The decision; None if there is none yet.
        rows: The model's ledger rows. They describe what a staged version waits for, or what became of it.
    """
    if decision is None:
        return "no decision yet"
    if decision.action == "decline":
        return f"declined: {decision.rule}"
    return {
        "": "retraining",
        "promoted": f"retrained: v{decision.version}",
        "staged": f"retrained: v{decision.version}, {_staged_text(decision.version, rows)}",
        "refused": "retrained: refused",
    }.get(decision.outcome, f"retraining {decision.outcome}")


def _staged_text(version: str, rows: Sequence[Promotion]) -> str:
    """Describe the state of a version that was staged, by its newest ledger row."""
    own = [row for row in rows if row.version == version]
    if not own:
        return "staged"
    state = {
        "stage": "in shadow mode since",
        "request": "waits for approval since",
        "canary": "gets a share of requests since",
    }
    return f"{state[own[-1].action]} {own[-1].as_of:%Y-%m-%d}" if own[-1].action in state else change_text(own[-1])


def change_text(row: Promotion) -> str:
    """Return what happened to a version, with its date: `became champion as of 2013-07-02`."""
    changes = {
        "candidate": "was registered",
        "challenger": "became challenger",
        "champion": "became champion",
        "refused": "was refused",
        "retired": "was retired",
    }
    actions = {"request": "was proposed for approval", "propose": f"was proposed for promotion by {who(row.by)}"}
    change = actions.get(row.action) or changes.get(row.to_stage, row.action)
    return f"{change} as of {row.as_of:%Y-%m-%d}"
