"""A share of the keys that the challenger answers, and the budgets that end it."""

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
from serving.versions import Served
from tasks.contracts import SERVING, Promotion
from tasks.errors import StaleDecision
from tasks.resources import Resources

log = logging.getLogger("serving")

REMEMBERED = 2_000
"""The newest requests that the budgets are judged by."""
HOPELESS, TIMES = 10, 3
"""So many times p99_ms, so often, need no more requests to be judged."""


def chosen(model: str, keys: list[str], share: float) -> np.ndarray:
    """Which keys are the challenger's, bool `(keys,)`: the same ones on every host, as long as the share is the same.

    A key is chosen when its hash, as a fraction of the largest one, lies below the share; so a larger share keeps those that
    were chosen before.
    """
    return np.array([_fraction(f"{model}\0{key}") < share for key in keys], dtype=bool)


def _fraction(text: str) -> float:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64


class Trial:
    """What one challenger's share of requests has shown on this host."""

    def __init__(self, rule: Canary, served: Served) -> None:
        self.rule, self.served = rule, served
        self.requests = 0
        self.broken = ""
        """Which budget broke; empty while it holds. From then on it is given no rows."""
        self._seen: deque[tuple[int, int, float]] = deque(maxlen=REMEMBERED)
        self._lock = threading.Lock()

    def tell(self, rows: int, failed: int, ms: float) -> None:
        """Count one request's rows, those that it failed to answer, and the time that it took."""
        with self._lock:
            self.requests += 1
            self._seen.append((rows, failed, ms))
            hopeless = ms > HOPELESS * self.rule.p99_ms and self._hopeless() >= TIMES
            due = self.requests >= self.rule.min_requests and (failed or self.requests % 20 == 0)
            if not self.broken and (hopeless or due):
                self.broken = self._judged()

    def _hopeless(self) -> int:
        return sum(ms > HOPELESS * self.rule.p99_ms for _, _, ms in self._seen)

    def _judged(self) -> str:
        rows, failed, slow = self._counts()
        if failed / max(rows, 1) > self.rule.max_error_share:
            return f"{failed} of {rows} rows failed, more than max_error_share = {self.rule.max_error_share:g} allows"
        if slow > self.rule.p99_ms:
            return f"the 99th percentile of its latency is {slow:.1f} ms, above p99_ms = {self.rule.p99_ms:g}"
        return ""

    def _counts(self) -> tuple[int, int, float]:
        """Of the newest requests: rows, rows that failed, and the 99th percentile of milliseconds. The lock is held."""
        if not self._seen:
            return 0, 0, 0.0
        rows, failed, taken = zip(*self._seen, strict=True)
        return sum(rows), sum(failed), float(np.percentile(taken, 99))

    def evidence(self) -> dict[str, object]:
        """What the ledger keeps of it."""
        with self._lock:
            rows, failed, slow = self._counts()
        return {
            "canary": self.rule.model_dump(),
            "requests": self.requests,
            "rows": rows,
            "failed": failed,
            "p99_ms": round(slow, 3),
            "digest": self.served.pick.digest,
        }


def begin(trial: Trial, staged: Promotion, res: Resources) -> None:
    """Write down, once, that a challenger gets its share; other hosts may have done so."""
    later = [row for row in res.ledger.promotions() if row.sequence > staged.sequence]
    if not any(row.action == "canary" and row.version == staged.version for row in later):
        reason = f"gets {trial.rule.share:.1%} of the requests, by promotion.canary of model.yaml"
        _append("canary", reason, trial, staged, res)


def refuse(trial: Trial, res: Resources) -> bool:
    """Refuse a challenger whose budget has broken, if it still is one. False where the ledger does not take it: try again."""
    staged = res.ledger.challenger()
    if staged is None or staged.version != trial.served.version:
        return True
    log.error("%s: challenger %s is refused: %s", staged.model, staged.version, trial.broken)
    return _append("refuse", f"its share of requests broke a budget: {trial.broken}", trial, staged, res)


def _append(action: Literal["canary", "refuse"], reason: str, trial: Trial, staged: Promotion, res: Resources) -> bool:
    champion = res.ledger.champion()
    row = replace(
        staged,
        action=action,
        by=SERVING,
        reason=reason,
        evidence=trial.evidence(),
        previous=champion.version if champion else None,
        against=champion.sequence if champion else 0,
        flow_run="",
        assurance="automation",
    )
    try:
        with suppress(StaleDecision):  # it is no challenger any more
            res.ledger.append(row)
        return True
    except sa.exc.SQLAlchemyError as error:  # as for a user who may only read: the share ends all the same
        log.error("the ledger does not take `%s` of version %s: %s", action, staged.version, type(error).__name__)
        return False
