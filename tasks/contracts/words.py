"""Numbers and decisions as people read them, the same on every page and in the terminal."""

import re

from tasks.contracts import Decision


def without_credentials(text: str) -> str:
    """A text without what stands before the host of an address: it is shown where everybody reads."""
    return re.sub(r"//[^/@\s]+@", "//", text)


def first_line(text: str) -> str:
    """The beginning of what an error said, without credentials."""
    return without_credentials(text.strip().partition("\n")[0])[:300]


def number(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def duration_text(seconds: float) -> str:
    """A time: 8 s, 3 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def decision_text(decision: Decision | None) -> str:
    """A decision in a few words."""
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
