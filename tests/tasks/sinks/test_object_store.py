"""Files and Delta tables in an object store, with options from a connection or from the library's own variables."""

import json
import os

import pandas as pd
import pytest
from deltalake import DeltaTable
from upath import UPath

from tests.flows.test_backfill_elsewhere import bucket  # noqa: F401  (a fixture)
from tests.tasks.sinks.targets import DAY, NEXT, configure, predict, send_all
from tests.tasks.source.databases import ADDRESS

pytestmark = pytest.mark.slow
NAMES = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
FILES = "EVERGREEN_CONNECTION_FILES"


def test_delta_tables_and_files_in_a_bucket_have_each_row_once(tiny, bucket, monkeypatch):  # noqa: F811
    root, variables = bucket.rpartition("/")[0], {name: os.environ[name] for name in NAMES} | {"AWS_ALLOW_HTTP": "true"}
    options = {"key": "testing", "secret": "testing", "endpoint_url": variables["AWS_ENDPOINT_URL"]}
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    by_variables = {"lake": {"delta": f"{root}/one"}, "files": {"path": f"{root}/one-{{partition}}.parquet"}}
    publish_twice(tiny, by_variables, 1)
    for name in (*NAMES, "AWS_ALLOW_HTTP"):
        monkeypatch.delenv(name)
    monkeypatch.setenv(ADDRESS, json.dumps(variables))
    monkeypatch.setenv(FILES, json.dumps(options))
    lake = {"delta": f"{root}/two", "connection": "warehouse"}
    publish_twice(
        tiny, {"lake": lake, "files": {"path": f"{root}/two-{{partition}}.parquet", "connection": "files"}}, 3
    )
    folder = UPath(root, use_listings_cache=False, **options)
    for number, name in enumerate(("one", "two")):
        delta = DeltaTable(f"{root}/{name}", storage_options=variables).to_pandas()
        files = pd.concat(pd.read_parquet(path.open("rb")) for path in folder.glob(f"{name}-*.parquet"))
        for rows in (delta, files):
            counts = rows.groupby(["partition", "model_version"]).size().to_dict()
            assert counts == {(DAY, str(2 * number + 2)): 50, (NEXT, str(2 * number + 1)): 100}


def publish_twice(tiny, publish: dict, version: int) -> None:
    """Send two days to two places, and then other rows of one of them."""
    res = configure(tiny, publish=publish)
    for key in (DAY, NEXT):
        predict(res, key, 100, str(version))
    assert len(send_all(res)) == 4
    predict(res, DAY, 50, str(version + 1))
    assert [sent.rows for sent in send_all(res)] == [50, 50]
    assert "testing" not in "".join(path.read_text() for path in (res.lake.root / "sent").rglob("*.json"))
