"""What tests share: a tiny model in a folder of its own, a Prefect server and an MLflow store a session, and the cores."""

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from configs.settings import QUIET

os.environ.update(QUIET)
STACKS = {"browser", "e2e"}
"""Folders of tests that start a whole stack."""
ORDER = ("browser", "e2e", "flows", "serving", "ops", "tasks")
"""Folders by how long their tests take."""
FIRST, DAYS, ROWS, SHIFTED_FROM = pd.Timestamp("2024-03-01", tz="UTC"), 26, 150, 16

MODEL_YAML = """\
name: tiny
description: Whether a parcel comes late, from two numbers and a city.
partition: {every: D, timezone: UTC}
source:
  lookback: 1D
  tables:
    parcels:
      path: DATA/parcels-%Y-%m-%d.parquet
      every: D
      outcomes: [late, arrived]
      outcomes_known_at: sent + INTERVAL 1 DAY
key: parcel
time: sent
target: {column: late, kind: binary, delay: 1D}
features: {numeric: [weight, distance], categorical: [city]}
expectations:
  - {type: expect_column_values_to_be_between, kwargs: {column: weight, min_value: -50, max_value: 50, mostly: 0.9}}
  - {type: expect_column_values_to_not_be_null, kwargs: {column: city, mostly: 0.5}, severity: info}
training:
  window: {min_partitions: 4, min_rows: 200, holdout: 2D}
  splits: 1
  baseline: prior # lateness is linear in the weight, so no tree beats a linear model
  candidates:
    trees: {estimator: xgboost, params: {n_estimators: 20, max_depth: 3}}
gate:
  floor: {log_loss: 0.69}
  gain: {block: H, min_blocks: 6, resamples: 200} # a day's parcels come within three hours
monitoring: {block: H, sample_rows: 1000} # a day's parcels come within three hours, and are independent
retraining: {cool_down: 3D}
"""
SOURCE_SQL = "SELECT parcel, sent, weight, distance, city FROM parcels WHERE sent >= $start AND sent < $end"
LABELS_SQL = "SELECT parcel, late, sent + INTERVAL 1 DAY AS known_at FROM parcels WHERE sent >= $start AND sent < $end"


def pytest_configure() -> None:
    """One core for each process, since pytest has as many processes: two OpenMP teams on the same cores wait for each other for minutes."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """How `pytest -n` shares the tests out: a file's stay together, since they share fixtures, and those of whole stacks are one group.

    Two stacks at once starve each other on two cores.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "stacks" if STACKS & set(file.split("/")) else file

    config.option.loadscopereorder = False
    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that no core waits long for the last file."""
    items.sort(
        key=lambda item: next((at for at, folder in enumerate(ORDER) if folder in item.nodeid.split("/")), len(ORDER))
    )


def parcels(day: int) -> pd.DataFrame:
    """One day of parcels; from day `SHIFTED_FROM` on they are heavier and the rule of lateness is another."""
    rng = np.random.default_rng(day)
    shifted = day >= SHIFTED_FROM
    weight, distance = rng.normal(4.0 if shifted else 0.0, 1, ROWS), rng.exponential(10, ROWS)
    score = 1.5 * (weight - 4) if shifted else -1.5 * weight
    late = (rng.random(ROWS) < 1 / (1 + np.exp(-score))).astype("float64")
    late[:3] = np.nan
    sent = FIRST + pd.to_timedelta(day, "D") + pd.to_timedelta(np.arange(ROWS), "min")
    return pd.DataFrame(
        {
            "parcel": [f"{day:02d}-{i:03d}" for i in range(ROWS)],
            "sent": sent.astype("datetime64[us, UTC]"),
            "weight": weight,
            "distance": np.where(np.arange(ROWS) % 10 == 9, np.nan, distance),
            "city": np.where(np.arange(ROWS) % 7 == 6, None, rng.choice(["Bonn", "Kiel", "Ulm"], ROWS)),
            "late": late,
            "arrived": late,
        }
    )


def day_file(folder: Path, day: int) -> Path:
    return folder / "data" / f"parcels-{(FIRST + pd.Timedelta(day, 'D')):%Y-%m-%d}.parquet"


@pytest.fixture(scope="session")
def tiny_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny model's `configs/` and `data/`, to be copied, not changed."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "configs" / "tiny").mkdir(parents=True)
    (folder / "data").mkdir()
    (folder / "configs" / "tiny" / "source.sql").write_text(SOURCE_SQL)
    (folder / "configs" / "tiny" / "labels.sql").write_text(LABELS_SQL)
    (folder / "configs" / "tiny" / "model.yaml").write_text(MODEL_YAML)
    for day in range(DAYS):
        parcels(day).to_parquet(day_file(folder, day), index=False)
    return folder


@pytest.fixture
def tiny(tiny_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_store: str) -> Path:
    """The tiny model in a world of its own: configs, data, lake and ledger under `tmp_path`; returns that."""
    settle(tiny_source, tmp_path, mlflow_store, monkeypatch)
    return tmp_path


def settle(source: Path, folder: Path, mlflow_store: str, patch: pytest.MonkeyPatch) -> None:
    """Copy the tiny model into a folder, and point its data and every setting there."""
    shutil.copytree(source, folder, dirs_exist_ok=True)
    path = folder / "configs" / "tiny" / "model.yaml"
    path.write_text(path.read_text().replace("DATA/", f"{folder}/data/"))
    point_to(folder, folder / "configs", mlflow_store, patch)


def point_to(folder: Path, configs: Path, mlflow_store: str, patch: pytest.MonkeyPatch) -> None:
    """Let every setting say that lake, ledger and home are in a folder."""
    for name, path in (("HOME", folder / ".evergreen"), ("LAKE", folder / "lake"), ("CONFIGS", configs)):
        patch.setenv(f"EVERGREEN_{name}", str(path))
    patch.setenv("EVERGREEN_DATABASE_URL", f"sqlite:///{folder}/ledger.db")
    patch.setenv("MLFLOW_TRACKING_URI", mlflow_store)


def settle_copy(played: Path, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Copy a world that was played in another folder, MLflow's database too, and point every setting there."""
    shutil.copytree(played, folder, dirs_exist_ok=True)
    path = folder / "configs" / "tiny" / "model.yaml"
    path.write_text(path.read_text().replace(str(played), str(folder)))
    point_to(folder, folder / "configs", f"sqlite:///{folder}/mlflow.db", patch)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A real MLflow store on SQLite, shared by the session; the first use makes its tables."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A real Prefect server for every test that runs flows or tasks: a new one, or the one at EVERGREEN_TEST_PREFECT_URL."""
    from prefect.settings import PREFECT_API_URL, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    if url := os.environ.get("EVERGREEN_TEST_PREFECT_URL"):
        with temporary_settings({PREFECT_API_URL: url}):
            yield
        return

    with prefect_test_harness(server_startup_timeout=600):
        yield
