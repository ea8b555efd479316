"""`make model FROM=s3://...`: files at an address become a model that reads them there."""

from pathlib import Path

import pytest
from upath import UPath

from configs.load import load_model
from ops.profiling.values import UnusableData
from tasks.source.rows import read_source
from tasks.storage.lake import table_digest
from tasks.storage.partitions import partition
from tests.buckets import key_variables, new_bucket
from tests.ops.profiling.test_from_data import made
from tests.unseen import orders


def test_dated_files_in_a_bucket_become_a_model(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = orders("binary", days=40)
    with new_bucket("unseen-data") as endpoint:
        for name, value in key_variables(endpoint).items():
            monkeypatch.setenv(name, value)
        for day, rows in frame.groupby(frame["ordered_at"].dt.strftime("%Y-%m-%d")):
            UPath(f"s3://unseen-data/orders/{day}.parquet").write_bytes(rows.to_parquet(index=False))
        plan, config = made(root, "s3://unseen-data/orders/*.parquet")
        assert plan.span.rows == len(frame)
        tables = config.source.views.values()
        assert {table.path for table in tables} == {"s3://unseen-data/orders/%Y-%m-%d.parquet"}
        assert {table.every for table in tables} == {"D"}
        model = load_model("unseen", root / "configs")
        assert table_digest(read_source(model, partition(model.config, plan.periods.keys[-1])))
        with pytest.raises(UnusableData, match="no file with rows is there"):
            made(root, "s3://unseen-data/other/*.parquet")
