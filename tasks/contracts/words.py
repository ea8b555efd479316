"""Text for numbers and decisions, the same on every page and in the terminal."""

import re

from tasks.contracts.decisions import Decision


def without_credentials(text: str) -> str:
    """Remove user name and password from the addresses in a text, since messages are shown to everybody."""
    return re.sub(r"//[^/@\s]+@", "//", text)


def first_line(text: str) -> str:
    """Return the first line of an error message, without credentials, at most 300 characters."""
    return without_credentials(text.strip().partition("\n")[0])[:300]


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with fixed decimals, or an empty string for None."""
    return "" if value is None else f"{value:.{digits}f}"


def duration_text(seconds: float) -> str:
    """Return a duration as text: `8 s`, `3 min`, `2.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def decision_text(decision: Decision | None) -> str:
    """Return a short description of a decision, such as `declined: cool-down`."""
    if decision is None:
        return "no decision yet"
    if decision.action == "decline":
        return f"declined: {decision.rule}"
    return {
        "": "retraining",
        "promoted": f"retrained: v{decision.version}",
        "staged": f"retrained: v{decision.version} in shadow",
        "refused": "retrained: refused",
    }.get(decision.outcome, f"retraining {decision.outcome}")
