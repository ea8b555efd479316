"""Pin the contents that a training reads, so that it reads the same ones throughout, and `reproduce` can read them again."""

import copy
from typing import TypeVar

from tasks.contracts import Stage, Window
from tasks.errors import PartitionChanged
from tasks.resources import Resources
from tasks.storage.earlier import Contents, PinnedLake, pin

R = TypeVar("R", bound=Resources)
STAGES = (Stage.VALID, Stage.LABELS)
"""What a training reads of each partition of its window."""
ATTEMPTS = 5


def contents_of(window: Window, res: Resources) -> Contents:
    """Return the digests of the valid rows and labels of a window.

    Raises:
        MissingPartition: A partition was not validated, or its labels were not collected.
    """
    return {stage: {key: res.lake.done(stage, key).digest for key in window.partitions} for stage in STAGES}


def pin_window(window: Window, res: R) -> R:
    """Return resources whose lake has the window's partitions as they are now, whatever is written to them later.

    Args:
        window: The window, with its labels collected.
        res: The model's resources. Those of a replay are returned as they are: its partitions do not change.

    Raises:
        MissingPartition: A partition was not validated, or its labels were not collected.
        PartitionChanged: Other processes write the partitions again and again.
    """
    if not res.lake.keeps_earlier:
        return res
    for _ in range(ATTEMPTS):
        contents = contents_of(window, res)
        pin(res.lake, contents)
        if contents_of(window, res) == contents:  # none was replaced before it was pinned
            return with_contents(contents, res, strict=True)
    raise PartitionChanged(
        f"{window.model}: the partitions of {window.span} are being written; train again when that has ended"
    )


def with_contents(contents: Contents, res: R, strict: bool = False) -> R:
    """Return resources whose lake has these contents. One that is not kept is the current one or, if `strict`, an error."""
    pinned = copy.copy(res)
    pinned.lake = PinnedLake(res.lake, contents, strict)
    return pinned
