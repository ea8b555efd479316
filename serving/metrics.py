"""What Prometheus is told. https://prometheus.io/docs/practices/naming/"""

import functools
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)

REQUESTS = Counter("evergreen_requests", "Scoring requests by what was answered", ["model", "status"])
ROWS = Counter("evergreen_rows", "Rows that were predicted", ["model", "version", "role"])
LATENCY = Histogram("evergreen_request_seconds", "From the request's head to its answer", ["model"], buckets=SECONDS)
VERSION = Gauge("evergreen_champion_version", "Version number that answers as champion", ["model"])
CHANGES = Counter("evergreen_champion_changes", "Times that another version was taken", ["model"])
TAKEN = Counter("evergreen_versions_not_taken", "Versions that failed to load or to answer", ["model"])
LEDGER_AGE = Gauge("evergreen_ledger_age_seconds", "Since the ledger has last answered")
UNWRITTEN = Gauge("evergreen_rows_unwritten", "Answered rows that are in no journal yet")
WRITTEN = Gauge("evergreen_rows_written", "Answered rows that this process has written into journals")
SHADOW = Counter("evergreen_shadow_rows", "Rows for the challenger in the shadow", ["model", "version", "outcome"])
SHADOW_SECONDS = Histogram("evergreen_shadow_seconds", "Time for one request in the shadow", ["model"], buckets=SECONDS)
CANARY = Counter("evergreen_canary_rows", "Rows that were the challenger's", ["model", "version", "outcome"])


@functools.lru_cache(maxsize=1024)
def of(metric: Any, *labels: str) -> Any:
    """A metric with its labels set, kept, since to look them up takes longer than to count."""
    return metric.labels(*labels)
