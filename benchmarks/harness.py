"""Time two ways of doing the same side by side, and give their ratio. CPU seconds of this process and its threads."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One comparison: `ratio` is the median of ours over the median of theirs, `spread` the range over the rounds."""

    subject: str
    against: str
    ours: float
    theirs: float
    ratio: float
    spread: tuple[float, float]


def compare(
    subject: str, against: str, ours: Callable[[], object], theirs: Callable[[], object], rounds: int = 5
) -> Row:
    """Run both once to warm up, then in turns, so that a noisy machine is noisy to both."""
    ours(), theirs()
    pairs = [(_cpu(ours), _cpu(theirs)) for _ in range(rounds)]
    mine, other = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratios = [a / b for a, b in pairs]
    return Row(subject, against, mine, other, mine / other, (min(ratios), max(ratios)))


def _cpu(call: Callable[[], object]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began
