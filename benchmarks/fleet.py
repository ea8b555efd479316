"""Deploying models of one file to a new Prefect server on SQLite: their five deployments and three automations each, once and again."""

import asyncio
import os
import tempfile
import time
from pathlib import Path

from prefect.testing.utilities import prefect_test_harness
from rich.console import Console

from configs.settings import load_settings
from ops.deploy import prepare
from ops.deploy_models import deploy_selected
from ops.generated import generated_deployments
from tests.fleet import write_stores

COUNTS = (10, 100)


def report(console: Console) -> None:
    """Print the seconds for each number of models: a first deploy, the next without a change, and with one more model."""
    for count in COUNTS:
        with tempfile.TemporaryDirectory() as folder, prefect_test_harness(server_startup_timeout=120):
            os.environ["EVERGREEN_CONFIGS"] = folder
            write_stores(Path(folder), range(count))
            asyncio.run(prepare(load_settings()))
            first, again = seconds(), seconds()
            write_stores(Path(folder), range(count + 1))
            more = seconds()
        console.print(
            f"{count} models: {first:.1f} s ({first / count * 1000:.0f} ms a model); again without a change {again:.1f} s "
            f"({again / first:.2f} of the first); with one more model {more:.1f} s"
        )


def seconds() -> float:
    """The time of generating and deploying all models, as `make deploy` does it after prefect.yaml."""
    began = time.perf_counter()
    asyncio.run(deploy_selected(generated_deployments(), load_settings()))
    return time.perf_counter() - began
