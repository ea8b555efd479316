"""The registry of a replay: versions as files beside its lake instead of in MLflow, with the measurements of live trainings."""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter
from upath import UPath

from configs.schema import ModelConfig
from tasks.contracts import Promotion, Query, Registration, Trial, Version
from tasks.errors import ForgedVersion, UnknownVersion
from tasks.models.estimators import read_model
from tasks.registry import Registry
from tasks.storage.files import digest_json, replacing

if TYPE_CHECKING:
    import pandas as pd

PASSED_QUERY = Query("", 0.0, 0.0, 1, 0.0, 0)
"""The smoke test's result if production has none for that training: load, latency and size count as passed."""
_VERSION = TypeAdapter(Version)


class ReplayRegistry:
    """Versions as skops files beside the replay's lake. Their numbers consist of the as-of and a digest of all their fields.

    Attributes:
        measured: Smoke tests of live trainings, by as-of and whether the version is a refit.
    """

    uri = ""

    def __init__(self, root: UPath, model: str, measured: Mapping[tuple[datetime, bool], Query]) -> None:
        self.root, self.model, self.measured = root / "models", model, measured

    packages = staticmethod(functools.cache(Registry.packages))

    def open_training(self, name: str, flow_run: str, commit: str) -> str:
        return ""

    def close_training(self, run_id: str, failed: bool = False) -> None: ...

    def log_trial(self, parent: str, trial: Trial, period: str) -> None: ...

    def register(self, model: Any, config: ModelConfig, registration: Registration) -> Version:
        """Store a model, its version and its documents; parameters and metrics are not stored. The run has the version's number."""
        from skops.io import dump

        role, version = registration.role, registration.version
        identity = digest_json([role, *vars(replace(version, run_id="", training_run="")).values()])
        number = f"{version.as_of:%Y-%m-%d}-{identity[:5]}"  # the ledger stores 16 characters
        version = replace(version, version=number, run_id=number)
        for name, content in registration.documents.items():
            with replacing(self._file(number, name)) as draft:
                draft.write_text(json.dumps(content, default=str), encoding="utf-8")
        with replacing(self._file(version.version, "skops")) as draft:
            dump(model, draft)
        with replacing(self._file(version.version, "json")) as draft:
            draft.write_bytes(_VERSION.dump_json(version))
        return version

    def version(self, number: str) -> Version:
        """Read a version.

        Raises:
            UnknownVersion: The replay has no such version.
        """
        try:
            return _read_version(self._file(number, "json"))
        except FileNotFoundError:
            raise UnknownVersion(f"the replay of {self.model} has no version {number}; run the replay again") from None

    cached_version = version

    def document(self, run_id: str, name: str) -> Any:
        """Read a JSON document of a version, whose number is `run_id`.

        Raises:
            UnknownVersion: The replay has no such document.
        """
        try:
            return json.loads(self._file(run_id, name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UnknownVersion(f"the replay of {self.model} has no {name} of version {run_id}") from None

    def has(self, number: str) -> bool:
        """Return whether a version's files exist."""
        return all(self._file(number, suffix).is_file() for suffix in ("json", "skops"))

    def load(self, number: str, digest: str = "", threads: int | None = None) -> Any:
        """Load a model; policies of one process share it. Setting `threads` is not safe while another policy predicts.

        Raises:
            ForgedVersion: The file is damaged or has another digest.
        """
        try:
            return _load(self._file(number, "skops"), digest)
        except ForgedVersion as error:
            raise ForgedVersion(f"{error}. Delete it and run the replay again: it trains the version again") from error

    def query(self, number: str, config: ModelConfig, rows: "pd.DataFrame", expected: np.ndarray) -> Query:
        """Return the smoke test of the live training with the same as-of, by default a passed one."""
        version = self.version(number)
        return self.measured.get((version.as_of, bool(version.judged_as)), PASSED_QUERY)

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
def _load(path: UPath, digest: str) -> Any:
    """Load a model; policies of the same process share it."""
    return read_model(path, digest)


def live_queries(rows: Sequence[Promotion]) -> dict[tuple[datetime, bool], Query]:
    """Restore the smoke tests of live trainings from the verdicts in the ledger.

    Returns:
        Smoke tests by as-of and whether the version is a refit.
    """
    queries = {}
    for row in rows:
        values = {str(v["rule"]): v for v in row.evidence.get("verdicts", ())}
        for prefix in ("", "refit: "):
            names = (
                "load and query in a fresh process",
                "latency of one row, ms",
                "latency of a thousand rows, ms",
                "size, MB",
            )
            verdicts = [values.get(prefix + name) for name in names]
            if all(verdicts) and row.action in ("stage", "refuse"):
                loads, one, thousand, size = (v for v in verdicts if v)
                numbers = [float("nan") if v["value"] is None else float(v["value"]) for v in (one, thousand, size)]
                problem = "" if loads["passed"] else f"refused when it was trained: {loads['note']}"
                query = Query(problem, numbers[0], numbers[1], round(numbers[2] * 1e6), 0.0, 0)
                queries[row.as_of, bool(prefix)] = query
    return queries
