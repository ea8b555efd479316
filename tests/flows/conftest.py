"""A played history of the tiny model, shared by the tests that only look at it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import settle

STEADY, SHIFTED = "2024-03-11", "2024-03-17"


@pytest.fixture(scope="module")
def played(
    tiny_source: Path, tmp_path_factory: pytest.TempPathFactory, mlflow_store: str, prefect_server: None
) -> Iterator[Path]:
    """Ten days backfilled, a champion trained, one steady and one shifted day processed and assessed; returns the folder."""
    from flows.assess import assess
    from flows.backfill import backfill
    from flows.process import process
    from flows.train import train

    folder = tmp_path_factory.mktemp("played")
    with pytest.MonkeyPatch.context() as patch:
        settle(tiny_source, folder, mlflow_store, patch)
        backfill(model="tiny", start="2024-03-01", end="2024-03-10")
        train(model="tiny", reason="first champion")
        process(model="tiny", partition=STEADY)
        assess(model="tiny", partition=STEADY)
        backfill(model="tiny", start="2024-03-12", end="2024-03-16")
        process(model="tiny", partition=SHIFTED)
        assess(model="tiny", partition=SHIFTED)
        yield folder


@pytest.fixture
def world(tiny: Path, prefect_server: None) -> Path:
    """The tiny model in a fresh world, with a Prefect server to run flows on."""
    return tiny
