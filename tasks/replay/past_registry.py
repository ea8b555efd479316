"""The versions of a replay: files beside its lake instead of MLflow's, and what live trainings measured of theirs."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter
from upath import UPath

from configs.schema import ModelConfig
from tasks.contracts import Promotion, Query, Trial, Version
from tasks.errors import UnknownVersion
from tasks.models.estimators import read_model
from tasks.registry import Registry
from tasks.storage.files import digest_json, replacing

if TYPE_CHECKING:
    import pandas as pd

SOUND = Query("", 0.0, 0.0, 1, 0.0, 0)
"""Stands for load-and-query, latency and size: measured, not judged by statistics, they are taken as held."""
_VERSION = TypeAdapter(Version)


class ReplayRegistry:
    """Versions as skops files beside the replay's lake, numbered by as-of and everything that is known of them. No MLflow.

    `measured` has what live trainings measured, by as-of and whether of a refit.
    """

    uri = ""

    def __init__(self, root: UPath, model: str, measured: Mapping[tuple[datetime, bool], Query]) -> None:
        self.root, self.model, self.measured = root / "models", model, measured

    packages = staticmethod(functools.cache(Registry.packages))

    def open_training(self, name: str, flow_run: str, commit: str) -> str:
        return ""

    def close_training(self, run_id: str, failed: bool = False) -> None: ...

    def log_trial(self, parent: str, trial: Trial) -> None: ...

    def register(self, model: Any, config: ModelConfig, *, role: str, version: Version, **_: Any) -> Version:
        """Keep a model; what MLflow would log beside it is left out."""
        from skops.io import dump

        identity = digest_json([role, *vars(replace(version, run_id="", training_run="")).values()])
        made = replace(version, version=f"{version.as_of:%Y-%m-%d}-{identity[:8]}")
        with replacing(self._file(made.version, "skops")) as draft:
            dump(model, draft)
        with replacing(self._file(made.version, "json")) as draft:
            draft.write_bytes(_VERSION.dump_json(made))
        return made

    def version(self, number: str) -> Version:
        """Raises: UnknownVersion."""
        try:
            return _read_version(self._file(number, "json"))
        except FileNotFoundError:
            raise UnknownVersion(f"the replay of {self.model} has made no version {number}; run it again") from None

    recall = version

    def has(self, number: str) -> bool:
        """Whether a version's files are there."""
        return all(self._file(number, suffix).is_file() for suffix in ("json", "skops"))

    def load(self, number: str, digest: str = "") -> Any:
        return _load(self._file(number, "skops"))

    def query(self, number: str, config: ModelConfig, rows: "pd.DataFrame", expected: np.ndarray) -> Query:
        """As the live training of the same moment measured it, else taken as held."""
        version = self.version(number)
        return self.measured.get((version.as_of, bool(version.judged_as)), SOUND)

    def version_url(self, number: str) -> str:
        return ""

    def run_url(self, run_id: str) -> str:
        return ""

    def _file(self, number: str, suffix: str) -> UPath:
        return self.root / f"{number}.{suffix}"


@functools.lru_cache(maxsize=4096)
def _read_version(path: UPath) -> Version:
    return _VERSION.validate_json(path.read_bytes())


@functools.lru_cache(maxsize=64)
def _load(path: UPath) -> Any:
    """A model that this process has just read need not be read again; policies share them."""
    return read_model(path.read_bytes())


def measured_live(rows: Sequence[Promotion]) -> dict[tuple[datetime, bool], Query]:
    """What load-and-query and the budgets measured of live trainings, by as-of, and whether of the refit."""
    found = {}
    for row in rows:
        values = {str(v["rule"]): v for v in row.evidence.get("verdicts", ())}
        for prefix in ("", "refit: "):
            names = (
                "load and query in a fresh process",
                "latency of one row, ms",
                "latency of a thousand rows, ms",
                "size, MB",
            )
            asked = [values.get(prefix + name) for name in names]
            if all(asked) and row.action in ("stage", "refuse"):
                sound, one, thousand, size = (v for v in asked if v)
                numbers = [float("nan") if v["value"] is None else float(v["value"]) for v in (one, thousand, size)]
                problem = "" if sound["passed"] else f"refused when it was trained: {sound['note']}"
                query = Query(problem, numbers[0], numbers[1], round(numbers[2] * 1e6), 0.0, 0)
                found[row.as_of, bool(prefix)] = query
    return found
