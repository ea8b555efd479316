"""MLflow runs: one for each training, with a child run for each candidate and for the refit."""

import functools
import json
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import numpy as np

from tasks.contracts import BASELINE, Learned, Recipe, Trial
from tasks.registry.connection import retry_conflicts
from tasks.registry.series import Series

REQUIREMENTS = ("scikit-learn", "xgboost", "pandas", "numpy", "skops")
RECORDED = (*REQUIREMENTS, "optuna", "mlflow", "prefect", "great-expectations", "evidently")


ABOUT = (
    "Trainings of the model: a run for each, with a child run for each candidate and for the refit. A run of a version is named by it, "
    "its candidate and the newest partition that it learned. On it are `partition/...` (loss and skill of each partition that it scored, "
    "once its labels were known), `holdout_...` and `gain...` (what the gate judged), and for a refit `judged_version/...` (the same "
    "of the version that was judged in its place)."
)
"""Description of an experiment of trainings."""


class Runs(Series):
    """The runs of one model's trainings, in an experiment of its own."""

    def open_training(self, name: str, flow_run: str, commit: str) -> str:
        """Start the run of a training in the model's experiment, and return its id.

        Raises:
            RegistryUnavailable: MLflow does not respond.
        """
        with self.translated_errors(), self.run(run_name=name) as run_id:
            self.client.set_tag(run_id, "evergreen.flow_run", flow_run)
            self.client.set_tag(run_id, "mlflow.source.git.commit", commit)
            for package, number in self.packages().items():
                self.client.log_param(run_id, f"version.{package}", number)
            return run_id

    def close_training(self, run_id: str, failed: bool = False) -> None:
        """End the run of a training."""
        with self.translated_errors():
            self.client.set_terminated(run_id, "FAILED" if failed else "FINISHED")

    def log_trial(self, parent: str, trial: Trial, period: str) -> None:
        """Log a candidate or a baseline as a child run: its recipe, the loss of each split, and its search.

        Args:
            parent: The run of the training.
            trial: The candidate or baseline.
            period: The newest partition of the training's window, for the run's name.
        """
        with self.translated_errors(), self.run(run_name=f"{trial.name} {period}", parent=parent) as run_id:
            import mlflow

            mlflow.log_params(
                {"estimator": trial.recipe.estimator, **{k: str(v) for k, v in trial.recipe.params.items()}}
            )
            for step, loss in enumerate(trial.losses):
                log_finite({"validation_loss_by_split": loss}, step)
            for attempt in trial.tried:
                log_finite({"search_loss": attempt["loss"]}, attempt["number"])
            log_finite({"validation_loss": trial.loss})
            if trial.tried:
                mlflow.log_dict({"trials": list(trial.tried)}, "search.json")
            mlflow.set_tags(
                {"evergreen.beats_baseline": str(trial.beats_baseline), "evergreen.note": trial.note[:4000]}
            )
            self.client.set_tag(run_id, "evergreen.role", "candidate")

    @contextmanager
    def run(
        self,
        run_name: str | None = None,
        run_id: str | None = None,
        parent: str | None = None,
        experiment: str = "",
    ) -> Iterator[str]:
        """Open a new run, or the run `run_id` again. It fails if the body fails.

        Args:
            run_name: Name of a new run.
            run_id: An existing run.
            parent: The run of which a new run is a child.
            experiment: Name within the model's experiments, such as `replays`. By default, the one of its trainings.
        """
        import mlflow

        mlflow.set_tracking_uri(self.uri)
        name = f"evergreen/{self.model}"
        opened = mlflow.set_experiment(f"{name}/{experiment}" if experiment else name)
        if not experiment and "mlflow.note.content" not in opened.tags:
            self.client.set_experiment_tag(opened.experiment_id, "mlflow.note.content", ABOUT)
        tags = {"mlflow.parentRunId": parent} if parent else None
        with mlflow.start_run(run_id=run_id, run_name=run_name, tags=tags) as run:
            yield run.info.run_id

    def annotate(
        self,
        run_id: str,
        metrics: Mapping[str, float],
        documents: Mapping[str, Any],
        files: Mapping[str, bytes] | None = None,
        description: str = "",
    ) -> None:
        """Add results to a run.

        Args:
            metrics: By name; NaN is left out.
            documents: JSON documents by file name.
            files: Contents by path, such as `plots/roc.png`.
            description: The run's description in Markdown.
        """
        with self.translated_errors(), tempfile.TemporaryDirectory() as folder:
            for name, value in metrics.items():
                if value == value:
                    self.client.log_metric(run_id, name, value)
            for name, content in documents.items():
                self.client.log_dict(run_id, content, name)
            for name, data in (files or {}).items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            if files:
                self.client.log_artifacts(run_id, folder)
            if description:
                self.client.set_tag(run_id, "mlflow.note.content", description)

    def document(self, run_id: str, name: str) -> Any:
        """Return a JSON document of a run.

        Raises:
            UnknownVersion: The run or the document no longer exists.
        """
        import mlflow

        with self.translated_errors(f"{name} of run {run_id}"), tempfile.TemporaryDirectory() as folder:
            mlflow.set_tracking_uri(self.uri)
            path = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=name, dst_path=folder)
            return json.loads(Path(path).read_text())

    @staticmethod
    def packages() -> dict[str, str]:
        """Return the versions of the libraries that influence a training."""
        return {name: installed(name) for name in RECORDED}

    def run_url(self, run_id: str) -> str:
        """Return a run's page in the MLflow UI; empty for a registry without a server."""
        if not self.uri.startswith("http") or not run_id:
            return ""
        with self.translated_errors():
            return f"{self.uri}/#/experiments/{self.client.get_run(run_id).info.experiment_id}/runs/{run_id}"


def version_run_name(number: str, recipe: Recipe, learned: Sequence[Learned]) -> str:
    """Return the name of a version's run: `v3 xgboost 2013-07`, with the newest partition that it learned."""
    candidate = recipe.candidate.removeprefix(BASELINE)
    return " ".join([f"v{number}", candidate, *(part.partition for part in learned[-1:])])


def log_finite(metrics: Mapping[str, float], step: int | None = None) -> None:
    """Log the finite metrics on the active run. MLflow's database does not accept NaN and infinity."""
    import mlflow

    mlflow.log_metrics({k: v for k, v in metrics.items() if np.isfinite(v)}, step=step)


def log_inputs(learned: Sequence[Learned]) -> None:
    """Log the partitions of a training as MLflow dataset inputs, with the digests of their rows."""
    import mlflow
    from mlflow.data.dataset_source_registry import resolve_dataset_source
    from mlflow.data.meta_dataset import MetaDataset

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns that a path matches two types of source
        sources = [resolve_dataset_source(part.path) for part in learned]
    pairs = zip(sources, learned, strict=True)
    datasets = [MetaDataset(source, name=part.partition, digest=part.digest[:32]) for source, part in pairs]
    tags = [{"rows": str(part.rows), "sha256": part.digest} for part in learned]
    contexts = ["training"] * len(datasets)
    retry_conflicts(functools.partial(mlflow.log_inputs, datasets=datasets, contexts=contexts, tags_list=tags))
