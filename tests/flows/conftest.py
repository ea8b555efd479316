"""Worlds of the tiny model in which something has happened: to be copied and gone on with, or only looked at."""

from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import pytest

from tests.conftest import SHIFTED_FROM, day_file, parcels, settle, settle_copy

STEADY, SHIFTED = "2024-03-11", "2024-03-17"


def parcels_of(folder: Path, n: int, like: int) -> None:
    """Give the n-th day of a world the rows of another one, under its own keys and times."""
    given, source = parcels(n), parcels(like)
    for name in ("weight", "distance", "city", "late", "arrived"):
        given[name] = source[name]
    given.to_parquet(day_file(folder, n), index=False)


@pytest.fixture(scope="session")
def begun(tiny_source: Path, tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Path:
    """Ten days backfilled and a first champion, in a world with an MLflow store of its own: how most stories begin. To be copied."""
    from flows.backfill import backfill
    from flows.train import train

    folder = tmp_path_factory.mktemp("begun")
    with pytest.MonkeyPatch.context() as patch:
        settle(tiny_source, folder, f"sqlite:///{folder}/mlflow.db", patch)
        backfill(model="tiny", start="2024-03-01", end="2024-03-10")
        train(model="tiny", reason="first champion")
    return folder


@pytest.fixture
def champion(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that world for one test."""
    settle_copy(begun, tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture(scope="module")
def played(begun: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Path]:
    """After the first champion one steady and one shifted day, processed and assessed; returns the folder. To be looked at.

    The shifted day has other rows for each file of tests: the same rows under the same champion would be the same fact, and its events
    those of another file.
    """
    from flows.assess import assess
    from flows.backfill import backfill
    from flows.process import process

    folder = tmp_path_factory.mktemp("played")
    with pytest.MonkeyPatch.context() as patch:
        settle_copy(begun, folder, patch)
        parcels_of(folder, SHIFTED_FROM, SHIFTED_FROM + crc32(request.module.__name__.encode()) % 1000)
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
