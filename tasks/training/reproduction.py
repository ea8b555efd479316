"""Train a version again from its own record, and say whether the same model comes out."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from configs.load import Model
from configs.schema import ModelConfig
from tasks.contracts import Learned, Version, Window
from tasks.errors import EvergreenError, MissingPartition
from tasks.models.features import predict
from tasks.models.fingerprint import model_digest
from tasks.orchestration.prefect_tasks import as_task, run_log
from tasks.resources import Resources
from tasks.training.fit import fit_recipe, fitted_until, learned_from, sql_of
from tasks.training.window import rows_to_fit, window_from

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Reproduction:
    """What came of training a version again. `same_predictions` is about the bytes, on every row it learned from."""

    version: str
    same_digest: bool
    same_predictions: bool
    rows: int
    digest: str
    digest_again: str
    changed: tuple[str, ...]
    """Partitions whose rows are not those it learned from, each with what is different."""
    differs: tuple[str, ...]
    """Libraries, thread count and commit that are not those of then."""

    @property
    def same(self) -> bool:
        return self.same_digest and self.same_predictions


@as_task("train v{version.version} again")
def reproduce_version(version: Version, res: Resources) -> Reproduction:
    """Fetch what a version's record names, fit its recipe again, and compare digest and predictions.

    The config is the one of then, from the version's MLflow run, and the rows are those known as of then.
    Where rows have changed since, the partitions are named, and the fit is made on what there is now.

    Raises:
        UnknownVersion: MLflow no longer has the version, its run or its record.
        NotReproducible: rows that it learned from are gone.
    """
    lineage = res.registry.document(version.run_id, "lineage.json")
    then = at_that_time(res, res.registry.document(version.run_id, "config.json"), lineage)
    window = window_from(version.model, lineage["window"])
    until, _ = fitted_until(lineage["role"], window, then)
    try:
        rows = rows_to_fit(then, window, until)
    except MissingPartition as gone:
        raise NotReproducible(f"{version.model} v{version.version} cannot be trained again: {gone}") from gone
    changed = changed_partitions([Learned(**part) for part in lineage["learned"]], rows, window, then)
    for told in changed:
        run_log().warning("the data have changed since: %s", told)
    again = fit_recipe(version.recipe, rows, until, then)
    kept = res.load(version.version)
    one, other = (predict(model, rows, then.config).tobytes() for model in (kept, again))
    return Reproduction(
        version=version.version,
        same_digest=model_digest(again) == version.digest,
        same_predictions=one == other,
        rows=len(rows),
        digest=version.digest,
        digest_again=model_digest(again),
        changed=changed,
        differs=differences(lineage, res),
    )


class NotReproducible(EvergreenError):
    """What a version learned from is not there any more. Bring the partitions back by `backfill` from the same source."""


def at_that_time(res: Resources, config: dict[str, Any], lineage: dict[str, Any]) -> Resources:
    """The same model's lake and registry with the config and the thread count that a version was trained with."""
    earlier = Model(ModelConfig.model_validate(config), res.model.folder, res.model.source_sql, res.model.labels_sql)
    settings = res.settings.model_copy(update={"threads": lineage["threads"]})
    return Resources(earlier, settings, res.flow_run)


def changed_partitions(then: list[Learned], rows: "pd.DataFrame", window: Window, res: Resources) -> tuple[str, ...]:
    """Partitions whose rows differ from the recorded ones, a sentence each."""
    now = {part.partition: part for part in learned_from(rows, window, res)}
    found = []
    for part in then:
        current = now.get(part.partition)
        if current is None:
            found.append(f"{part.partition}: none of its {part.rows} rows is there any more")
        elif current.digest != part.digest:
            found.append(f"{part.partition}: {part.rows} rows then, {current.rows} now, with other values")
    return (*found, *(f"{key}: was not learned from then" for key in now if key not in {p.partition for p in then}))


def differences(lineage: dict[str, Any], res: Resources) -> tuple[str, ...]:
    """What is not as it was: libraries, commit."""
    now = res.registry.packages()
    found = [
        f"{name} was {number}, is {now.get(name, 'not installed')}"
        for name, number in lineage["packages"].items()
        if now.get(name) != number
    ]
    now_sql = sql_of(res.model)
    found += [f"{name}.sql has changed" for name, text in lineage.get("sql", {}).items() if now_sql.get(name) != text]
    if lineage["git_commit"] and lineage["git_commit"] != res.commit:
        found.append(f"the code was {lineage['git_commit'][:12]}, is {res.commit[:12] or 'not known'}")
    return tuple(found)
