"""Targets of every kind, periods of every length and flat files run through the whole pipeline by config alone."""

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import log_loss, mean_squared_error

from flows.assess import assess
from flows.backfill import backfill
from flows.process import process
from flows.train import train
from tasks.contracts import Stage
from tasks.resources import open_resources
from tasks.source.extent import available_partitions
from tests.conftest import parcels

SIZES = "CASE WHEN weight < -0.5 THEN 'light' WHEN weight < 0.5 THEN 'middling' ELSE 'heavy' END"
CLASSES = ["light", "middling", "heavy"]
PRICE = "2 * weight + 0.1 * coalesce(distance, 5) + 0.3 * ascii(right(parcel, 1)) % 3"
DAY = "2024-03-11"


def configure(workspace, target: dict, outcome: str, floor: dict, **gate) -> None:
    folder = workspace / "configs" / "tiny"
    config = yaml.safe_load((folder / "model.yaml").read_text())
    config["target"] = {"column": "size", "delay": "1D"} | target
    config["gate"] = config["gate"] | {"floor": floor} | gate
    (folder / "model.yaml").write_text(yaml.safe_dump(config))
    sql = f"SELECT parcel, {outcome} AS size, sent + INTERVAL 1 DAY AS known_at FROM parcels WHERE sent >= $start AND sent < $end"
    (folder / "labels.sql").write_text(sql)


def run_pipeline() -> tuple:
    backfill(model="tiny", start="2024-03-01", end="2024-03-10")
    training = train(model="tiny", reason="first champion")
    assert training.decision.passed, training.decision.reasons
    process(model="tiny", partition=DAY)
    assess(model="tiny", partition=DAY)
    res = open_resources("tiny")
    record = res.lake.done(Stage.MONITORING, DAY)
    assert "prediction" in {c["column"] for c in record.data["columns"]}
    return res, res.lake.read(Stage.PREDICTIONS, DAY), res.lake.done(Stage.PERFORMANCE, DAY).data["metrics"]


@pytest.mark.slow
def test_multiclass(workspace):
    configure(workspace, {"kind": "multiclass", "classes": CLASSES}, SIZES, {"log_loss": 0.9, "accuracy": 0.5})
    res, predictions, metrics = run_pipeline()
    shares = predictions[[f"p_{name}" for name in CLASSES]].to_numpy()
    assert np.allclose(shares.sum(axis=1), 1)
    assert list(predictions["prediction"]) == [CLASSES[at] for at in shares.argmax(axis=1)]
    weight = parcels(10)["weight"]
    truth = np.digitize(weight, [-0.5, 0.5])
    assert metrics["log_loss"] == pytest.approx(log_loss(truth, shares / shares.sum(axis=1, keepdims=True)), rel=1e-4)
    assert metrics["accuracy"] > 0.9
    assert "confusion.png" in charts(res)


@pytest.mark.slow
def test_regression(workspace):
    configure(workspace, {"kind": "regression"}, PRICE, {"squared_error": 2, "r2": 0.5}, calibration={"at_most": 0.2})
    res, predictions, metrics = run_pipeline()
    frame = parcels(10)
    last = frame["parcel"].str[-1].map(ord)
    truth = 2 * frame["weight"] + 0.1 * frame["distance"].fillna(5) + 0.3 * last % 3
    assert metrics["squared_error"] == pytest.approx(mean_squared_error(truth, predictions["prediction"]), rel=1e-6)
    assert "residuals.png" in charts(res)


FLAT = """\
name: tiny
description: One flat file, cut by {every}.
partition: {{every: {every}, timezone: {zone}, grace: {delay}}}
source: {{file: {{path: {path}}}}}
key: number
time: at
target: {{column: outcome, delay: {delay}, kind: {kind}{classes}}}
features: {{numeric: [size, flag], categorical: [city, code]}}
expectations:
  - {{type: expect_column_values_to_be_unique, columns: [number]}}
training:
  window: {{min_partitions: 4, min_rows: 100, holdout: {holdout}}}
  splits: 1
  baseline: prior
  candidates: {{trees: {{estimator: xgboost, params: {{n_estimators: 20, max_depth: 3}}}}}}
gate: {{floor: {{{floor}: 1.0}}, gain: {{block: {block}, min_blocks: 2, resamples: 200}}}}
monitoring: {{block: {block}, sample_rows: 1000}}
"""


