"""A look of `poll` at ten models whose sources have not changed, against an empty flow. Imports are excluded.

Each model has a file for each of 1,500 days, as the tests' tiny model has for 26.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pandas as pd
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.testing.utilities import prefect_test_harness
from rich.console import Console

from flows.poll import poll
from flows.process import process
from tasks.orchestration.on_arrival import TAG
from tests.conftest import FIRST, LABELS_SQL, MODEL_YAML, SOURCE_SQL, parcels

MODELS, FILES, TIMES = 10, 1_500, 7


def report(console: Console) -> None:
    """Print the seconds of a look and of an empty flow, and their difference for each model."""
    with tempfile.TemporaryDirectory() as folder, prefect_test_harness(server_startup_timeout=120):
        make_models(Path(folder))
        for _ in range(2):
            state = poll(return_state=True)  # the first starts a run for each model
        assert str(state.message) == f"Nothing has arrived for {MODELS} deployments with the tag {TAG}.", state.message
        look, nothing = seconds(poll), seconds(empty)
    console.print(
        f"{MODELS} models with {FILES} files each: {look:.2f} s; an empty flow: {nothing:.2f} s; "
        f"{(look - nothing) / MODELS * 1000:.0f} ms a model"
    )


@flow
def empty() -> None:
    """Do nothing."""


def seconds(run: Callable[[], object]) -> float:
    """The median time of a run of a flow."""
    measured = []
    for _ in range(TIMES):
        began = time.perf_counter()
        run()
        measured.append(time.perf_counter() - began)
    return median(measured)


def make_models(folder: Path) -> None:
    """Write the models, and deploy a `process` of each with the tag."""
    os.environ["EVERGREEN_CONFIGS"] = str(folder / "configs")
    rows = folder / "rows.parquet"
    parcels(0).to_parquet(rows)
    with get_client(sync_client=True) as client:
        flow_id = client.create_flow(process)
        for n in range(MODELS):
            name, home = f"m{n}", folder / "configs" / f"m{n}"
            home.mkdir(parents=True)
            (folder / name).mkdir()
            (home / "source.sql").write_text(SOURCE_SQL)
            (home / "labels.sql").write_text(LABELS_SQL)
            config = MODEL_YAML.replace("name: tiny", f"name: {name}").replace("DATA/", f"{folder / name}/")
            (home / "model.yaml").write_text(config)
            for day in pd.date_range(FIRST, periods=FILES):
                (folder / name / f"parcels-{day:%Y-%m-%d}.parquet").hardlink_to(rows)
            client.create_deployment(
                flow_id, name=name, entrypoint="flows/process.py:process", parameters={"model": name}, tags=[TAG]
            )
