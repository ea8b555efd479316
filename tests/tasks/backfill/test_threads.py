"""Thread pools of a process have a limit within the context, and are restored afterwards."""

import numpy as np
import pyarrow as pa
import pytest
from threadpoolctl import threadpool_info

from configs.load import load_model
from tasks.backfill.threads import limit_threads
from tasks.backfill.workers import Workers
from tasks.source.session import connect


def pools() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info()}


def test_blas_openmp_and_arrow_are_limited_and_restored():
    assert np.ones((2, 2)).dot(np.ones((2, 2))).sum() == 8  # loads BLAS
    before = pools(), pa.cpu_count()
    with limit_threads(1):
        assert pools() == {1}
        assert pa.cpu_count() == 1
    assert (pools(), pa.cpu_count()) == before


def test_a_limit_never_raises_the_number_of_threads():
    before = pa.cpu_count()
    with limit_threads(before + 7):
        assert pa.cpu_count() == before


@pytest.mark.parametrize("threads", [1, 3])
def test_duckdb_uses_the_given_number_of_threads(tiny, threads):
    model = load_model("tiny")
    files = {name: sorted((tiny / "data").glob(f"{name}-*.parquet")) for name in model.config.source.views}
    with connect(model, files, threads=threads) as con:
        assert con.execute("SELECT current_setting('threads')").fetchone() == (threads,)


def test_parallel_partitions_of_one_process_share_its_threads_and_cluster_workers_do_not():
    assert [Workers("threads", count).threads_per_partition(4) for count in (1, 2, 3, 8)] == [4, 2, 1, 1]
    assert Workers("dask", 8).threads_per_partition(4) == 4
