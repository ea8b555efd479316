"""Folders of the tiny model with some history, to be copied and continued, or only read."""

from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import pytest

from tests.conftest import SHIFTED_FROM, day_file, parcels, set_up_copy, set_up_tiny

STEADY, SHIFTED = "2024-03-11", "2024-03-17"


def parcels_of(folder: Path, n: int, like: int) -> None:
    """Give the n-th day of a folder the rows of another day, with its own keys and times."""
    frame, source = parcels(n), parcels(like)
    for name in ("weight", "distance", "city", "late", "arrived"):
        frame[name] = source[name]
    frame.to_parquet(day_file(folder, n), index=False)


@pytest.fixture(scope="session")
def with_champion(tiny_source: Path, tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Path:
    """Ten days backfilled and a first champion, with an MLflow store of its own: the start of most tests. Tests copy it."""
    from flows.backfill import backfill
    from flows.train import train

    folder = tmp_path_factory.mktemp("with_champion")
    with pytest.MonkeyPatch.context() as patch:
        set_up_tiny(tiny_source, folder, f"sqlite:///{folder}/mlflow.db", patch)
        backfill(model="tiny", start="2024-03-01", end="2024-03-10")
        train(model="tiny", reason="first champion")
    return folder


@pytest.fixture
def champion(with_champion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder for one test."""
    set_up_copy(with_champion, tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture(scope="module")
def processed(
    with_champion: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Path]:
    """After the first champion one steady and one shifted day, processed and assessed. Tests only read the folder.

    The shifted day has other rows for each file of tests. The same rows under the same champion would be the same fact, and its
    events would mix with those of another file.
    """
    from flows.assess import assess
    from flows.backfill import backfill
    from flows.process import process

    folder = tmp_path_factory.mktemp("processed")
    with pytest.MonkeyPatch.context() as patch:
        set_up_copy(with_champion, folder, patch)
        parcels_of(folder, SHIFTED_FROM, SHIFTED_FROM + crc32(request.module.__name__.encode()) % 1000)
        process(model="tiny", partition=STEADY)
        assess(model="tiny", partition=STEADY)
        backfill(model="tiny", start="2024-03-12", end="2024-03-16")
        process(model="tiny", partition=SHIFTED)
        assess(model="tiny", partition=SHIFTED)
        yield folder


@pytest.fixture
def workspace(tiny: Path, prefect_server: None) -> Path:
    """The tiny model in its own folder, without history, with a Prefect server for flows."""
    return tiny
