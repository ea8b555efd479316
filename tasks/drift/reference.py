"""What columns of a partition are compared with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.drift.sketches import Sketch

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Reference:
    """Columns and what they are compared with."""

    columns: tuple[str, ...]
    description: str
    sketch: Sketch
    rows: Callable[[], "pd.DataFrame"]
    """Returns a sample of the reference's rows, for the report."""
    missing_reason: str = ""
    """Why there is nothing to compare with, empty if there is."""


def sample_evenly(rows: "pd.DataFrame", max_rows: int) -> "pd.DataFrame":
    """About `max_rows` of the rows, evenly spaced, in their order."""
    return rows.iloc[:: max(1, len(rows) // max_rows)].reset_index(drop=True)
