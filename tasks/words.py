"""Numbers and decisions as people read them, the same on every page and in the terminal. Imports no Prefect."""

from tasks.contracts import Decision


def number(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def told(decision: Decision | None) -> str:
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
