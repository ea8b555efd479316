"""Online traffic is monitored like batches: served rows become partitions, and their drift gets a decision."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from fastapi.testclient import TestClient

from configs.load import load_model
from configs.settings import load_settings
from flows.assess import assess
from flows.backfill import backfill
from flows.process import process
from flows.retrain import retrain
from flows.train import train
from serving.__main__ import make_service
from serving.app import make_app
from tasks.contracts import Stage
from tasks.reports.health import alerts
from tasks.resources import open_resources
from tasks.source.extent import available_partitions
from tasks.storage.answer_log import CANARY, SHADOW, served_folder, served_rows
from tests.conftest import SHIFTED_FROM, parcels, set_up_copy

PATH = "/models/tiny/invocations"
STEADY, SHIFTED = "2024-03-16", "2024-03-17"


def configure(folder: Path, **changes) -> None:
    path = folder / "configs" / "tiny" / "model.yaml"
    content = yaml.safe_load(path.read_text())
    for name, value in changes.items():
        content[name] = content.get(name, {}) | value
    path.write_text(yaml.safe_dump(content))


def send_requests(*days: int, share: float = 1.0) -> None:
    """Send the parcels of some days in requests of forty rows."""
    has_challenger = open_resources("tiny").ledger.challenger() is not None
    with TestClient(make_app(make_service(load_settings()))) as client:
        while not (about := client.get("/models/tiny").json())["champion"] or (
            has_challenger and "challenger" not in about
        ):
            time.sleep(0.05)
        for day in days:
            rows = parcels(day).drop(columns=["late", "arrived"]).sample(frac=share, random_state=0)
            rows["sent"] = rows["sent"].map(lambda moment: moment.isoformat())
            plain = rows.astype(object).where(rows.notna(), None).to_dict("records")
            for at in range(0, len(plain), 40):
                answer = client.post(PATH, json={"dataframe_records": plain[at : at + 40]})
                assert answer.status_code == 200, answer.text


@pytest.fixture(scope="module")
def prepared(with_champion: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a champion of ten days of batches, and five more days. Tests copy it."""
    folder = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch:
        set_up_copy(with_champion, folder, patch)
        backfill(model="tiny", start="2024-03-11", end="2024-03-15")
    return folder


