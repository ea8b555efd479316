"""The limits of a version's evidence, which its card and its documentation list."""

from collections.abc import Mapping
from typing import Any

from tasks.contracts import Training, Version
from tasks.resources import LiveResources


def warnings(importance: Mapping[str, float], lineage: Mapping[str, Any]) -> list[str]:
    """List features without importance, and files with uncommitted changes."""
    lines = []
    if unimportant := [name for name, value in importance.items() if value <= 0]:
        lines.append(
            f"These features have no importance on the judged rows, shuffling them does not raise the loss: "
            f"{', '.join(unimportant)}. If that is so for several versions, remove them from new ones (`features.retired`)."
        )
    if changed := lineage.get("uncommitted"):
        lines.append(f"These files differed from the git commit at training: {', '.join(changed[:8])}.")
    return lines


def limits(training: Training, version: Version, labelled: int, res: LiveResources) -> list[str]:
    """List the limits of a version's evidence. `labelled` is the number of rows in its training window."""
    config, comparison, window = res.config, training.comparison, training.window
    assert comparison
    small = [s for s in comparison.segments if config.gate.segments and s.rows < config.gate.segments.min_rows]
    lines = [
        f"It was trained on rows from {version.window_start:%Y-%m-%d} to {version.window_end:%Y-%m-%d} only, not on other seasons.",
        f"The intervals come from {comparison.blocks} blocks of time. They do not cover changes that are slower than that.",
        "A null and a category that is not in the training data are treated as missing.",
    ]
    if labelled > version.rows:
        lines.append(
            f"It was fitted on a sample of {version.rows:,} of {labelled:,} labelled rows, because of training.window.max_rows. "
            f"The sample is proportional to the partitions, with seed {config.training.seed}."
        )
    if window.passed_over:
        lines.append(f"Blocked partitions were skipped: {', '.join(window.passed_over)}.")
    if small and config.gate.segments:
        names = ", ".join(s.name for s in small[:12])
        lines.append(f"Segments of fewer than {config.gate.segments.min_rows} rows are shown, but not judged: {names}.")
    if not config.gate.fairness:
        lines.append("No groups are declared in model.yaml, so fairness between groups was not judged.")
    if version.recipe.calibration == "none" and config.target.kind != "regression":
        lines.append(
            "Probabilities are the estimator's own: calibration did not improve them significantly, or is not configured."
        )
    return lines
