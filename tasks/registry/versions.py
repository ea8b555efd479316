"""Registered versions: made once, fetched once, remembered here, and held to their digest.

Models are kept as skops files, whose loading runs no arbitrary code.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.schema import ModelConfig
from configs.settings import silence_vendors
from tasks.contracts import Learned, Query, Recipe, Version
from tasks.errors import ForgedVersion, UnknownVersion
from tasks.models.estimators import TRUSTED, read_model
from tasks.models.fingerprint import model_digest
from tasks.models.smoke_test import query_version
from tasks.registry.runs import REQUIREMENTS, Runs, log_finite, log_inputs
from tasks.storage.files import replacing

if TYPE_CHECKING:
    import pandas as pd


class Versions(Runs):
    """The registered versions of one model. A version never changes."""

    def register(
        self,
        model: Any,
        config: ModelConfig,
        *,
        run_id: str,
        role: str,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        version: Version,
        documents: Mapping[str, Any],
        learned: Sequence[Learned],
    ) -> Version:
        """Log a model and register it as the next version: on the training's run, or on a child of it.

        `version` carries everything but the number and the run, which MLflow gives. The model
        is logged before the metrics, since MLflow gets slower with every metric of a run.

        Raises:
            RegistryUnavailable: MLflow does not answer; a run may be left, but no version.
        """
        child = {"parent": run_id, "run_name": role} if role != "challenger" else {"run_id": run_id}
        with self.answers(), self.run(**child) as own:
            import mlflow

            mlflow.log_params({k: str(v)[:500] for k, v in params.items()})
            logged = mlflow.sklearn.log_model(
                model,
                name="model",
                serialization_format="skops",
                skops_trusted_types=list(TRUSTED),
                signature=signature(config),
                pip_requirements=[f"{name}=={installed(name)}" for name in REQUIREMENTS],
                pyfunc_predict_fn="predict" if config.target.kind == "regression" else "predict_proba",
            )
            log_finite(metrics)
            for name, content in documents.items():
                mlflow.log_dict(content, name)
            log_inputs(learned)
            tags = to_tags(version)
            mlflow.set_tags(tags)
            made = mlflow.register_model(logged.model_uri, self.model, tags=tags)
            return Version(**(vars(version) | {"version": str(made.version), "run_id": own}))

    def version(self, number: str) -> Version:
        """What is known of a version.

        Raises:
            UnknownVersion: MLflow has none of this number, or it was not made by Evergreen.
        """
        with self.answers(f"version {number!r} of {self.model!r}"):
            found = self.client.get_model_version(self.model, number)
        return from_tags(self.model, number, found.run_id or "", dict(found.tags))

    def recall(self, number: str) -> Version:
        """The same, from what this machine remembers of it: a version never changes, and may be asked about when MLflow is down."""
        memory = self.cache / f"{number}.json"
        if memory.is_file():
            found = json.loads(memory.read_text(encoding="utf-8"))
            return from_tags(self.model, number, found["run_id"], found["tags"])
        version = self.version(number)
        with replacing(memory) as draft:
            draft.write_text(json.dumps({"run_id": version.run_id, "tags": to_tags(version)}), encoding="utf-8")
        return version

    def load(self, number: str, digest: str = "") -> Any:
        """A version's fitted model, from the local copy when there is one; held to `digest` where one is given.

        Raises:
            RegistryUnavailable: MLflow does not answer and there is no local copy.
            UnknownVersion: there is no such version.
            ForgedVersion: the file is not the model that was registered.
        """
        folder = self.local_copy(number)
        silence_vendors()
        model = read_model(folder / "model.skops")
        if digest and (found := model_digest(model)) != digest:
            raise ForgedVersion(
                f"{folder / 'model.skops'} is not version {number} of {self.model!r} as the ledger knows it (digest {found[:12]}, "
                f"not {digest[:12]}); find out who changed it, delete the folder, and `rollback` if MLflow's copy is wrong too"
            )
        return model

    def has_copy(self, number: str) -> bool:
        """Whether a version's files are on this machine."""
        return (self.cache / number).is_dir()

    def local_copy(self, number: str) -> Path:
        """The folder with a version's files; fetched whole or not at all."""
        folder = self.cache / number
        if folder.is_dir():
            return folder
        with self.answers(f"version {number!r} of {self.model!r}"):
            import mlflow

            self.client.get_model_version(self.model, number)
            self.cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.cache) as draft:
                fetched = mlflow.artifacts.download_artifacts(f"models:/{self.model}/{number}", dst_path=draft)
                try:
                    Path(fetched).rename(folder)
                except OSError:  # another process fetched it meanwhile
                    if not folder.is_dir():
                        raise
        return folder

    def query(self, number: str, config: ModelConfig, rows: "pd.DataFrame", expected: np.ndarray) -> Query:
        """Load a version in a fresh process and ask it about some rows, which here are predicted as `expected`."""
        return query_version(config, self.local_copy(number), rows, expected)

    def forget_copies(self) -> None:
        """Drop the local copies; the next load fetches again."""
        shutil.rmtree(self.cache, ignore_errors=True)

    def version_url(self, number: str) -> str:
        return f"{self.uri}/#/models/{self.model}/versions/{number}" if self.uri.startswith("http") else ""


def signature(config: ModelConfig) -> Any:
    """MLflow's schema of the inputs: doubles and optional strings, so that nulls are allowed."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    columns = [ColSpec("double", name) for name in config.features.learned.numeric]
    columns += [ColSpec("string", name, required=False) for name in config.features.learned.categorical]
    wide = (-1,) if config.target.kind == "regression" else (-1, max(2, len(config.target.classes)))
    return ModelSignature(Schema(columns), Schema([TensorSpec(np.dtype("float64"), wide)]))


TAGGED = tuple(f.name for f in fields(Version) if f.name not in ("model", "version", "run_id"))


def to_tags(version: Version) -> dict[str, str]:
    """A version as MLflow tags, under `evergreen.`."""
    content = {k: v.isoformat() if isinstance(v, datetime) else v for k, v in asdict(version).items()}
    return {f"evergreen.{name}": json.dumps(content[name]) for name in TAGGED}


def from_tags(model: str, number: str, run_id: str, tags: dict[str, str]) -> Version:
    try:
        found = {name: json.loads(tags[f"evergreen.{name}"]) for name in TAGGED}
        times = {k: datetime.fromisoformat(found.pop(k)) for k in ("window_start", "window_end", "as_of")}
        shaped = {"recipe": Recipe(**found.pop("recipe")), "prior": tuple(found.pop("prior"))}
        return Version(**{**found, **times, **shaped, "model": model, "version": number, "run_id": run_id})
    except (KeyError, TypeError, ValueError) as error:
        raise UnknownVersion(
            f"version {number} of {model!r} was not registered by Evergreen ({error}); train one instead"
        ) from error
