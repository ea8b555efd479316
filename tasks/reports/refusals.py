"""Why the last training gave no version: each rule that it did not pass, with its value and its limit, or its error; and what to change."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from configs.kinds import HIGHER_IS_BETTER
from tasks.contracts import Training, Verdict
from tasks.contracts.words import first_line
from tasks.errors import EvergreenError
from tasks.models.metrics import finite
from tasks.reports.advice import advice
from tasks.resources import Resources
from tasks.steps.order import newest_moment
from tasks.storage.files import replacing

FILE = "refused_training.json"
"""In the model's folder of the lake: the newest training in which nothing beat the prior, or that failed. The ledger has no row of it."""


@dataclass(frozen=True)
class Refusal:
    """A training that was refused, or that failed.

    Attributes:
        version: Empty if nothing beat the prior, or if the training failed.
        rules: A sentence for each rule that did not pass; of a training that failed, its error.
        advice: What to change, in one line.
        failed: Whether it ended with an error, such as too few rows.
    """

    as_of: datetime
    version: str
    rules: tuple[str, ...]
    advice: str = ""
    failed: bool = False

    @property
    def headline(self) -> str:
        """The refusal in one line."""
        if self.failed:
            return f"the last training, as of {self.as_of:%Y-%m-%d}, failed"
        rules = "1 rule" if len(self.rules) == 1 else f"{len(self.rules)} rules"
        what = f"version {self.version} did not pass {rules} of the gate" if self.version else "nothing beat the prior"
        return f"the last training, as of {self.as_of:%Y-%m-%d}, was refused: {what}"


def record_refusal(training: Training, res: Resources) -> None:
    """Write down a training in which nothing beat the prior. It has no version, so the ledger has no row of it."""
    if training.version:
        return
    verdicts = [verdict_values(v) for v in training.decision.verdicts]
    _write(training.window.as_of, res, verdicts=verdicts)


@contextmanager
def recording_failure(as_of: datetime | None, res: Resources) -> Iterator[None]:
    """Write down an expected error of a training, such as too few rows, and raise it again. It has no version either.

    Args:
        as_of: As-of time of the training. None: that of the newest partition.
        res: The resources of the model.
    """
    try:
        yield
    except EvergreenError as error:
        with suppress(EvergreenError):  # without any partition there is no newest moment
            as_of = as_of or newest_moment(res)
        record_error(as_of or datetime.now(UTC), str(error), res)
        raise


def record_error(as_of: datetime, text: str, res: Resources) -> None:
    """Write down why a training failed, or cannot be started."""
    _write(as_of, res, verdicts=[], error=first_line(text))


def _write(as_of: datetime, res: Resources, **content: Any) -> None:
    note = {"as_of": as_of.isoformat(), "at": datetime.now(UTC).isoformat(), **content}
    with replacing(res.lake.root / FILE) as draft:
        draft.write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")


def verdict_values(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as the ledger's evidence has it: null for NaN."""
    return asdict(verdict) | finite({"value": verdict.value, "threshold": verdict.threshold})


def last_refusal(res: Resources) -> Refusal | None:
    """Return the newest training that ended, if it was refused or failed; None if it passed or there is none."""
    rows = [r for r in res.ledger.promotions() if r.evidence.get("verdicts") and r.recorded_at]
    last = rows[-1] if rows else None
    try:
        note = json.loads((res.lake.root / FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        note = None
    if note and (not last or not last.recorded_at or datetime.fromisoformat(note["at"]) > last.recorded_at):
        as_of = datetime.fromisoformat(note["as_of"])
        if error := note.get("error"):
            return Refusal(as_of, "", (error,), error, failed=True)
        return Refusal(as_of, "", failed_rules(note["verdicts"]), advice(note["verdicts"], res.config))
    if last is None or last.action != "refuse":
        return None
    verdicts = last.evidence["verdicts"]
    return Refusal(last.as_of, last.version, failed_rules(verdicts), advice(verdicts, res.config))


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
