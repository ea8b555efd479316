"""Model versions and a ledger for the tests of serving. Versions are fitted here and saved as local copies, without MLflow."""

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
from tasks.contracts import Action, Promotion, Recipe
from tasks.ledger.store import Ledger
from tasks.models.fingerprint import model_digest
from tasks.training.splits import fit
from tests.conftest import parcels

MOMENT = datetime(2024, 3, 12, tzinfo=UTC)


class Environment:
    """A folder with the tiny model, its ledger and its versions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = load_settings()
        self.ledger = Ledger(self.settings.database, "tiny")
        self.models: dict[str, Any] = {}

    @property
    def config(self):
        return load_model("tiny").config

    def edit_config(self, **changes: Any) -> None:
        """Change keys of model.yaml. Nested keys are joined by `__`."""
        path = self.folder / "configs" / "tiny" / "model.yaml"
        content = yaml.safe_load(path.read_text())
        for name, value in changes.items():
            node = content
            *parents, leaf = name.split("__")
            for part in parents:
                node = node.setdefault(part, {})
            node[leaf] = value
        path.write_text(yaml.safe_dump(content))

    def fit_version(self, number: str, depth: int = 3, columns: dict[str, Any] | None = None) -> str:
        """Fit a version, save it as if it had been downloaded from the registry, and return its digest."""
        rows = pd.concat([parcels(day) for day in range(8)], ignore_index=True).dropna(subset=["late"])
        rows = rows.assign(**columns or {})
        params = {"n_estimators": 20, "max_depth": depth}
        res: Any = SimpleNamespace(config=self.config, settings=SimpleNamespace(threads=1))
        model = fit(Recipe("x", "xgboost", params), rows, res)
        folder = self.folder / ".evergreen" / "models" / "tiny" / number
        folder.mkdir(parents=True, exist_ok=True)
        skops.io.dump(model, folder / "model.skops")
        self.models[number] = model
        return model_digest(model)

    def append_row(self, action: Action, version: str, digest: str = "", **fields: Any) -> Promotion:
        """Append a row to the ledger, decided against the current champion."""
        champion = self.ledger.champion()
        promotion = Promotion(
            model="tiny", sequence=0, action=action, version=version, previous=champion.version if champion else None,
            as_of=fields.pop("as_of", MOMENT + timedelta(minutes=len(self.ledger.promotions()))), window_end=MOMENT,
            by="tests", reason="a test", evidence={"digest": digest} if digest else {},
            against=champion.sequence if champion else 0, **fields,
        )  # fmt: skip
        return self.ledger.append(promotion)

    def promote(self, version: str, **fields: Any) -> Promotion:
        return self.append_row(
            "promote", version, self.ledger.digest(version) or model_digest(self.models[version]), **fields
        )

    def service(self, token: str = "") -> Service:
        return make_service(load_settings(), token)


@pytest.fixture
def env(tiny: Path) -> Environment:
    """The tiny model with version 1 as its champion."""
    environment = Environment(tiny)
    environment.fit_version("1")
    environment.promote("1")
    return environment


@pytest.fixture
def client(env: Environment) -> Iterator[Any]:
    """A client of a server in this process."""
    with running_client(env) as client:
        yield client


@contextmanager
def running_client(env: Environment, token: str = "") -> Iterator[Any]:
    """Start a server in this process and yield a client when it is ready. `client.service` is the server's service."""
    service = env.service(token)
    with TestClient(make_app(service), raise_server_exceptions=False) as test_client:
        client: Any = test_client
        client.service = service
        deadline = time.monotonic() + 60
        while not service.follower.ready:
            assert time.monotonic() < deadline, service.follower.states
            time.sleep(0.05)
        yield client


def request_rows(day: int, count: int = 3) -> list[dict[str, Any]]:
    """Return rows of a day as in a request, with key and time."""
    rows = parcels(day).head(count).drop(columns=["late", "arrived"])
    rows["sent"] = rows["sent"].map(lambda sent: sent.isoformat())
    return rows.astype(object).where(rows.notna(), None).to_dict("records")
