"""A share of the keys that the challenger answers, and the budgets that end it."""

import threading
from collections import deque
from hashlib import blake2b

import numpy as np

from configs.gate import Canary
from serving.versions import Served

REMEMBERED = 10_000
"""Latencies of the newest requests that the 99th percentile is of."""


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
        self.requests = self.rows = self.failed = 0
        self.broken = ""
        """Which budget broke; empty while it holds. From then on it is given no rows."""
        self._taken: deque[float] = deque(maxlen=REMEMBERED)
        self._lock = threading.Lock()

    def tell(self, rows: int, failed: int, ms: float) -> None:
        """Count one request's rows, those that it failed to answer, and the time that it took."""
        with self._lock:
            self.requests, self.rows, self.failed = self.requests + 1, self.rows + rows, self.failed + failed
            self._taken.append(ms)
            if not self.broken and self.requests >= self.rule.min_requests and (failed or self.requests % 20 == 0):
                self.broken = self._judged()

    def _judged(self) -> str:
        share, slow = self.failed / max(self.rows, 1), self.p99_ms
        if share > self.rule.max_error_share:
            return f"{self.failed} of {self.rows} rows failed, more than max_error_share = {self.rule.max_error_share:g} allows"
        if slow > self.rule.p99_ms:
            return f"the 99th percentile of its latency is {slow:.1f} ms, above p99_ms = {self.rule.p99_ms:g}"
        return ""

    @property
    def p99_ms(self) -> float:
        return float(np.percentile(list(self._taken), 99)) if self._taken else 0.0

    def evidence(self) -> dict[str, object]:
        """What the ledger keeps of it."""
        return {
            "canary": self.rule.model_dump(),
            "requests": self.requests,
            "rows": self.rows,
            "failed": self.failed,
            "p99_ms": round(self.p99_ms, 3),
            "digest": self.served.pick.digest,
        }
