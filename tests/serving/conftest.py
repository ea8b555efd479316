"""Versions and a ledger as serving finds them: fitted here, kept as local copies, promoted by rows; no MLflow is asked."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import skops.io
import yaml
from fastapi.testclient import TestClient

from configs.load import load_model
from configs.settings import load_settings
from serving.__main__ import make_service
from serving.app import Service, make_app
from tasks.contracts import Promotion, Recipe
from tasks.ledger.store import Ledger
from tasks.models.fingerprint import model_digest
from tasks.training.splits import fit
from tests.conftest import parcels

MOMENT = datetime(2024, 3, 12, tzinfo=UTC)


class World:
    """One folder with the tiny model, its ledger and its versions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = load_settings()
        self.ledger = Ledger(self.settings.database, "tiny")
        self.models: dict[str, Any] = {}

    @property
    def config(self):
        return load_model("tiny").config

    def say(self, **changes: Any) -> None:
        """Change keys of model.yaml; nested ones by their path with dots as `__`."""
        path = self.folder / "configs" / "tiny" / "model.yaml"
        content = yaml.safe_load(path.read_text())
        for name, value in changes.items():
            at = content
            *above, last = name.split("__")
            for part in above:
                at = at.setdefault(part, {})
            at[last] = value
        path.write_text(yaml.safe_dump(content))

    def version(self, number: str, depth: int = 3, columns: dict[str, Any] | None = None) -> str:
        """Fit a version and keep it as the local copy that a registry would have fetched; returns its digest."""
        rows = pd.concat([parcels(day) for day in range(8)], ignore_index=True).dropna(subset=["late"])
        rows = rows.assign(**columns or {})
        params = {"n_estimators": 20, "max_depth": depth}
        model = fit(
            Recipe("x", "xgboost", params),
            rows,
            SimpleNamespace(config=self.config, settings=SimpleNamespace(threads=1)),
        )
        folder = self.folder / ".evergreen" / "models" / "tiny" / number
        folder.mkdir(parents=True, exist_ok=True)
        skops.io.dump(model, folder / "model.skops")
        self.models[number] = model
        return model_digest(model)

    def row(self, action: str, version: str, digest: str = "", **more: Any) -> Promotion:
        """Append a row; one that makes a champion is decided against the champion that there is."""
        champion = self.ledger.champion()
        made = Promotion(
            model="tiny", sequence=0, action=action, version=version, previous=champion.version if champion else None,
            as_of=more.pop("as_of", MOMENT + timedelta(minutes=len(self.ledger.promotions()))), window_end=MOMENT,
            by="tests", reason="a test", evidence={"digest": digest} if digest else {},
            against=champion.sequence if champion else 0, **more,
        )  # fmt: skip
        return self.ledger.append(made)

    def promote(self, version: str, **more: Any) -> Promotion:
        return self.row("promote", version, self.ledger.digest(version) or model_digest(self.models[version]), **more)

    def service(self, token: str = "") -> Service:
        return make_service(load_settings(), token)


@pytest.fixture
def world(tiny: Path) -> World:
    """The tiny model with version 1 as its champion."""
    made = World(tiny)
    made.version("1")
    made.promote("1")
    return made


@pytest.fixture
def client(world: World) -> Iterator[Any]:
    """A client of a server that follows the world's ledger, in this process."""
    with served(world) as found:
        yield found


@contextmanager
def served(world: World, token: str = "") -> Iterator[Any]:
    """A client of a new server, when it is ready; `client.service` is what stands behind it."""
    service = world.service(token)
    with TestClient(make_app(service), raise_server_exceptions=False) as client:
        client.service = service
        deadline = time.monotonic() + 60
        while not service.follower.ready:
            assert time.monotonic() < deadline, service.follower.reigns
            time.sleep(0.05)
        yield client


def rows_of(day: int, count: int = 3) -> list[dict[str, Any]]:
    """Rows of a day as a request has them, with key and time."""
    found = parcels(day).head(count).drop(columns=["late", "arrived"])
    found["sent"] = found["sent"].map(lambda moment: moment.isoformat())
    return found.astype(object).where(found.notna(), None).to_dict("records")
