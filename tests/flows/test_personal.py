"""A marker in personal columns: as key, category, group and number. It is in the lake's rows and nowhere else."""

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from prefect.client.orchestration import get_client

from flows.assess import assess
from flows.backfill import backfill
from flows.process import process
from flows.retrain import retrain
from flows.train import train
from tasks.contracts import Stage
from tasks.resources import open_resources
from tasks.storage.personal import hashed
from tests.conftest import day_file, set_up_tiny
from tests.personal import MARKERS, NUMBER, ROWS, TEXT, marked, set_up_personal

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tiny_source: Path, tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("personal")
    with pytest.MonkeyPatch.context() as patch:
        set_up_tiny(tiny_source, folder, f"sqlite:///{folder}/mlflow.db", patch)
        set_up_personal(folder, 18)
        backfill(model="tiny", start="2024-03-01", end="2024-03-10")
        train(model="tiny", reason="first champion")
        process(model="tiny", partition="2024-03-11")
        assess(model="tiny", partition="2024-03-11")
        backfill(model="tiny", start="2024-03-12", end="2024-03-17", mode="all")
        process(model="tiny", partition="2024-03-18", return_state=True)
        retrain(model="tiny", partition="2024-03-18", by="ann", reason="test", return_state=True)
        broken = marked(18).astype({"distance": object})
        broken["distance"] = [f"{TEXT} is no number"] * len(broken)
        broken.to_parquet(day_file(folder, 18), index=False)
        process(model="tiny", partition="2024-03-19", return_state=True)
        yield folder


def texts(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield name and content of every file but the source, the lake's rows and the model files, Parquet files as text."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder)
        if name.parts[0] in ("data", "configs") or path.name in ("model.skops", "personal.key"):
            continue
        if path.suffix == ".parquet":
            if name.parts[2] not in ROWS:
                yield str(name), pd.read_parquet(path).to_csv()
            elif name.parts[2] == "quarantine":
                yield str(name), pd.read_parquet(path)["reasons"].to_csv()
        elif path.suffix == ".db":
            with sqlite3.connect(path) as database:
                yield str(name), "\n".join(database.iterdump())
        else:
            yield str(name), path.read_bytes().decode("utf-8", "replace")


def test_no_file_but_rows_has_a_personal_value(folder):
    names = []
    for name, text in texts(folder):
        names.append(name)
        for marker in MARKERS:
            at = text.find(marker)
            assert at < 0, (name, text[max(0, at - 200) : at + 100])
    found = " ".join(names)
    parts = ("lake/tiny/sketches", "monitoring/2024-03-11.html", ".evergreen/evidently", ".evergreen/pages/tiny.html")
    for part in (*parts, "ledger.db", "mlflow.db"):
        assert part in found


def test_nothing_on_prefects_server_has_a_personal_value(folder):
    with get_client(sync_client=True) as client:
        for route in ("artifacts", "logs", "flow_runs", "task_runs"):
            offset = 0
            while page := client._client.post(f"/{route}/filter", json={"offset": offset, "limit": 200}).json():
                for item in page:
                    text = str(item)
                    assert not any(marker in text for marker in MARKERS), (route, text[:3000])
                offset += len(page)
            assert offset
        body = {"filter": {"event": {"prefix": ["evergreen."]}}}
        events = client._client.post("/events/filter", json=body).text
        assert not any(marker in events for marker in MARKERS)


def test_hashes_are_shown_instead_and_rows_keep_their_values(folder):
    lake = open_resources("tiny").lake
    rows = lake.read(Stage.RAW, "2024-03-11")
    assert f"{TEXT} town" in set(rows["city"])
    record = lake.done(Stage.VALID, "2024-03-11")
    reasons = " ".join(record.data["reasons"])
    assert f"city {hashed(f'{TEXT} forbidden')}" in reasons
    assert f"distance {hashed(NUMBER * 100)} is above" in reasons
    assert f"(parcel {hashed(f'{TEXT} key 0 of 10')}" in str(record.data["findings"])
    page = (folder / "lake" / "tiny" / "monitoring" / "2024-03-11.html").read_text()
    assert hashed(f"{TEXT} town") in page
    assert re.search(r"distance", page)
    sketch = lake.read(Stage.SKETCHES, "2024-03-11")
    assert hashed(f"{TEXT} town") in set(sketch["text"])
    blocked = lake.record(Stage.RAW, "2024-03-19")
    assert blocked is not None
    assert blocked.status == "blocked"
