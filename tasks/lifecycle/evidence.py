"""The evidence of a gate's decision, as the ledger keeps it."""

from dataclasses import asdict
from math import isfinite
from typing import Any

from tasks.contracts import Comparison, GateDecision
from tasks.models.metrics import finite


def decision_evidence(decision: GateDecision, comparison: Comparison) -> dict[str, Any]:
    """Return the evidence of a decision for the ledger: JSON values, with null for NaN."""
    cards = [c for c in (comparison.challenger, comparison.champion, comparison.prior) if c]
    verdicts = [asdict(v) | finite({"value": v.value, "threshold": v.threshold}) for v in decision.verdicts]
    gain = comparison.gain
    return {
        "judged": comparison.challenger.version,
        "against": decision.against,
        "passed": decision.passed,
        "verdicts": verdicts,
        "rows": [comparison.start.isoformat(), comparison.end.isoformat()],
        "blocks": comparison.blocks,
        "gain": finite({"mean": gain.value, "lower": gain.lower, "upper": gain.upper}) if gain else None,
        "scorecards": {
            c.version: {"rows": c.rows, "metrics": finite(c.metrics)}
            | {"intervals": {k: list(finite({"l": i.lower, "u": i.upper}).values()) for k, i in c.intervals.items()}}
            for c in cards
        },
        "note": comparison.note or comparison.impossible,
    } | _burden_evidence(comparison)


def _burden_evidence(comparison: Comparison) -> dict[str, Any]:
    """Return what was to be shown, compared with what. A change keeps the gains of its blocks for its next test, if they are finite."""
    if comparison.champion is None:
        return {}
    evidence = {
        "burden": comparison.burden,
        "compared": comparison.champion.version,
        "reference": comparison.reference,
        "differences": list(comparison.differences),
    }
    gains = [list(gain) for gain in comparison.gains]
    known = all(isfinite(value) for gain in gains for value in gain)
    return evidence | ({"change": comparison.change, "gains": gains if known else []} if comparison.change else {})
