"""Explain a change of the loss by the columns that drifted."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tasks.contracts import ColumnDrift, Drift, Promotion
from tasks.drift.columns import PREDICTION
from tasks.drift.loss_change import LossChange, loss_change
from tasks.drift.sketches import Sketch
from tasks.errors import UnknownVersion
from tasks.models.metrics import row_loss
from tasks.models.targets import outcomes, prediction_array
from tasks.resources import Resources
from tasks.steps.estimate import MIN_ROWS
from tasks.steps.holdout import labelled_holdout
from tasks.storage.blocks import labelled_blocks
from tasks.storage.personal import hide_categories

ERRORS = 2.0
"""Standard errors beyond which a change of the loss is not taken as noise."""


def add_loss_changes(drift: Drift, current: Sketch, champion: Promotion, res: Resources) -> Drift:
    """Add to each drifted column how much its shift alone changes the loss on the champion's holdout, and put the largest change first."""
    names = {c.column for c in drift.columns if c.drifted and c.column in current.columns}
    if not names:
        return drift
    changes, mean = _loss_changes(sorted(names), current, champion, res)
    columns = tuple(
        _with_change(c, changes[c.column]) if c.drifted and c.column in changes else c for c in drift.columns
    )
    return replace(drift, columns=tuple(sorted(columns, key=_by_change)), holdout_loss=mean)


def _loss_changes(
    names: list[str], current: Sketch, champion: Promotion, res: Resources
) -> tuple[dict[str, LossChange], float | None]:
    """The change of the loss by column, and the mean loss on the holdout, None if it has too few labels."""
    config = res.config
    try:
        rows = labelled_holdout(champion, res)
    except UnknownVersion as error:
        return dict.fromkeys(names, LossChange(note=f"unknown: {error}")), None
    if len(rows) < MIN_ROWS:
        note = f"unknown: {len(rows)} labelled rows in the holdout, {MIN_ROWS} are needed"
        return dict.fromkeys(names, LossChange(note=note)), None
    losses = row_loss(outcomes(rows, config.target), prediction_array(rows, config.target), config.target)
    if not np.isfinite(losses).all():
        return dict.fromkeys(names, LossChange(note="unknown: a loss on the holdout is not finite")), None
    shown, blocks = hide_categories(config, rows), labelled_blocks(rows, config)
    absent = LossChange(note="unknown: the holdout does not have this column")
    changes = {n: loss_change(shown[n], losses, blocks, current.columns[n]) if n in shown else absent for n in names}
    return changes, float(losses.mean())


def _with_change(c: ColumnDrift, change: LossChange) -> ColumnDrift:
    return replace(c, loss_change=change.value, loss_error=change.error, loss_note=change.note)


def _by_change(c: ColumnDrift) -> tuple[bool, bool, float]:
    """Sort key: drifted columns first, the largest change of the loss first. Others, and unknown changes, keep their order."""
    return not c.drifted, c.loss_change is None, -abs(c.loss_change or 0.0)


def loss_text(c: Mapping[str, Any]) -> str:
    """Describe how much a column of a monitoring record changes the loss, with twice its standard error; empty if it did not drift."""
    if c.get("loss_change") is None:
        return str(c.get("loss_note", ""))
    return f"{c['loss_change']:+.3f} ± {ERRORS * c['loss_error']:.3f}"


def explanation(columns: Sequence[Mapping[str, Any]], rise: float | None, kind: str) -> str:
    """Describe which drifted column explains most of a change of the loss; empty if there is no change or no effect is known.

    Args:
        columns: The drifted columns of a monitoring record.
        rise: The change of the loss since the holdout; None if it is unknown.
        kind: What it is, `estimated` or `realised`.
    """
    known = [c for c in columns if c.get("loss_change") is not None]
    if not known or rise is None or round(rise, 3) == 0:
        return ""
    whole = f"the {kind} loss {'rise' if rise > 0 else 'fall'} of {abs(rise):.3f}"
    causes = [c for c in known if c["loss_change"] * rise > 0 and abs(c["loss_change"]) > ERRORS * c["loss_error"]]
    if not causes:
        return f"no drifted column explains {whole}"
    top = max(
        causes, key=lambda c: (c["column"] != PREDICTION, abs(c["loss_change"]))
    )  # predictions follow from the features
    change = abs(float(top["loss_change"]))
    if change > abs(rise):
        return f"{top['column']} alone would change the loss by {top['loss_change']:+.3f}, more than {whole}"
    return f"{top['column']} explains {change:.3f} of {whole}"
