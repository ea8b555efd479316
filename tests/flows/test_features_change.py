"""A model's features change while a champion is in force: it goes on with those it knows, and its successor gets the new ones."""

import pytest

from flows.backfill import backfill
from flows.process import process
from flows.train import train
from tasks.contracts import Stage
from tasks.errors import MissingFeature
from tasks.models.fast_predict import features_of
from tasks.models.features import predict
from tasks.resources import open_resources
from tasks.steps.drift_reference import TOO_YOUNG

FEATURES = "features: {numeric: [weight, distance], categorical: [city]}"
SQL = "SELECT parcel, sent, weight, distance, city"


def change(world, features: str, columns: str = SQL) -> None:
    """Let model.yaml and source.sql say other features."""
    home = world / "configs" / "tiny"
    path, sql = home / "model.yaml", home / "source.sql"
    path.write_text(path.read_text().replace(FEATURES, features))
    sql.write_text(sql.read_text().replace(SQL, columns))


def test_a_champion_scores_with_the_features_it_was_fitted_with_and_its_successor_does_without_the_retired(champion):
    before = open_resources("tiny")
    first = before.champion().version
    more = "features: {numeric: [distance, heavy, weight], categorical: [city], retired: [distance]}"
    change(champion, more, f"{SQL}, weight * 2 AS heavy")
    process(model="tiny", partition="2024-03-11")
    res = open_resources("tiny")
    rows, said = (res.lake.read(stage, "2024-03-11") for stage in (Stage.VALID, Stage.PREDICTIONS))
    expected = predict(res.load(first), rows[["weight", "distance", "city"]], before.config)
    assert set(said["model_version"]) == {first}
    assert said["prediction"].to_numpy().tobytes() == expected.tobytes()
    drift = {c["column"]: c for c in res.lake.record(Stage.MONITORING, "2024-03-11").data["columns"]}
    assert drift["heavy"]["note"] == TOO_YOUNG, "its reference is older than it"
    assert not drift["heavy"]["drifted"]
    assert drift["weight"]["threshold"] is not None

    with pytest.raises(MissingFeature, match=r"2024-03-01: its valid rows have no heavy.*mode=stale"):
        train(model="tiny")
    backfill(model="tiny", start="2024-03-01", end="2024-03-11", mode="stale")
    training = train(model="tiny", reason="with the doubled weight")
    assert training.comparison.champion.version == first
    model = res.registry.load(training.challenger.version)
    assert (features_of(model).numeric, features_of(model).categorical) == (("heavy", "weight"), ("city",))


def test_a_feature_that_the_champion_needs_and_rows_no_longer_have_is_named_with_the_way_out(champion):
    change(champion, "features: {numeric: [distance], categorical: [city]}", "SELECT parcel, sent, distance, city")
    yaml = champion / "configs" / "tiny" / "model.yaml"
    yaml.write_text("\n".join(line for line in yaml.read_text().splitlines() if "column: weight" not in line))
    with pytest.raises(MissingFeature, match=r"fitted with weight, .*features.retired"):
        process(model="tiny", partition="2024-03-11")
