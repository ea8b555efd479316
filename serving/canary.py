"""The canary: a challenger predicts a share of the keys until it exceeds an error or latency budget."""

import logging
import threading
from collections import deque
from contextlib import suppress
from dataclasses import replace
from hashlib import blake2b
from typing import Literal

import numpy as np
import sqlalchemy as sa

from configs.gate import Canary
from serving.versions import ServedVersion
from tasks.contracts import SERVING, Promotion
from tasks.errors import StaleDecision
from tasks.resources import Resources

log = logging.getLogger("serving")

MAX_REQUESTS = 2_000
"""The budgets apply to this number of newest requests."""
EXTREME_FACTOR, EXTREME_COUNT = 10, 3
"""`EXTREME_COUNT` requests that take `EXTREME_FACTOR` times p99_ms stop the canary before it has min_requests."""


def canary_mask(model: str, keys: list[str], share: float) -> np.ndarray:
    """Return which keys the canary predicts, bool (keys,): the same on every host for the same share.

    A key is selected if its hash, as a fraction of the largest possible one, is below the share. A larger share keeps the keys of a
    smaller one.
    """
    return np.array([_fraction(f"{model}\0{key}") < share for key in keys], dtype=bool)


def _fraction(text: str) -> float:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64


class CanaryRun:
    """Errors and latency of one challenger's share of the requests on this host."""

    def __init__(self, rule: Canary, served: ServedVersion) -> None:
        self.rule, self.served = rule, served
        self.requests = 0
        self.broken = ""
        """Which budget was exceeded, else empty. From then on the challenger gets no rows."""
        self._recent: deque[tuple[int, int, float]] = deque(maxlen=MAX_REQUESTS)
        self._lock = threading.Lock()

    def record(self, rows: int, failed: int, ms: float) -> None:
        """Add one request: its rows, how many of them failed, and its duration in milliseconds. Then check the budgets."""
        with self._lock:
            self.requests += 1
            self._recent.append((rows, failed, ms))
            extreme = ms > EXTREME_FACTOR * self.rule.p99_ms and self._count_extreme() >= EXTREME_COUNT
            due = self.requests >= self.rule.min_requests and (failed or self.requests % 20 == 0)
            if not self.broken and (extreme or due):
                self.broken = self._exceeded_budget()

    def _count_extreme(self) -> int:
        return sum(ms > EXTREME_FACTOR * self.rule.p99_ms for _, _, ms in self._recent)

    def _exceeded_budget(self) -> str:
        rows, failed, p99 = self._counts()
        if failed / max(rows, 1) > self.rule.max_error_share:
            return f"{failed} of {rows} rows failed, more than max_error_share = {self.rule.max_error_share:g} allows"
        if p99 > self.rule.p99_ms:
            return f"the 99th percentile of its latency is {p99:.1f} ms, above p99_ms = {self.rule.p99_ms:g}"
        return ""

    def _counts(self) -> tuple[int, int, float]:
        """Return rows, failed rows and the 99th percentile of milliseconds of the newest requests. The caller holds the lock."""
        if not self._recent:
            return 0, 0, 0.0
        rows, failed, times = zip(*self._recent, strict=True)
        return sum(rows), sum(failed), float(np.percentile(times, 99))

    def evidence(self) -> dict[str, object]:
        """Return the counts as JSON for the ledger and `/models/<model>`."""
        with self._lock:
            rows, failed, p99 = self._counts()
        return {
            "canary": self.rule.model_dump(),
            "requests": self.requests,
            "rows": rows,
            "failed": failed,
            "p99_ms": round(p99, 3),
            "digest": self.served.ref.digest,
        }


def record_start(canary: CanaryRun, staged: Promotion, res: Resources) -> None:
    """Append a `canary` row to the ledger, unless this or another host has already done so."""
    later = [row for row in res.ledger.promotions() if row.sequence > staged.sequence]
    if not any(row.action == "canary" and row.version == staged.version for row in later):
        reason = f"gets {canary.rule.share:.1%} of the requests, as set by promotion.canary in model.yaml"
        _append("canary", reason, canary, staged, res)


def refuse(canary: CanaryRun, res: Resources) -> bool:
    """Refuse a challenger that exceeded a budget, if it still is the challenger. Returns False if the ledger failed: call it again."""
    staged = res.ledger.challenger()
    if staged is None or staged.version != canary.served.version:
        return True
    about = {"model": staged.model, "version": staged.version}
    log.error("%s: challenger %s is refused: %s", staged.model, staged.version, canary.broken, extra=about)
    return _append("refuse", f"it exceeded a budget of the canary: {canary.broken}", canary, staged, res)


def _append(
    action: Literal["canary", "refuse"], reason: str, canary: CanaryRun, staged: Promotion, res: Resources
) -> bool:
    champion = res.ledger.champion()
    row = replace(
        staged,
        action=action,
        by=SERVING,
        reason=reason,
        evidence=canary.evidence(),
        previous=champion.version if champion else None,
        against=champion.sequence if champion else 0,
        flow_run="",
        assurance="automation",
    )
    try:
        with suppress(StaleDecision):  # it is no longer the challenger
            res.ledger.append(row)
        return True
    except sa.exc.SQLAlchemyError as error:  # such as a read-only user: the canary ends nevertheless
        name, about = type(error).__name__, {"model": staged.model, "version": staged.version}
        log.error("the ledger cannot record `%s` of version %s: %s", action, staged.version, name, extra=about)
        return False
