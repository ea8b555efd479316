"""Train a version again from its lineage, and check whether the result is the same model."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from configs.load import Model
from configs.schema import ModelConfig
from tasks.contracts import Learned, Stage, Version, Window
from tasks.errors import EvergreenError, MissingPartition
from tasks.models.features import predict
from tasks.models.fingerprint import model_digest
from tasks.orchestration.prefect_tasks import as_task, run_log
from tasks.resources import LiveResources, live_resources
from tasks.training.definition import sql_of
from tasks.training.fit import fit_recipe, training_ends, training_partitions
from tasks.training.pinned import with_contents
from tasks.training.window import rows_to_fit, window_from_lineage

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Reproduction:
    """The result of training a version again."""

    version: str
    same_digest: bool
    same_predictions: bool
    """Whether the predictions of all training rows are bitwise equal."""
    rows: int
    digest: str
    digest_again: str
    changed: tuple[str, ...]
    """Partitions whose rows have changed since the training, with a description."""
    differs: tuple[str, ...]
    """Libraries, queries and commit that have changed since the training, with a description."""

    @property
    def same(self) -> bool:
        """Whether digest and predictions are equal."""
        return self.same_digest and self.same_predictions


@as_task("train v{version.version} again")
def reproduce_version(version: Version, res: LiveResources) -> Reproduction:
    """Fit a version's recipe again, and compare digest and predictions.

    Uses the config in the version's MLflow run, and the contents that the training read. Where those are not kept any more, and for
    versions of v0.1, the fit uses the current rows. If they have changed since, the result names their partitions.

    Raises:
        UnknownVersion: MLflow no longer has the version, its run or its lineage.
        NotReproducible: Rows of the training no longer exist.
    """
    lineage = res.registry.document(version.run_id, "lineage.json")
    original = original_resources(res, res.registry.document(version.run_id, "config.json"), lineage)
    window = window_from_lineage(version.model, lineage["window"])
    until, _ = training_ends(lineage["role"], window, original)
    try:
        rows = rows_to_fit(original, window, until)
    except MissingPartition as error:
        raise NotReproducible(f"{version.model} v{version.version} cannot be trained again: {error}") from error
    changed = changed_partitions([Learned(**part) for part in lineage["learned"]], rows, window, original)
    for description in changed:
        run_log().warning("the data have changed since the training: %s", description)
    model = fit_recipe(version.recipe, rows, until, original)
    registered = res.load(version.version)
    predictions = [predict(m, rows, original.config).tobytes() for m in (registered, model)]
    digest = model_digest(model, like=version.digest)
    return Reproduction(
        version=version.version,
        same_digest=digest == version.digest,
        same_predictions=predictions[0] == predictions[1],
        rows=len(rows),
        digest=version.digest,
        digest_again=digest,
        changed=changed,
        differs=differences(lineage, res),
    )


class NotReproducible(EvergreenError):
    """The rows that a version was trained on no longer exist. Restore the partitions with `backfill` from the same source."""


def original_resources(res: LiveResources, config: dict[str, Any], lineage: dict[str, Any]) -> LiveResources:
    """Return the model's resources with the config, the number of threads and the contents that a version was trained with."""
    model = Model(ModelConfig.model_validate(config), res.model.folder, res.model.source_sql, res.model.labels_sql)
    settings = res.settings.model_copy(update={"threads": lineage["threads"]})
    original = live_resources(model, settings, res.flow_run)
    contents = {Stage(stage): digests for stage, digests in lineage.get("contents", {}).items()}  # v0.1 has none
    return with_contents(contents, original)


def changed_partitions(
    recorded: list[Learned], rows: "pd.DataFrame", window: Window, res: LiveResources
) -> tuple[str, ...]:
    """Describe the partitions whose rows differ from the recorded ones."""
    current = {part.partition: part for part in training_partitions(rows, window, res)}
    changes = []
    for part in recorded:
        now = current.get(part.partition)
        if now is None:
            changes.append(f"{part.partition}: its {part.rows} rows no longer exist")
        elif now.digest != part.digest:
            changes.append(f"{part.partition}: {part.rows} rows then, {now.rows} now, with other values")
    added = current.keys() - {part.partition for part in recorded}
    return (*changes, *(f"{key}: was not part of the training" for key in current if key in added))


def differences(lineage: dict[str, Any], res: LiveResources) -> tuple[str, ...]:
    """Describe libraries, queries and code that have changed since a training."""
    packages, sql = res.registry.packages(), sql_of(res.model)
    changes = [
        f"{name} was {number}, is {packages.get(name, 'not installed')}"
        for name, number in lineage["packages"].items()
        if packages.get(name) != number
    ]
    changes += [f"{name}.sql has changed" for name, text in lineage.get("sql", {}).items() if sql.get(name) != text]
    if lineage["git_commit"] and lineage["git_commit"] != res.commit:
        changes.append(f"the code was {lineage['git_commit'][:12]}, is {res.commit[:12] or 'unknown'}")
    return tuple(changes)
