"""What to change in model.yaml after a training that gave no champion, in one line: key, value, measured value, and the change."""

import re
from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from configs.base import span_text
from configs.kinds import HIGHER_IS_BETTER
from configs.schema import ModelConfig

KEY_OF_RULE = {
    "calibration error": "gate.calibration.at_most",
    "gain over the champion (refresh)": "gate.refresh",
    "gain over version": "gate.refresh",
    "gain": "gate.gain",
    "fairness: ": "gate.fairness",
    "latency of one row": "gate.budgets.one_row_ms",
    "latency of a thousand rows": "gate.budgets.thousand_rows_ms",
    "size, MB": "gate.budgets.size_mb",
    "mean move of predictions": "gate.refit.max_move",
}
"""The key of model.yaml with the limit of a rule, by the beginning of the rule's name. Other rules are about the candidates."""


def advice(verdicts: Sequence[Mapping[str, Any]], config: ModelConfig) -> str:
    """Return what to change after a refused training; empty if every rule passed.

    The rule that has to be changed first is described: one that could not be judged, then one about the model itself, then a limit.

    Args:
        verdicts: The rules, as in the ledger's evidence.
        config: The model's config.
    """
    failed = [verdict for verdict in verdicts if not verdict["passed"]]
    if not failed:
        return ""
    if "beats the prior on" in failed[0]["rule"]:
        best = min(failed, key=_value)
        return _no_better("validation splits", _value(best), best["threshold"], config)
    for describe in (_not_judged, _not_better, _limit):
        if texts := [text for verdict in failed if (text := describe(verdict, config))]:
            return texts[0]
    return f"{failed[0]['rule']}: {failed[0]['note']}"


def key_of_rule(rule: str) -> str:
    """Return the key of model.yaml with the limit of a rule, or `training.candidates`."""
    name = rule.removeprefix("refit: ").removeprefix("shadow: ")
    if name.startswith("floor: "):
        return f"gate.floor.{name.split(': ')[1]}"
    return next((key for start, key in KEY_OF_RULE.items() if name.startswith(start)), "training.candidates")


def _value(verdict: Mapping[str, Any]) -> float:
    return float("inf") if verdict["value"] is None else float(verdict["value"])


def _not_judged(verdict: Mapping[str, Any], config: ModelConfig) -> str:
    """Describe a rule that could not be judged: the minimum that the holdout does not reach."""
    if verdict["outcome"] != "could not be judged":
        return ""
    held, note = span_text(config.training.window.holdout), verdict["note"]
    longer = f"lengthen training.window.holdout ({held})"
    if match := re.match(r"(\d+) labelled rows, gate.min_rows is (\d+)", note):
        lower = f"set it to at most {match[1]}, or " if int(match[1]) >= 2 else ""
        return f"gate.min_rows is {match[2]}, the holdout has {match[1]} labelled rows; {lower}{longer}"
    if match := re.match(r"(\d+) blocks?\b.*", note):
        least = config.gate.gain.min_blocks
        lower = f"set it to at most {match[1]}, or " if int(match[1]) >= 2 else ""
        return f"gate.gain.min_blocks is {least}, the holdout has {match[1]} blocks; {lower}{longer}"
    key = key_of_rule(verdict["rule"])
    if key == "gate.fairness":
        if (found := _fairness(verdict["rule"], config)) is None:
            return _without_rule(verdict)
        number, rule = found
        return (
            f"gate.fairness[{number}].min_rows is {rule.min_rows}, but the holdout's groups by {rule.column} have fewer ({note}); "
            f"lower it, merge groups, or {longer}"
        )
    why = note or "the holdout may have outcomes of one class only"
    return f"{verdict['rule']} could not be judged on the holdout ({why}); {longer}, or remove {key}"


def _not_better(verdict: Mapping[str, Any], config: ModelConfig) -> str:
    """Describe a version that is no better than a constant prediction, or cannot predict."""
    if "better than the prior" in verdict["rule"]:
        return _no_better("holdout", _value(verdict), verdict["threshold"], config)
    if "load and query" in verdict["rule"]:
        return f"the version cannot be loaded and queried: {verdict['note']}; change training.candidates"
    return ""


def _no_better(where: str, value: float, prior: float, config: ModelConfig) -> str:
    more = config.training.window.partitions
    raised = f"raise training.window.partitions ({more})" if more else "wait for more partitions"
    return (
        f"no model predicts {config.target.column} better than a constant on the {where} ({config.target.eval_loss} {value:.4g}, the "
        f"constant has {prior:.4g}); add features that are known at {config.time}, check target.column, or {raised}"
    )


def _limit(verdict: Mapping[str, Any], config: ModelConfig) -> str:
    """Describe a limit that was not kept, and the value that would pass."""
    key, value, limit = key_of_rule(verdict["rule"]), verdict["value"], verdict["threshold"]
    if key == "training.candidates" or value is None:
        return ""
    if key in ("gate.gain", "gate.refresh"):
        return f"{verdict['rule']} is {value:.4g}, its limit {limit:.4g}; the champion is as good: wait for more partitions"
    if key == "gate.fairness":
        if (found := _fairness(verdict["rule"], config)) is None:
            return _without_rule(verdict)
        number, rule = found
        key = f"gate.fairness[{number}].at_most ({rule.metric} by {rule.column})"
    higher = key.rpartition(".")[2] in HIGHER_IS_BETTER
    passing = _rounded(value, up=not higher)
    better = "shrink the model by training.candidates" if "budgets" in key else "add features or partitions"
    side = "most" if higher else "least"
    return (
        f"{key} is {limit:.4g}, the version has {value:.4g} on the holdout; set it to at {side} {passing} if such a model is good "
        f"enough, else {better}"
    )


def _without_rule(verdict: Mapping[str, Any]) -> str:
    return f"{verdict['rule']} did not pass, and model.yaml no longer has this rule; train again"


def _fairness(rule: str, config: ModelConfig) -> tuple[int, Any] | None:
    """Return position and config of a fairness rule, by the rule's name; None if model.yaml no longer has it."""
    named = {f"fairness: {own.metric} by {own.column}": (at, own) for at, own in enumerate(config.gate.fairness)}
    return next((pair for name, pair in named.items() if rule.endswith(name)), None)


def _rounded(value: float, up: bool) -> str:
    """Return a value rounded up or down to three digits, so that the measured one is within it."""
    number = Decimal(repr(float(value)))
    unit = Decimal(1).scaleb(number.adjusted() - 2)
    rounded = number.quantize(unit, rounding=ROUND_CEILING if up else ROUND_FLOOR)
    return f"{float(rounded):g}"
