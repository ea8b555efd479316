"""When a difference is more than chance: scores of a partition against a reference, with thresholds of a stated error rate.

Rows of one day are not independent, days are much more so. So chance is what comes of dealing the blocks of both
sides anew: the blocks are pooled, as many as the partition has are drawn to play the partition, the rest play the
reference, and every signal of every column is scored again; 2,000 times, the same deal for all columns, or once
for every deal that there is. Where the blocks of one side have fewer rows than the other's, those of the other play it
with as few: fewer rows are no drift. That is a permutation test: exact where blocks are exchangeable, whatever their
size and whatever happens inside them (Lehmann and Romano 2005, 15.2; with drawn deals, Phipson and Smyth 2010), and
approximate where blocks are thinned: columns are thinned each by itself.

A check looks at many signals at once. Each is put on one scale by a tail model of its own (Pearson III through
the mean, deviation and skewness of its scores under chance), and the smallest tail probability of each deal,
among the signals that matter in it, gives the level that all must pass (Westfall and Young 1993, single-step minP):
the chance that any signal passes it is `alpha` however the columns hang together, and does not rest on the tail
model, which only shares that chance out among them. So the number of deals need not grow with that of columns, as
it must where each column counts a p-value of its own. A signal's threshold is its score at that level, or the effect
size of model.yaml if that is larger.

With few blocks there are few deals. Where there are fewer than 2 / alpha, nothing can be said with the stated
error, and nothing is: the check is "not calibrated".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, comb
from typing import Any, NamedTuple

import numpy as np

from configs.monitoring import Method
from tasks.drift.permutations import choosing, neighbours, permute_blocks, playing, pooled_sketch, summed, sums
from tasks.drift.scores import FEW, score
from tasks.drift.sketches import Column, Sketch, union
from tasks.drift.tails import Tail, beyond_the_others

MISSING, NEW, OUTSIDE = "missing", "new categories", "outside range"
CALIBRATED = 2
"""Deals that must be possible, times alpha."""


class Signal(NamedTuple):
    """One signal of one column: its score, and its scores under chance, float64 `(resamples,)`."""

    column: str
    kind: str
    score: float
    effect: float
    chance: np.ndarray


@dataclass(frozen=True)
class Alarm:
    """A signal with its threshold in the score's unit and its corrected p-value; no number where there is none.

    `p_value` is the chance that any signal of the check would be as far out in its tail. `drifted` needs both: a score
    beyond chance, and one that matters.
    """

    column: str
    kind: str
    score: float
    effect: float
    threshold: float
    p_value: float
    drifted: bool


@dataclass(frozen=True)
class Check:
    """The alarms of one comparison; `note` says why it is not calibrated, and is empty when it is."""

    alarms: tuple[Alarm, ...]
    reference_blocks: int
    current_blocks: int
    note: str = ""


def check(
    reference: Sketch,
    current: Sketch,
    methods: Mapping[str, Method],
    effects: Mapping[str, float],
    *,
    alpha: float,
    resamples: int,
    seed: int = 0,
) -> Check:
    """Score every column of the current sketch against the reference, and find what is beyond chance.

    `resamples` deals are drawn, or as many as `alpha` needs if that is more. `effects` has the effect sizes of the signals
    `missing`, `new categories` and `outside range`. Blocks of both sides must be different periods. `seed` makes the deals;
    the same inputs give the same alarms.
    """
    if both := set(reference.blocks) & set(current.blocks):
        raise ValueError(
            f"reference and partition share {len(both)} blocks, the first {min(both)}: nothing drifts from itself"
        )
    pooled, count = union([reference.of(tuple(methods)), current.of(tuple(methods))]), len(current.blocks)
    now = np.isin(pooled.blocks, current.blocks)
    roles = playing(pooled, now, seed)
    note = uncalibrated(len(pooled.blocks) - count, count, alpha)
    drawn = max(resamples, ceil(CALIBRATED / alpha))
    deals = np.empty((0, count), "int64") if note else permute_blocks(len(pooled.blocks), count, drawn, seed)
    sides = np.concatenate([np.flatnonzero(now)[None, :], deals]) if count else np.empty((1, 0), "int64")
    chosen = choosing(sides, len(pooled.blocks))  # its first row is the partition itself, the others are deals
    signals = [
        s for name, method in methods.items() for s in _signals(name, pooled, roles, now, chosen, method, effects)
    ]
    alarms = tuple(_judged(signals, alpha)) if not note else tuple(_unjudged(s) for s in signals)
    return Check(alarms, len(reference.blocks), count, note)


def uncalibrated(reference: int, current: int, alpha: float) -> str:
    """Why so many blocks on either side do not carry a check; empty when they do."""
    if not reference or not current:
        return f"not calibrated: {'the partition' if reference else 'the reference'} has no rows"
    needed, possible = CALIBRATED / alpha, comb(reference + current, current)
    if possible >= needed:
        return ""
    return (
        f"not calibrated: {current} blocks can be dealt against {reference} in {possible:,} ways, alpha {alpha:g} needs "
        f"{needed:,.0f}; use a longer reference, or a shorter monitoring.block"
    )


def _signals(
    name: str,
    pooled: Sketch,
    roles: tuple[Sketch, Sketch],
    now: np.ndarray,
    chosen: Any,
    method: Method,
    effects: Mapping[str, float],
) -> list[Signal]:
    """A column's signals: its score, and the shares that a score leaves out. A signal that no deal changes is left out.

    `now` is bool `(blocks,)`, `chosen` a matrix `(1 + deals, blocks)` whose first row is `now` itself.
    """
    player, standing = (role.columns[name] for role in roles)
    near = neighbours(pooled.columns[name])
    dealt = sums(player, standing, near, chosen)
    exact, chance = _scored(pooled.columns[name], player, standing, near, dealt, now, chosen, method)
    scored = Signal(name, method.method, exact, method.threshold, chance)
    return [scored, *_shares(name, pooled, roles, dealt, chosen, effects)]


def _scored(
    column: Column,
    player: Column,
    standing: Column,
    near: np.ndarray,
    dealt: tuple[np.ndarray, np.ndarray],
    now: np.ndarray,
    chosen: Any,
    method: Method,
) -> tuple[float, np.ndarray]:
    """The exact score, and the scores of the deals, in which blocks play the partition as `player`, the reference as `standing`."""
    reference, current = (column.counts[side].sum(axis=0).astype("float64") for side in (~now, now))
    if not reference.sum() or not current.sum():
        return float("nan"), np.zeros(chosen.shape[0] - 1)
    exact = float(score(method.method, column.values, reference, current))
    if chosen.shape[0] == 1:
        return exact, np.empty(0)
    few = bool(not column.numeric or (reference > 0).sum() <= FEW)
    if method.method in ("jensenshannon", "psi") and len(near) < len(column.values):
        near = np.arange(len(column.values))  # bins of equal width are made of single values
        dealt = sums(player, standing, near, chosen)
    mine, left = (counts[1:] for counts in dealt)
    whole = pooled_sketch(column, near)
    with np.errstate(invalid="ignore", divide="ignore"):
        chance = score(method.method, whole.values, left, mine, few, whole.total)
    return exact, np.nan_to_num(chance)  # a side without a value is no distance


def _shares(
    name: str,
    pooled: Sketch,
    roles: tuple[Sketch, Sketch],
    dealt: tuple[np.ndarray, np.ndarray],
    chosen: Any,
    effects: Mapping[str, float],
) -> list[Signal]:
    """Change in the share of rows without a usable value; share of rows with a value that the reference never had."""
    players, standings = roles
    column, player, standing = (sketch.columns[name] for sketch in (pooled, players, standings))
    unusable, rows = (_left(x, chosen) for x in (standing.other.sum(axis=1), standings.rows))
    missing, every = (summed(chosen, x) for x in (player.other.sum(axis=1), players.rows))
    with np.errstate(invalid="ignore", divide="ignore"):
        moved = np.nan_to_num(np.abs(missing / every - unusable / rows))
    kind = OUTSIDE if column.numeric else NEW
    mine, left = dealt
    held = left > 0
    if column.numeric:  # everything between the smallest and the largest is in range
        held = np.maximum.accumulate(held, axis=1) & np.maximum.accumulate(held[:, ::-1], axis=1)[:, ::-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        fresh = np.nan_to_num(np.where(held, 0, mine).sum(axis=1) / every)
    return [
        Signal(name, which, float(x[0]), effects[which], x[1:])
        for which, x in ((MISSING, moved), (kind, fresh))
        if chosen.shape[0] == 1 or x.min() < x.max() or x[0] >= effects[which]
    ]


def _left(counts: np.ndarray, chosen: Any) -> np.ndarray:
    """What is left in the reference of some counts by block, in each deal."""
    return counts.sum() - summed(chosen, counts)


def _judged(signals: Sequence[Signal], alpha: float) -> list[Alarm]:
    """Thresholds and corrected p-values of signals that were dealt alike."""
    tails = [Tail(s.chance) for s in signals]
    beyond_chance = [beyond_the_others(s.chance, s.effect) for s in signals]
    least = np.sort(np.min(beyond_chance, axis=0))
    deals = len(least)
    allowed = int(alpha * (deals + 1))
    level = least[allowed - 1]
    found = []
    for tail, s in zip(tails, signals, strict=True):
        beyond = float(tail.beyond(np.array([s.score]))[0])
        p_value = (1 + int((least <= beyond).sum())) / (deals + 1)
        threshold = max(s.effect, float(np.nextafter(tail.at(level), np.inf)))
        p_value = float("nan") if np.isnan(s.score) else p_value
        found.append(Alarm(s.column, s.kind, s.score, s.effect, threshold, p_value, s.score >= threshold))
    return found


def _unjudged(s: Signal) -> Alarm:
    return Alarm(s.column, s.kind, s.score, s.effect, float("nan"), float("nan"), drifted=False)
