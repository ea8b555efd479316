"""The definition of a version: everything that it was made from, apart from the rows. It is recorded in the version's MLflow run.

Two versions with the same definition differ only by the rows that they were fitted on, and by tuned parameters. The newer one is then a
refresh of the other. With another definition it is a change.

A version that was fitted with the champion's recipe has the champion's definition, not that of model.yaml.
"""

import copy
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from configs.load import Model
from configs.schema import ModelConfig
from tasks.contracts import Recipe, Stage, Version, Window
from tasks.errors import UnknownVersion
from tasks.orchestration.prefect_tasks import run_log
from tasks.resources import Resources
from tasks.storage.files import digest_json
from tasks.training.pinned import contents_of

ESTIMATOR, PARAMETERS, CALIBRATION, FEATURES = "estimator", "parameters", "calibration", "features"
BY_ROWS = frozenset({"source", "expectations"})
"""Parts that count as different only if other valid rows come of them: files may be moved, and rules added that no row breaks."""
FITTED = frozenset({ESTIMATOR, PARAMETERS, CALIBRATION, FEATURES})
"""Parts with which the champion's recipe can be fitted on the challenger's rows. The other parts determine the rows themselves."""
DOCUMENT = "definition.json"
UNKNOWN = "the champion's recipe is not on record"


Definition = Mapping[str, Any]
"""The parts by name, JSON values."""


def sql_of(model: Model) -> dict[str, str]:
    """Return the queries of source and labels by name; empty for a flat file."""
    return {name: text for name, text in (("source", model.source_sql), ("labels", model.labels_sql)) if text}


def define(recipe: Recipe, config: ModelConfig, sql: Mapping[str, str]) -> Definition:
    """Return the definition of a recipe with a config and its queries. Tuned parameters are represented by their search space."""
    active, rules = config.features.active, config.training
    declared = rules.candidates.get(recipe.candidate)  # not for the linear baseline
    search = declared.search if declared else None
    parts = {
        "SQL": {name: _plain_sql(text) for name, text in sql.items()},
        "source": config.source.query_settings(),
        "rows": config.model_dump(include={"key", "time", "partition"}),
        "target": config.target.model_dump(),
        FEATURES: [sorted(active.numeric), sorted(active.categorical)],
        ESTIMATOR: recipe.estimator,
        PARAMETERS: [
            dict(declared.params if declared else recipe.params),
            search.model_dump(exclude={"time_limit"}) if search else None,
        ],
        CALIBRATION: recipe.calibration,
        "window": rules.window.model_dump(include={"partitions", "max_rows"}),
        "expectations": [expectation.model_dump() for expectation in config.expectations],
    }
    content: Definition = json.loads(json.dumps(parts, default=str))
    return content


def _plain_sql(text: str) -> str:
    """Return SQL without comments and with single spaces, since neither changes the rows."""
    return " ".join(re.sub(r"--[^\n]*", "", text).split())


def current_definition(recipe: Recipe, res: Resources) -> Definition:
    """Return the definition of a recipe with the current model.yaml and SQL."""
    return define(recipe, res.config, sql_of(res.model))


def recorded_definition(version: Version, res: Resources) -> Definition | None:
    """Return the definition that is recorded in a version's run. None if the record is gone or is of another schema.

    Versions of v0.1 have no such document. Theirs follows from the recorded config and queries.

    Raises:
        RegistryUnavailable: MLflow does not respond.
    """
    document = res.registry.document
    try:
        content: Definition = document(version.run_id, DOCUMENT)
        return content
    except UnknownVersion:
        pass
    try:
        config = ModelConfig.model_validate(document(version.run_id, "config.json"))
        return define(version.recipe, config, document(version.run_id, "lineage.json").get("sql", {}))
    except (UnknownVersion, ValidationError) as error:
        run_log().warning(
            "the recipe of version %s cannot be read, so every training is a change: %s", version.version, error
        )
        return None


def differences(
    mine: Definition | None, theirs: Definition | None, champion: Version, window: Window, res: Resources
) -> tuple[str, ...]:
    """Return the names of the parts in which a challenger's definition differs from the champion's; empty for a refresh.

    No calibration, where the champion has one, is not a difference, nor is a part of `BY_ROWS` if the rows are the same.
    """
    if mine is None or theirs is None:
        return (UNKNOWN,)
    names = [name for name in mine if mine[name] != theirs.get(name)]
    if mine[CALIBRATION] == "none" and CALIBRATION in names:
        names.remove(CALIBRATION)
    if BY_ROWS & set(names) and same_rows(champion, window, res):
        names = [name for name in names if name not in BY_ROWS]
    return tuple(names)


def change_key(different: tuple[str, ...], mine: Definition | None, theirs: Definition | None, *more: str) -> str:
    """Return what identifies a change among the tests of others: the parts that differ, as they are and as they were.

    A calibration counts only if nothing else differs, since it may come and go with the data.
    """
    names = tuple(name for name in different if name != CALIBRATION) or different
    if UNKNOWN in names:
        return digest_json([UNKNOWN, mine, theirs, *more])[:16]
    assert mine
    assert theirs
    return digest_json([[[name, mine[name], theirs.get(name)] for name in names], *more])[:16]


def same_rows(champion: Version, window: Window, res: Resources) -> bool:
    """Return whether the valid rows of every partition that the champion's training read are still the same. False if that is unknown."""
    then = res.registry.document(champion.run_id, "lineage.json").get("contents", {}).get(Stage.VALID, {})
    now = contents_of(window, res)[Stage.VALID]
    common = then.keys() & now.keys()
    return bool(common) and all(then[key] == now[key] for key in common)


def with_features_of(champion: Version, res: Resources) -> Resources:
    """Return the resources with the features of a champion's recorded config."""
    config = ModelConfig.model_validate(res.registry.document(champion.run_id, "config.json"))
    other = copy.copy(res)
    other.model = replace(res.model, config=res.config.model_copy(update={"features": config.features}))
    return other