def flat_rows(every: str, kind: str) -> pd.DataFrame:
    """Return ten periods of 120 rows, with times without a zone, whole numbers as key and as category, and a boolean."""
    starts = pd.period_range(
        "2024-03-01", periods=10, freq={"W": "W-SUN"}.get(every, every.replace("H", "h"))
    ).start_time
    spread = (starts[1] - starts[0]) * np.arange(120) / 140  # the shortest month has 28 days
    rng = np.random.default_rng(7)
    size = rng.normal(0, 1, 1200)
    outcomes = {
        "binary": (rng.random(1200) < 1 / (1 + np.exp(-2 * size))).astype(int),
        "multiclass": np.array(["low", "middle", "high"])[np.digitize(size + rng.normal(0, 0.2, 1200), [-0.5, 0.5])],
        "regression": 2 * size + rng.normal(0, 0.1, 1200),
    }
    return pd.DataFrame(
        {
            "number": np.arange(1200),
            "at": np.concatenate([start + spread for start in starts]),
            "size": size,
            "flag": rng.random(1200) < 0.5,
            "city": rng.choice(["Bonn", "Kiel"], 1200),
            "code": rng.integers(1, 4, 1200),
            "outcome": outcomes[kind],
        }
    )


@pytest.mark.parametrize(
    ("kind", "every", "form"),
    [
        pytest.param("multiclass", "W", "csv", marks=pytest.mark.slow),
        pytest.param("regression", "M", "parquet", marks=pytest.mark.slow),
        pytest.param("binary", "H", "parquet", marks=pytest.mark.slow),
        pytest.param("binary", "D", "csv", marks=pytest.mark.slow),
    ],
)
def test_a_flat_file_runs_through_the_whole_pipeline_by_config_alone(workspace, kind, every, form):
    """Its times are local to the partitions' zone. A champion that learned from nine periods scores the last one."""
    rows, path = flat_rows(every, kind), workspace / "data" / f"flat.{form}"
    rows.to_parquet(path) if form == "parquet" else rows.to_csv(path, index=False)
    folder = workspace / "configs" / "tiny"
    (folder / "source.sql").unlink()
    (folder / "labels.sql").unlink()
    spans = {"H": ("1min", "2h", "H"), "D": ("1h", "2D", "D"), "W": ("1D", "2W", "D"), "M": ("1D", "31D", "D")}
    delay, holdout, block = spans[every]
    classes = ", classes: [low, middle, high]" if kind == "multiclass" else ""
    floor = "squared_error" if kind == "regression" else "log_loss"
    zone = "UTC" if every == "H" else "Europe/Berlin"
    values = {"zone": zone, "every": every, "path": path, "delay": delay, "kind": kind, "classes": classes}
    (folder / "model.yaml").write_text(FLAT.format(**values, holdout=holdout, floor=floor, block=block))

    keys = available_partitions(open_resources("tiny").model)
    assert len(keys) == 10
    backfill(model="tiny", start=keys[0], end=keys[-1])
    res = open_resources("tiny")
    training = train(model="tiny", as_of=res.ref(keys[-2]).as_of, reason="first champion")
    assert training.decision.passed, training.decision.reasons
    process(model="tiny")
    assess(model="tiny", partition=keys[-1])
    assert [res.lake.done(Stage.VALID, key).rows for key in keys] == [120] * 10
    first = res.lake.read(Stage.VALID, keys[0])["at"].min()
    assert first == pd.Timestamp(rows["at"].iloc[0], tz=zone), "a time without a zone is local"
    performance = res.lake.done(Stage.PERFORMANCE, keys[-1]).data
    assert performance["mature"] == 120
    assert performance["metrics"][floor] < {"binary": 0.6, "multiclass": 0.6, "regression": 0.5}[kind]


def charts(res) -> set[str]:
    judged = res.registry.version(res.champion().version).judged_as
    run = res.registry.version(judged).run_id
    return {f.path.removeprefix("plots/") for f in res.registry.client.list_artifacts(run, "plots")}
