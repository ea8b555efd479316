"""Limit the threads of the libraries that have one pool per process: BLAS, OpenMP and Arrow.

DuckDB and XGBoost take their number of threads as an argument of each call.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def limit_threads(threads: int) -> Iterator[None]:
    """Limit the existing thread pools within the body, and restore them afterwards."""
    import pyarrow as pa

    before = pa.cpu_count()
    pa.set_cpu_count(min(before, threads))
    try:
        with threadpool_limits(threads):
            yield
    finally:
        pa.set_cpu_count(before)
