"""Shared fixtures: a tiny model in its own folder, and one Prefect server and one MLflow store per session."""

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from configs.settings import TELEMETRY_OFF

os.environ.update(TELEMETRY_OFF)
os.environ["EVERGREEN_RETRIES"] = "0"  # tests of a server that does not answer need not wait
STACKS = {"browser", "e2e"}
"""Folders of tests that start a whole stack."""
ORDER = ("browser", "e2e", "flows", "serving", "ops", "tasks")
"""Folders by the time that their tests take, longest first."""
NOT_UNIT, SERVERS = {"servers", "e2e", "long", "slow"}, {"prefect_server", "mlflow_server"}
"""Marks and fixtures of tests that need a server or take minutes."""
FIRST, DAYS, ROWS, SHIFTED_FROM = pd.Timestamp("2024-03-01", tz="UTC"), 26, 150, 16

MODEL_YAML = """\
name: tiny
description: Whether a parcel comes late, from two numbers and a city.
partition: {every: D, timezone: UTC, grace: 1D} # as long as the delay, so that both moments are one
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
# a day's parcels come within three hours, and are independent; 147 of 150 get a label, so decay of one day is not judged
monitoring: {block: H, decay: {min_rows: 150}, sample_rows: 1000}
retraining: {signals: {drift: {times: 1, of: 1}, decay: true}, cool_down: 3D}
"""
SOURCE_SQL = "SELECT parcel, sent, weight, distance, city FROM parcels WHERE sent >= $start AND sent < $end"
LABELS_SQL = "SELECT parcel, late, sent + INTERVAL 1 DAY AS known_at FROM parcels WHERE sent >= $start AND sent < $end"


def pytest_configure() -> None:
    """Give each process one core, since each core has a process. Two OpenMP teams on the same cores delay each other by minutes."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Distribute tests for `pytest -n`: a file's tests stay together, since they share fixtures; tests of whole stacks are one group.

    Two stacks at once are too slow on two cores.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "stacks" if STACKS & set(file.split("/")) else file

    config.option.loadscopereorder = False
    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Mark the tests that need no server, and order the tests by folder, longest first, so that no core waits long for the last file."""
    for item in items:
        needs_server = (
            SERVERS & set(item.fixturenames) or "postgresql" in item.name or "browser" in item.nodeid.split("/")
        )
        if not (NOT_UNIT & {mark.name for mark in item.iter_markers()} or needs_server):
            item.add_marker(pytest.mark.unit)
    items.sort(
        key=lambda item: next((at for at, folder in enumerate(ORDER) if folder in item.nodeid.split("/")), len(ORDER))
    )


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Report the tests that were skipped because this machine has no server or browser for them."""
    reasons = {
        str(report.longrepr[2])
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple)
    }
    missing = sorted(reason.removeprefix("Skipped: ") for reason in reasons if "Skipped: no " in reason)
    if missing:
        terminalreporter.section("NOT TESTED on this machine", sep="!", red=True, bold=True)
        for reason in missing:
            terminalreporter.line(reason, red=True)


def parcels(day: int) -> pd.DataFrame:
    """Return one day of parcels. From day `SHIFTED_FROM` on they are heavier, and lateness depends on the weight in another way."""
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
            "city": np.where(np.arange(ROWS) % 7 == 6, np.array(None), rng.choice(["Bonn", "Kiel", "Ulm"], ROWS)),
            "late": late,
            "arrived": late,
        }
    )


def day_file(folder: Path, day: int) -> Path:
    return folder / "data" / f"parcels-{(FIRST + pd.Timedelta(day, 'D')):%Y-%m-%d}.parquet"


@pytest.fixture(scope="session")
def tiny_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny model's `configs/` and `data/`. Tests copy it and do not change it."""
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
    """The tiny model in its own folder, `tmp_path`: configs, data, lake and ledger."""
    set_up_tiny(tiny_source, tmp_path, mlflow_store, monkeypatch)
    return tmp_path


def set_up_tiny(source: Path, folder: Path, mlflow_store: str, patch: pytest.MonkeyPatch) -> None:
    """Copy the tiny model into a folder, and change its data paths and all settings to that folder."""
    shutil.copytree(source, folder, dirs_exist_ok=True)
    path = folder / "configs" / "tiny" / "model.yaml"
    path.write_text(path.read_text().replace("DATA/", f"{folder}/data/"))
    use_folder(folder, folder / "configs", mlflow_store, patch)


def use_folder(folder: Path, configs: Path, mlflow_store: str, patch: pytest.MonkeyPatch) -> None:
    """Set lake, ledger and home to a folder."""
    for name, path in (("HOME", folder / ".evergreen"), ("LAKE", folder / "lake"), ("CONFIGS", configs)):
        patch.setenv(f"EVERGREEN_{name}", str(path))
    patch.setenv("EVERGREEN_DATABASE_URL", f"sqlite:///{folder}/ledger.db")
    patch.setenv("MLFLOW_TRACKING_URI", mlflow_store)


def set_up_copy(source: Path, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Copy the folder of a model with its history, MLflow's database too, and change all settings to the copy."""
    shutil.copytree(source, folder, dirs_exist_ok=True)
    path = folder / "configs" / "tiny" / "model.yaml"
    path.write_text(path.read_text().replace(str(source), str(folder)))
    use_folder(folder, folder / "configs", f"sqlite:///{folder}/mlflow.db", patch)


def free_port() -> int:
    """Return a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A real MLflow store on SQLite, shared by the session. The first use creates its tables."""
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
