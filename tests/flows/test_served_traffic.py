"""Online traffic is watched as batches are: what serving was asked becomes partitions, drifts, and gets its decision."""

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
from tasks.source.extent import available
from tasks.storage.answer_log import CANARY, SHADOW, served_folder, served_rows
from tests.conftest import SHIFTED_FROM, parcels, settle_copy

PATH = "/models/tiny/invocations"
STEADY, SHIFTED = "2024-03-16", "2024-03-17"


def say(folder: Path, **changes) -> None:
    path = folder / "configs" / "tiny" / "model.yaml"
    content = yaml.safe_load(path.read_text())
    for name, value in changes.items():
        content[name] = content.get(name, {}) | value
    path.write_text(yaml.safe_dump(content))


def ask_about(*days: int, share: float = 1.0) -> None:
    """Send the parcels of some days as requests of forty rows."""
    challenged = open_resources("tiny").ledger.challenger() is not None
    with TestClient(make_app(make_service(load_settings()))) as client:
        while not (about := client.get("/models/tiny").json())["champion"] or (
            challenged and "challenger" not in about
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
def prepared(begun: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A champion of ten days of batches, and five days more; returns the folder, to be copied."""
    folder = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch:
        settle_copy(begun, folder, patch)
        backfill(model="tiny", start="2024-03-11", end="2024-03-15")
    return folder


@pytest.fixture
def batches(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that world for one test."""
    settle_copy(prepared, tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture
def online(batches: Path) -> Path:
    """The same, but from the sixteenth day on rows are those that serving is asked about."""
    say(batches, source={"served_from": STEADY})
    return batches


def test_a_drift_in_online_traffic_gets_its_fact_and_decision(online):
    before = open_resources("tiny")
    kept = {key: before.lake.record(Stage.VALID, key).digest for key in before.lake.keys(Stage.VALID)}
    ask_about(15, SHIFTED_FROM)
    res = open_resources("tiny")
    assert available(res.model)[-3:] == ["2024-03-15", STEADY, SHIFTED]
    for key in (STEADY, SHIFTED):
        process(model="tiny", partition=key)
    assert {fact.partition for fact in res.ledger.facts() if fact.kind == "drift"} == {SHIFTED}
    (fact,) = [fact for fact in res.ledger.facts() if fact.kind == "drift"]
    retrain(model="tiny", fact=fact.id, partition=SHIFTED)
    assert [one.fact_id for one in res.ledger.decisions()] == [fact.id]
    # What was made of batches before is as it was.
    backfill(model="tiny", start="2024-03-01", end="2024-03-15", mode="stale")
    assert {key: res.lake.record(Stage.VALID, key).digest for key in kept} == kept


def test_a_served_partition_is_what_the_batch_would_be(online):
    """The same rows by requests and by SQL: the same predictions to the bit, the same labels, and serving said so."""
    ask_about(15)
    process(model="tiny", partition=STEADY)
    assess(model="tiny", partition=STEADY)
    res = open_resources("tiny")
    served = {stage: res.lake.read(stage, STEADY) for stage in (Stage.VALID, Stage.PREDICTIONS, Stage.LABELS)}
    assert res.lake.record(Stage.PREDICTIONS, STEADY).data["served"] == {
        "answers": 150, "by_version": {res.champion().version: 150}, "same": 150, "differ": 0,
    }  # fmt: skip
    performance = res.lake.record(Stage.PERFORMANCE, STEADY).data
    say(online, source={"served_from": "2024-04-01"})
    process(model="tiny", partition=STEADY)
    assess(model="tiny", partition=STEADY)
    res = open_resources("tiny")
    for stage, frame in served.items():
        pd.testing.assert_frame_equal(res.lake.read(stage, STEADY), frame)
    assert res.lake.record(Stage.PERFORMANCE, STEADY).data["metrics"] == performance["metrics"]


def test_outcomes_of_what_nobody_asked_about_are_no_faults(online):
    ask_about(15, share=0.4)
    process(model="tiny", partition=STEADY)
    assess(model="tiny", partition=STEADY)
    labels = open_resources("tiny").lake.record(Stage.LABELS, STEADY)
    assert (labels.status, labels.data["faulty"]) == ("done", 0)
    assert labels.data["mature"] + labels.data["never"] == 60


def test_an_answer_that_batch_does_not_give_is_told_to_people(online):
    """As where a server runs another release, or somebody changed its files."""
    ask_about(15)
    (path,) = served_folder("tiny").glob(f"{STEADY}/*.parquet")
    rows = pd.read_parquet(path)
    rows.loc[:2, "prediction"] += 0.01
    rows.loc[3:5, "prediction"] = np.nextafter(rows.loc[3:5, "prediction"], 1)  # rounding is no difference
    rows.to_parquet(path, index=False)
    process(model="tiny", partition=STEADY)
    res = open_resources("tiny")
    assert res.lake.record(Stage.PREDICTIONS, STEADY).data["served"]["differ"] == 3
    assert f"serving said something else than batch about 3 rows of {STEADY}" in [need.told for need in alerts(res)]


def test_a_row_that_was_asked_about_again_with_other_values_is_no_skew(online):
    """Of a key the last answer counts; the one before was about another row."""
    ask_about(15)
    with TestClient(make_app(make_service(load_settings()))) as client:
        while client.get("/models/tiny").json()["champion"] is None:
            time.sleep(0.05)
        row = parcels(15).iloc[0].drop(["late", "arrived"]).to_dict()
        row |= {"sent": row["sent"].isoformat(), "weight": 3.0}
        plain = {name: None if value != value else value for name, value in row.items()}
        assert client.post(PATH, json={"instances": [plain]}).status_code == 200
    process(model="tiny", partition=STEADY)
    res = open_resources("tiny")
    told = res.lake.record(Stage.PREDICTIONS, STEADY).data["served"]
    assert (told["answers"], told["same"], told["differ"]) == (151, 150, 0)
    assert res.lake.read(Stage.RAW, STEADY).set_index("parcel")["weight"]["15-000"] == 3.0


def test_rows_that_come_late_make_the_partition_again(online):
    ask_about(15, share=0.4)
    process(model="tiny", partition=STEADY)
    ask_about(15)
    process(model="tiny", partition=STEADY)
    assert open_resources("tiny").lake.record(Stage.RAW, STEADY).rows == 150


def test_partitions_that_serving_was_asked_nothing_about_are_not_there(online):
    with pytest.raises(Exception, match="serving was asked nothing about it"):
        process(model="tiny", partition="2024-03-20")


def test_the_challengers_answers_to_requests_count_in_its_judgement(batches):
    """With a shadow, and a share of its own: what it said to requests, in either role, must be what it says in batch."""
    say(batches, promotion={"shadow": {"partitions": 1}, "canary": {"share": 0.4, "p99_ms": 10_000}})
    backfill(model="tiny", start="2024-03-16", end="2024-03-23")
    train(model="tiny", reason="after the shift")
    res = open_resources("tiny")
    challenger = res.ledger.challenger()
    assert challenger is not None
    say(batches, source={"served_from": "2024-03-24"})
    ask_about(23)
    roles = served_rows(load_model("tiny"), "2024-03-24", (CANARY, SHADOW)).to_pandas()["role"].value_counts()
    assert min(roles[CANARY], roles[SHADOW]) > 20
    process(model="tiny", partition="2024-03-24")
    told = open_resources("tiny").lake.record(Stage.SHADOW, "2024-03-24").data["served"]
    assert told == {"answers": 150, "by_version": {challenger.version: 150}, "same": 150, "differ": 0}
    assess(model="tiny", partition="2024-03-24")
    last = open_resources("tiny").ledger.promotions()[-1]
    rules = {one["rule"]: one for one in last.evidence["verdicts"]}
    assert rules["shadow: answers to requests that batch does not give"]["value"] == 0
