"""How many cores the libraries of this process use. One setting is for all of them, also where partitions run side by side.

DuckDB and XGBoost are told where they are called; BLAS, OpenMP and Arrow have pools of the whole process.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Within it the pools that are there already have so many threads at most, and then again what they had."""
    import pyarrow as pa

    before = pa.cpu_count()
    pa.set_cpu_count(min(before, threads))
    try:
        with threadpool_limits(threads):
            yield
    finally:
        pa.set_cpu_count(before)
