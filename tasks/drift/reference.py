"""What some columns of a partition are compared with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.drift.sketches import Sketch

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Reference:
    """Some columns and what they are compared with. `told` says it to people, `gap` why there is nothing."""

    columns: tuple[str, ...]
    told: str
    sketch: Sketch
    rows: Callable[[], "pd.DataFrame"]
    """A sample of its rows, for the page."""
    gap: str = ""


def spaced(rows: "pd.DataFrame", most: int) -> "pd.DataFrame":
    """About `most` of the rows, evenly spaced in their order."""
    return rows.iloc[:: max(1, len(rows) // most)].reset_index(drop=True)
