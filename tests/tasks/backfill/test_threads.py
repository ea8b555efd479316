"""The pools of a process keep to a limit while it holds, and not longer."""

import numpy as np
import pyarrow as pa
import pytest
from threadpoolctl import threadpool_info

from configs.load import load_model
from tasks.backfill.threads import limited
from tasks.backfill.workers import Workers
from tasks.source.session import connect


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


@pytest.mark.parametrize("threads", [1, 3])
def test_duckdb_has_so_many_threads(tiny, threads):
    model = load_model("tiny")
    files = {name: sorted((tiny / "data").glob(f"{name}-*.parquet")) for name in model.config.source.views}
    with connect(model, files, threads=threads) as con:
        assert con.execute("SELECT current_setting('threads')").fetchone() == (threads,)


def test_partitions_side_by_side_in_one_process_share_its_cores_and_those_of_a_cluster_have_their_own():
    assert [Workers("threads", count).threads_each(4) for count in (1, 2, 3, 8)] == [4, 2, 1, 1]
    assert Workers("dask", 8).threads_each(4) == 4
