"""Registered versions: registration, reading, and the smoke test. Models are stored as skops files."""

import json
from contextlib import suppress
from dataclasses import asdict, fields
from datetime import datetime
from importlib.metadata import version as installed
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.schema import ModelConfig
from tasks.contracts import Query, Recipe, Registration, Version
from tasks.errors import UnknownVersion
from tasks.models.estimators import TRUSTED_TYPES
from tasks.models.smoke_test import query_version
from tasks.registry.copies import Copies
from tasks.registry.runs import REQUIREMENTS, Runs, log_inputs, version_run_name
from tasks.storage.files import replacing

if TYPE_CHECKING:
    import pandas as pd


CONTENTS = "evergreen.contents"
"""Tag with the name of the note by which the contents of a version's training are kept."""


class Versions(Runs, Copies):
    """The registered versions of one model. A version never changes."""

    def register(self, model: Any, config: ModelConfig, registration: Registration) -> Version:
        """Log a model and register it as the next version.

        A challenger is logged on the training's run, a refit on a child run. The model is logged before any metric, since MLflow
        becomes slower with each metric of a run.

        Returns:
            The version with its number and run.

        Raises:
            RegistryUnavailable: MLflow does not respond. A run may have been created, but no version.
        """
        run_id, role, version = registration.run_id, registration.role, registration.version
        child = {"parent": run_id, "run_name": role} if role != "challenger" else {"run_id": run_id}
        with self.translated_errors(), self.run(**child) as own_run:
            import mlflow

            mlflow.log_params({k: str(v)[:500] for k, v in registration.params.items()})
            logged = mlflow.sklearn.log_model(
                model,
                name="model",
                serialization_format="skops",
                skops_trusted_types=list(TRUSTED_TYPES),
                signature=signature(config),
                pip_requirements=[f"{name}=={installed(name)}" for name in REQUIREMENTS],
                pyfunc_predict_fn="predict" if config.target.kind == "regression" else "predict_proba",
            )
            for name, content in registration.documents.items():
                mlflow.log_dict(content, name)
            log_inputs(registration.learned)
            tags = to_tags(version)
            tags |= {CONTENTS: registration.contents} if registration.contents else {}
            registered = mlflow.register_model(logged.model_uri, self.model, tags=tags)
            name = version_run_name(str(registered.version), version.recipe, registration.learned)
            self.client.update_run(own_run, name=name)
            self.client.set_tag(own_run, "evergreen.role", role)
            return Version(**(vars(version) | {"version": str(registered.version), "run_id": own_run}))

    def version(self, number: str) -> Version:
        """Read a version from MLflow.

        Raises:
            RegistryUnavailable: MLflow does not respond.
            UnknownVersion: MLflow has no such version, or Evergreen did not register it.
        """
        with self.translated_errors(f"version {number!r} of {self.model!r}"):
            registered = self.client.get_model_version(self.model, number)
        return from_tags(self.model, str(registered.version), registered.run_id or "", dict(registered.tags))

    def cached_version(self, number: str) -> Version:
        """Read a version from this machine's cache, or from MLflow the first time. So it is available while MLflow is down."""
        file = self.cache / f"{number}.json"
        with suppress(FileNotFoundError, ValueError, KeyError, UnknownVersion):  # a damaged file is written again
            content = json.loads(file.read_bytes())
            return from_tags(self.model, number, content["run_id"], content["tags"])
        version = self.version(number)
        with replacing(file) as draft:
            draft.write_text(json.dumps({"run_id": version.run_id, "tags": to_tags(version)}), encoding="utf-8")
        return version

    def query(self, number: str, config: ModelConfig, rows: "pd.DataFrame", expected: np.ndarray) -> Query:
        """Run the smoke test of a version, see `query_version`."""
        return query_version(config, self.local_copy(number), rows, expected)

    def version_url(self, number: str) -> str:
        """Return a version's page in the MLflow UI; empty for a registry without a server."""
        return f"{self.uri}/#/models/{self.model}/versions/{number}" if self.uri.startswith("http") else ""


def signature(config: ModelConfig) -> Any:
    """Return MLflow's schema of a model's inputs and output. Inputs are doubles and optional strings, so nulls are allowed."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    columns = [ColSpec("double", name) for name in config.features.active.numeric]
    columns += [ColSpec("string", name, required=False) for name in config.features.active.categorical]
    shape = (-1,) if config.target.kind == "regression" else (-1, max(2, len(config.target.classes)))
    return ModelSignature(Schema(columns), Schema([TensorSpec(np.dtype("float64"), shape)]))


TAG_FIELDS = tuple(f.name for f in fields(Version) if f.name not in ("model", "version", "run_id"))


def to_tags(version: Version) -> dict[str, str]:
    """Convert a version to MLflow tags with the prefix `evergreen.`."""
    content = {k: v.isoformat() if isinstance(v, datetime) else v for k, v in asdict(version).items()}
    return {f"evergreen.{name}": json.dumps(content[name]) for name in TAG_FIELDS}


def from_tags(model: str, number: str, run_id: str, tags: dict[str, str]) -> Version:
    """Convert MLflow tags to a version.

    Raises:
        UnknownVersion: A tag is missing or malformed.
    """
    try:
        values = {name: json.loads(tags[f"evergreen.{name}"]) for name in TAG_FIELDS}
        times = {k: datetime.fromisoformat(values.pop(k)) for k in ("window_start", "window_end", "as_of")}
        typed = {"recipe": Recipe(**values.pop("recipe")), "prior": tuple(values.pop("prior"))}
        return Version(**{**values, **times, **typed, "model": model, "version": number, "run_id": run_id})
    except (KeyError, TypeError, ValueError) as error:
        raise UnknownVersion(
            f"version {number} of {model!r} was not registered by Evergreen ({error}); choose another version, or train one"
        ) from error
