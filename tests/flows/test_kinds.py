"""Targets of several classes and of numbers go the whole way by config alone."""

import numpy as np
import pytest
import yaml
from sklearn.metrics import log_loss, mean_squared_error

from flows.assess import assess
from flows.backfill import backfill
from flows.process import process
from flows.train import train
from tasks.contracts import Stage
from tasks.resources import open_resources
from tests.conftest import parcels

SIZES = "CASE WHEN weight < -0.5 THEN 'light' WHEN weight < 0.5 THEN 'middling' ELSE 'heavy' END"
CLASSES = ["light", "middling", "heavy"]
PRICE = "2 * weight + 0.1 * coalesce(distance, 5) + 0.3 * ascii(right(parcel, 1)) % 3"
DAY = "2024-03-11"


def make(world, target: dict, outcome: str, floor: dict, **gate) -> None:
    folder = world / "configs" / "tiny"
    config = yaml.safe_load((folder / "model.yaml").read_text())
    config["target"] = {"column": "size", "delay": "1D"} | target
    config["gate"] = config["gate"] | {"floor": floor} | gate
    (folder / "model.yaml").write_text(yaml.safe_dump(config))
    sql = f"SELECT parcel, {outcome} AS size, sent + INTERVAL 1 DAY AS known_at FROM parcels WHERE sent >= $start AND sent < $end"
    (folder / "labels.sql").write_text(sql)


def play() -> tuple:
    backfill(model="tiny", start="2024-03-01", end="2024-03-10")
    training = train(model="tiny", reason="first champion")
    assert training.decision.passed, training.decision.reasons
    process(model="tiny", partition=DAY)
    assess(model="tiny", partition=DAY)
    res = open_resources("tiny")
    record = res.lake.done(Stage.MONITORING, DAY)
    assert "prediction" in {c["column"] for c in record.data["columns"]}
    return res, res.lake.read(Stage.PREDICTIONS, DAY), res.lake.done(Stage.PERFORMANCE, DAY).data["metrics"]


def test_several_classes(world):
    make(world, {"kind": "multiclass", "classes": CLASSES}, SIZES, {"log_loss": 0.9, "accuracy": 0.5})
    res, found, metrics = play()
    shares = found[[f"p_{name}" for name in CLASSES]].to_numpy()
    assert np.allclose(shares.sum(axis=1), 1)
    assert list(found["prediction"]) == [CLASSES[at] for at in shares.argmax(axis=1)]
    weight = parcels(10)["weight"]
    truth = np.digitize(weight, [-0.5, 0.5])
    assert metrics["log_loss"] == pytest.approx(log_loss(truth, shares / shares.sum(axis=1, keepdims=True)), rel=1e-4)
    assert metrics["accuracy"] > 0.9
    assert "confusion.png" in pictures(res)


def test_numbers(world):
    make(world, {"kind": "regression"}, PRICE, {"squared_error": 2, "r2": 0.5}, calibration={"at_most": 0.2})
    res, found, metrics = play()
    frame = parcels(10)
    last = frame["parcel"].str[-1].map(ord)
    truth = 2 * frame["weight"] + 0.1 * frame["distance"].fillna(5) + 0.3 * last % 3
    assert metrics["squared_error"] == pytest.approx(mean_squared_error(truth, found["prediction"]), rel=1e-6)
    assert "residuals.png" in pictures(res)


def pictures(res) -> set[str]:
    judged = res.registry.version(res.champion().version).judged_as
    run = res.registry.version(judged).run_id
    return {f.path.removeprefix("plots/") for f in res.registry.client.list_artifacts(run, "plots")}
