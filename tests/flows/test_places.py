"""A model from tables in a database, in Delta and on S3 has the champion that it has from local files, by its digest."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import pytest
import yaml
from upath import UPath

from flows.backfill import backfill
from flows.train import train
from tasks.resources import open_resources
from tests.buckets import key_variables, new_bucket
from tests.conftest import DAYS, parcels
from tests.tasks.source.databases import ADDRESS, database_model, load_parcels, new_database
from tests.tasks.source.test_delta import delta_model, write

pytestmark = [pytest.mark.usefixtures("prefect_server"), pytest.mark.slow]


def test_the_champion_is_that_of_the_local_files_wherever_the_table_is(workspace, tmp_path, monkeypatch):
    config = workspace / "configs" / "tiny" / "model.yaml"
    local, expected = config.read_text(), champion_digest()
    for place in ("postgresql", "sqlite", "delta", "s3"):
        config.write_text(local)
        monkeypatch.setenv("EVERGREEN_LAKE", str(tmp_path / f"lake-{place}"))
        monkeypatch.setenv("EVERGREEN_DATABASE_URL", f"sqlite:///{tmp_path}/ledger-{place}.db")
        with PLACES[place](workspace, monkeypatch):
            assert "path" not in table_of(config) or "s3://" in table_of(config)["path"]
            assert champion_digest() == expected, place


def champion_digest() -> str:
    """Train a first champion, and return the digest of its complete state."""
    backfill(model="tiny", start="2024-03-01", end="2024-03-10", stages=["ingest", "validate", "assess"])
    train(model="tiny", reason="first")
    res = open_resources("tiny")
    return res.registry.version(res.champion().version).digest


def table_of(config: Path) -> dict[str, str]:
    table: dict[str, str] = yaml.safe_load(config.read_text())["source"]["tables"]["parcels"]
    return table


@contextmanager
def in_database(kind: str, tiny: Path, patch: pytest.MonkeyPatch) -> Iterator[None]:
    with new_database(kind, tiny) as address:
        patch.setenv(ADDRESS, address)
        load_parcels(address)
        database_model(tiny, address)
        yield


@contextmanager
def in_delta(tiny: Path, patch: pytest.MonkeyPatch) -> Iterator[None]:
    for day in range(DAYS):
        write(str(tiny / "delta"), parcels(day))
    delta_model(tiny, str(tiny / "delta"))
    yield


@contextmanager
def on_s3(tiny: Path, patch: pytest.MonkeyPatch) -> Iterator[None]:
    config = tiny / "configs" / "tiny" / "model.yaml"
    content, path = yaml.safe_load(config.read_text()), Path(table_of(config)["path"])
    with new_bucket("places") as endpoint:
        for name, value in key_variables(endpoint).items():
            patch.setenv(name, value)
        for file in path.parent.iterdir():
            UPath(f"s3://places/{file.name}").write_bytes(file.read_bytes())
        content["source"]["tables"]["parcels"]["path"] = f"s3://places/{path.name}"
        config.write_text(yaml.safe_dump(content))
        yield


PLACES: Mapping[str, Callable[[Path, pytest.MonkeyPatch], AbstractContextManager[None]]] = {
    "postgresql": partial(in_database, "postgresql"),
    "sqlite": partial(in_database, "sqlite"),
    "delta": in_delta,
    "s3": on_s3,
}
