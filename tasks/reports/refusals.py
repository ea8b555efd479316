"""Why the last training was refused: each rule that it did not pass, with its value and its limit."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from configs.kinds import HIGHER_IS_BETTER
from tasks.contracts import Training, Verdict
from tasks.models.metrics import finite
from tasks.resources import Resources
from tasks.storage.files import replacing

FILE = "refused_training.json"
"""In the model's folder of the lake: the newest training in which nothing beat the prior. The ledger has no row of it."""


@dataclass(frozen=True)
class Refusal:
    """A training that was refused. `version` is empty if nothing beat the prior."""

    as_of: datetime
    version: str
    rules: tuple[str, ...]

    @property
    def headline(self) -> str:
        """The refusal in one line."""
        rules = "1 rule" if len(self.rules) == 1 else f"{len(self.rules)} rules"
        what = f"version {self.version} did not pass {rules} of the gate" if self.version else "nothing beat the prior"
        return f"the last training, as of {self.as_of:%Y-%m-%d}, was refused: {what}"


def record_refusal(training: Training, res: Resources) -> None:
    """Write down a training in which nothing beat the prior. It has no version, so the ledger has no row of it."""
    if training.version:
        return
    verdicts = [verdict_values(v) for v in training.decision.verdicts]
    note = {"as_of": training.window.as_of.isoformat(), "at": datetime.now(UTC).isoformat(), "verdicts": verdicts}
    with replacing(res.lake.root / FILE) as draft:
        draft.write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")


def verdict_values(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as the ledger's evidence has it: null for NaN."""
    return asdict(verdict) | finite({"value": verdict.value, "threshold": verdict.threshold})


def last_refusal(res: Resources) -> Refusal | None:
    """Return the newest training that the gate judged, if it was refused; None if it passed or there is none."""
    rows = [r for r in res.ledger.promotions() if r.evidence.get("verdicts") and r.recorded_at]
    last = rows[-1] if rows else None
    try:
        note = json.loads((res.lake.root / FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        note = None
    if note and (not last or not last.recorded_at or datetime.fromisoformat(note["at"]) > last.recorded_at):
        return Refusal(datetime.fromisoformat(note["as_of"]), "", failed_rules(note["verdicts"]))
    if last is None or last.action != "refuse":
        return None
    return Refusal(last.as_of, last.version, failed_rules(last.evidence["verdicts"]))


def failed_rules(verdicts: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return a sentence for each rule that did not pass. `verdicts` are as in the ledger's evidence."""
    return tuple(rule_text(v) for v in verdicts if not v["passed"])


def rule_text(verdict: Mapping[str, Any]) -> str:
    """Return rule, value and limit in words: `floor: log_loss: the value is 0.701, and must be at most 0.69`."""
    rule, value, limit, note = (verdict[name] for name in ("rule", "value", "threshold", "note"))
    if verdict["outcome"] == "could not be judged" or value is None:
        return f"{rule}: could not be judged{f' ({note})' if note else ''}"
    bound = "" if limit is None else f", and must be {limit_word(rule)} {limit:.4g}"
    return f"{rule}: the value is {value:.4g}{bound}{f' ({note})' if note else ''}"


def limit_word(rule: str) -> str:
    """Return on which side of its limit a rule of the gate passes: `above`, `at least`, `below` or `at most`."""
    name = rule.rpartition(": ")[2]
    if "lower bound" in rule:
        return "above"
    if "upper bound" in rule or ("floor: " in rule and name in HIGHER_IS_BETTER):
        return "at least"
    return "below" if "better than the prior" in rule or "beats the prior" in rule else "at most"
