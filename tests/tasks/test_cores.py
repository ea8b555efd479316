"""The pools of a process keep to a limit while it holds, and not longer."""

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_info

from tasks.cores import limited


def pools() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info()}


def test_blas_openmp_and_arrow_have_so_many_threads_and_then_what_they_had():
    assert np.ones((2, 2)).dot(np.ones((2, 2))).sum() == 8  # BLAS is there
    before = pools(), pa.cpu_count()
    with limited(1):
        assert pools() == {1}
        assert pa.cpu_count() == 1
    assert (pools(), pa.cpu_count()) == before


def test_a_limit_raises_nothing():
    before = pa.cpu_count()
    with limited(before + 7):
        assert pa.cpu_count() == before
