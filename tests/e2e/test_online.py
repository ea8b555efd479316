"""Later months of flights, sent as requests to a running stack: drift becomes a fact, and an automation starts the decision.

It takes some minutes.
"""

import json
import time
import urllib.request
from collections.abc import Iterator

import pytest
import yaml

from configs.load import load_model
from tasks.source.rows import read_source
from tasks.storage.partitions import partition
from tests.copies import Copy

pytestmark = [pytest.mark.e2e, pytest.mark.servers, pytest.mark.slow]
MONTHS, ROWS = ("2013-04", "2013-05"), 2000
"""The README's table shows drift in both, against the champion of March."""


@pytest.fixture(scope="module")
def online(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    """Flights with a champion of January to March. From April on its rows are the requests to serving."""
    copy = Copy(tmp_path_factory.mktemp("online"))
    copy.add_data()
    path = copy.folder / "configs" / "flights" / "model.yaml"
    content = yaml.safe_load(path.read_text())
    content["source"]["served_from"] = MONTHS[0]
    path.write_text(yaml.safe_dump(content))
    try:
        copy.up()
        copy.deployment("backfill/manual", model="flights", start="2013-01", end="2013-03")
        copy.deployment("train/flights", reason="first champion")
        yield copy
    finally:
        copy.down()


def send_rows(copy: Copy, month: str) -> str:
    """Send a month's rows as requests; returns the version that answered the last one."""
    model = load_model("flights")
    rows = read_source(model, partition(model.config, month)).to_pandas()
    rows[model.config.time] = rows[model.config.time].map(lambda moment: moment.isoformat())
    values = rows.astype(object).where(rows.notna(), None)
    version = ""
    for at in range(0, len(values), ROWS):
        body = {"dataframe_records": values.iloc[at : at + ROWS].to_dict("records")}
        request = urllib.request.Request(
            f"{copy.serving}/models/flights/invocations",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            version = json.load(response)["version"]
    return version


def test_drift_in_online_traffic_becomes_a_fact_with_a_decision(online: Copy) -> None:
    champion = online.run("python", "-c", CHAMPION).strip()
    deadline = time.monotonic() + 10
    while json.load(urllib.request.urlopen(f"{online.serving}/ready", timeout=5))["models"]["flights"] != champion:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    for month in MONTHS:
        assert send_rows(online, month) == champion
        time.sleep(70)  # until serving has written its journal to a segment
        online.deployment("process/flights", partition=month)
    online.wait_for("retrain", {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}, 600)
    result = json.loads(online.run("python", "-c", RESULT))
    assert {fact["partition"] for fact in result["facts"] if fact["kind"] == "drift"} >= {MONTHS[0]}
    assert {fact["id"] for fact in result["facts"]} & set(result["decisions"])
    for month, served in result["served"].items():
        assert served["same"] == served["answers"] > 25_000, month
        assert served["differ"] == 0


CHAMPION = "from tasks.resources import open_resources; print(open_resources('flights').champion().version)"
RESULT = """
import json
from tasks.contracts import Stage
from tasks.resources import open_resources
res = open_resources("flights")
keys = [key for key in res.lake.keys(Stage.PREDICTIONS) if key >= "2013-04"]
print(json.dumps({
    "facts": [{"id": fact.id, "kind": fact.kind, "partition": fact.partition} for fact in res.ledger.facts()],
    "decisions": [decision.fact_id for decision in res.ledger.decisions()],
    "served": {key: res.lake.record(Stage.PREDICTIONS, key).data["served"] for key in keys},
}))
"""
