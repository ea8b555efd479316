"""A model's features change while a champion is in use: it keeps its own features, and its successor gets the new ones."""

import pytest

from flows.backfill import backfill
from flows.process import process
from flows.train import train
from tasks.contracts import Stage
from tasks.errors import MissingFeature
from tasks.models.fast_predict import fitted_features
from tasks.models.features import predict
from tasks.resources import open_resources
from tasks.steps.drift_reference import NO_COLUMN

pytestmark = pytest.mark.slow

FEATURES = "features: {numeric: [weight, distance], categorical: [city]}"
SQL = "SELECT parcel, sent, weight, distance, city"


def change(workspace, features: str, columns: str = SQL) -> None:
    """Declare other features in model.yaml and source.sql."""
    home = workspace / "configs" / "tiny"
    path, sql = home / "model.yaml", home / "source.sql"
    path.write_text(path.read_text().replace(FEATURES, features))
    sql.write_text(sql.read_text().replace(SQL, columns))


def test_a_champion_scores_with_the_features_it_was_fitted_with_and_its_successor_without_the_retired_ones(champion):
    before = open_resources("tiny")
    first = before.champion().version
    more = "features: {numeric: [distance, heavy, weight], categorical: [city], retired: [distance]}"
    change(champion, more, f"{SQL}, weight * 2 AS heavy")
    process(model="tiny", partition="2024-03-11")
    res = open_resources("tiny")
    rows, predictions = (res.lake.read(stage, "2024-03-11") for stage in (Stage.VALID, Stage.PREDICTIONS))
    expected = predict(res.load(first), rows[["weight", "distance", "city"]], before.config)
    assert set(predictions["model_version"]) == {first}
    assert predictions["prediction"].to_numpy().tobytes() == expected.tobytes()
    drift = {c["column"]: c for c in res.lake.record(Stage.MONITORING, "2024-03-11").data["columns"]}
    assert drift["heavy"]["note"] == NO_COLUMN, "the reference is older than the feature"
    assert not drift["heavy"]["drifted"]
    assert drift["weight"]["threshold"] is not None

    with pytest.raises(MissingFeature, match=r"2024-03-01: its valid rows have no heavy.*mode=stale"):
        train(model="tiny")
    backfill(model="tiny", start="2024-03-01", end="2024-03-11", mode="stale")
    training = train(model="tiny", reason="with the doubled weight")
    comparison, row = training.comparison, training.row
    assert (row.previous, comparison.burden) == (first, "change")
    assert {"SQL", "features"} <= set(comparison.differences)
    same_rows = fitted_features(res.registry.load(comparison.champion.version))
    assert set(same_rows.numeric) == {"weight", "distance"}, (
        "the champion's recipe, with its features, on the same rows"
    )
    assert comparison.anchor == res.registry.version(first).judged_as, "other rows were learned too"
    model = res.registry.load(training.challenger.version)
    assert (fitted_features(model).numeric, fitted_features(model).categorical) == (("heavy", "weight"), ("city",))


def test_a_feature_that_the_champion_needs_and_rows_no_longer_have_is_named_with_what_to_do(champion):
    change(champion, "features: {numeric: [distance], categorical: [city]}", "SELECT parcel, sent, distance, city")
    yaml = champion / "configs" / "tiny" / "model.yaml"
    lines = [line for line in yaml.read_text().splitlines() if "column: weight" not in line]
    yaml.write_text("\n".join([*lines, "contract: {version: 2}"]))
    with pytest.raises(MissingFeature, match=r"fitted with weight, .*features.retired"):
        process(model="tiny", partition="2024-03-11")