@pytest.fixture
def batches(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder for one test."""
    set_up_copy(prepared, tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture
def online(batches: Path) -> Path:
    """The same, but from the sixteenth day on the rows are the served ones."""
    configure(batches, source={"served_from": STEADY})
    return batches


@pytest.mark.slow
def test_a_drift_in_online_traffic_gets_its_fact_and_decision(online):
    before = open_resources("tiny")
    digests = {key: before.lake.record(Stage.VALID, key).digest for key in before.lake.keys(Stage.VALID)}
    send_requests(15, SHIFTED_FROM)
    res = open_resources("tiny")
    assert available_partitions(res.model)[-3:] == ["2024-03-15", STEADY, SHIFTED]
    for key in (STEADY, SHIFTED):
        process(model="tiny", partition=key)
    assert {fact.partition for fact in res.ledger.facts() if fact.kind == "drift"} == {SHIFTED}
    (fact,) = [fact for fact in res.ledger.facts() if fact.kind == "drift"]
    retrain(model="tiny", fact=fact.id, partition=SHIFTED)
    assert [one.fact_id for one in res.ledger.decisions()] == [fact.id]
    # Earlier partitions, from batches, are unchanged.
    backfill(model="tiny", start="2024-03-01", end="2024-03-15", mode="stale")
    assert {key: res.lake.record(Stage.VALID, key).digest for key in digests} == digests


def test_a_served_partition_equals_the_batch(online):
    """The same rows by requests and by SQL give the same predictions to the bit, the same labels, and no difference to serving."""
    send_requests(15)
    process(model="tiny", partition=STEADY)
    assess(model="tiny", partition=STEADY)
    res = open_resources("tiny")
    served = {stage: res.lake.read(stage, STEADY) for stage in (Stage.VALID, Stage.PREDICTIONS, Stage.LABELS)}
    assert res.lake.record(Stage.PREDICTIONS, STEADY).data["served"] == {
        "answers": 150, "by_version": {res.champion().version: 150}, "same": 150, "differ": 0,
    }  # fmt: skip
    performance = res.lake.record(Stage.PERFORMANCE, STEADY).data
    configure(online, source={"served_from": "2024-04-01"})
    process(model="tiny", partition=STEADY)
    assess(model="tiny", partition=STEADY)
    res = open_resources("tiny")
    for stage, frame in served.items():
        pd.testing.assert_frame_equal(res.lake.read(stage, STEADY), frame)
    assert res.lake.record(Stage.PERFORMANCE, STEADY).data["metrics"] == performance["metrics"]


def test_outcomes_of_rows_without_a_request_are_no_faults(online):
    send_requests(15, share=0.4)
    process(model="tiny", partition=STEADY)
    assess(model="tiny", partition=STEADY)
    labels = open_resources("tiny").lake.record(Stage.LABELS, STEADY)
    assert (labels.status, labels.data["faulty"]) == ("done", 0)
    assert labels.data["mature"] + labels.data["never"] == 60


def test_a_served_prediction_that_differs_from_batch_is_an_alert(online):
    """As if a server ran another release, or its files had been changed."""
    send_requests(15)
    (path,) = served_folder("tiny").glob(f"{STEADY}/*.parquet")
    rows = pd.read_parquet(path)
    rows.loc[:2, "prediction"] += 0.01
    rows.loc[3:5, "prediction"] = np.nextafter(rows.loc[3:5, "prediction"], 1)  # rounding does not count
    rows.to_parquet(path, index=False)
    process(model="tiny", partition=STEADY)
    res = open_resources("tiny")
    assert res.lake.record(Stage.PREDICTIONS, STEADY).data["served"]["differ"] == 3
    assert f"serving and batch scoring predicted different values for 3 rows of {STEADY}" in [
        alert.message for alert in alerts(res)
    ]


def test_a_second_request_for_a_key_with_other_values_is_no_skew(online):
    """The last answer of a key counts. The one before was for another row."""
    send_requests(15)
    with TestClient(make_app(make_service(load_settings()))) as client:
        while client.get("/models/tiny").json()["champion"] is None:
            time.sleep(0.05)
        row = parcels(15).iloc[0].drop(["late", "arrived"]).to_dict()
        row |= {"sent": row["sent"].isoformat(), "weight": 3.0}
        plain = {name: None if value != value else value for name, value in row.items()}
        assert client.post(PATH, json={"instances": [plain]}).status_code == 200
    process(model="tiny", partition=STEADY)
    res = open_resources("tiny")
    served = res.lake.record(Stage.PREDICTIONS, STEADY).data["served"]
    assert (served["answers"], served["same"], served["differ"]) == (151, 150, 0)
    assert res.lake.read(Stage.RAW, STEADY).set_index("parcel")["weight"]["15-000"] == 3.0


def test_late_rows_make_the_partition_again(online):
    send_requests(15, share=0.4)
    process(model="tiny", partition=STEADY)
    send_requests(15)
    process(model="tiny", partition=STEADY)
    assert open_resources("tiny").lake.record(Stage.RAW, STEADY).rows == 150


def test_a_partition_without_requests_does_not_exist(online):
    with pytest.raises(Exception, match="no request was served for it"):
        process(model="tiny", partition="2024-03-20")


@pytest.mark.slow
def test_the_challengers_served_predictions_count_in_its_judgement(batches):
    """In shadow mode and as a canary its served predictions must equal its batch predictions."""
    configure(batches, promotion={"shadow": {"partitions": 1}, "canary": {"share": 0.4, "p99_ms": 10_000}})
    backfill(model="tiny", start="2024-03-16", end="2024-03-23")
    train(model="tiny", reason="after the shift")
    res = open_resources("tiny")
    challenger = res.ledger.challenger()
    assert challenger is not None
    configure(batches, source={"served_from": "2024-03-24"})
    send_requests(23)
    roles = served_rows(load_model("tiny"), "2024-03-24", (CANARY, SHADOW)).to_pandas()["role"].value_counts()
    assert min(roles[CANARY], roles[SHADOW]) > 20
    process(model="tiny", partition="2024-03-24")
    served = open_resources("tiny").lake.record(Stage.SHADOW, "2024-03-24").data["served"]
    assert served == {"answers": 150, "by_version": {challenger.version: 150}, "same": 150, "differ": 0}
    assess(model="tiny", partition="2024-03-24")
    last = open_resources("tiny").ledger.promotions()[-1]
    rules = {one["rule"]: one for one in last.evidence["verdicts"]}
    assert rules["shadow: answers to requests that batch does not give"]["value"] == 0
