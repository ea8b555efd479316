"""Estimates of performance before labels are there: right where their assumption holds, and never more than an estimate."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from configs.load import parse_config
from configs.schema import Target
from tasks.models.metrics import row_loss
from tasks.steps.estimate import calibrate, expected_auc, expected_loss, learned_loss
from tests.conftest import MODEL_YAML

BINARY = Target(column="y", delay="1D")
THREE = Target(column="y", delay="1D", kind="multiclass", classes=("a", "b", "c"))


def test_expected_auc_and_loss_are_the_mean_over_drawn_outcomes_of_scikit_learns():
    rng = np.random.default_rng(0)
    said = np.round(rng.beta(2, 5, 400), 2)  # ties too
    chance = np.clip(said * 1.2, 0.01, 0.99)
    drawn = rng.random((400, 400)) < chance
    aucs = [roc_auc_score(y, said) for y in drawn]
    losses = [log_loss(y, said) for y in drawn]
    assert expected_auc(said, chance) == pytest.approx(np.mean(aucs), abs=4 * np.std(aucs) / 20)
    assert expected_loss(said, chance, BINARY).mean() == pytest.approx(np.mean(losses), abs=4 * np.std(losses) / 20)


def test_outcomes_that_are_certain_give_the_realised_auc():
    said, outcome = np.array([0.1, 0.4, 0.4, 0.8, 0.3]), np.array([0.0, 0.0, 1.0, 1.0, 1.0])
    assert expected_auc(said, outcome) == pytest.approx(roc_auc_score(outcome, said))
    assert np.isnan(expected_auc(said, np.ones(5)))


def test_expected_loss_of_classes_is_the_mean_over_drawn_outcomes():
    rng = np.random.default_rng(1)
    said = rng.dirichlet([2, 3, 4], 300)
    drawn = np.array([[rng.choice(3, p=p) for p in said] for _ in range(200)])
    losses = [row_loss(y, said, THREE).mean() for y in drawn]
    assert expected_loss(said, said, THREE).mean() == pytest.approx(np.mean(losses), abs=4 * np.std(losses) / 14)


def test_probabilities_that_say_too_much_are_calibrated_and_sound_ones_are_left_alone():
    rng = np.random.default_rng(2)
    truth = rng.beta(2, 4, 6000)
    outcome = (rng.random(6000) < truth).astype(int)
    too_sure = truth**2 / (truth**2 + (1 - truth) ** 2)
    mended = calibrate(too_sure, too_sure, outcome, BINARY)
    assert np.abs(mended - truth).mean() < np.abs(too_sure - truth).mean() / 2
    realised = row_loss(outcome, too_sure, BINARY).mean()
    assert expected_loss(too_sure, mended, BINARY).mean() == pytest.approx(realised, abs=0.02)
    few = calibrate(truth[:200], truth[:200], outcome[:200], BINARY)
    assert few is not None
    assert expected_loss(truth, calibrate(truth, truth, outcome, BINARY), BINARY).mean() == pytest.approx(
        row_loss(outcome, truth, BINARY).mean(), abs=0.02
    )


def test_harder_rows_are_seen_and_a_rule_that_changed_is_not():
    """What the module says of itself: it knows a covariate shift, and is blind to another world."""
    rng = np.random.default_rng(3)
    known = rng.uniform(0.05, 0.3, 4000)
    outcome = (rng.random(4000) < known).astype(int)
    harder = rng.uniform(0.3, 0.7, 4000)
    before = expected_loss(known, calibrate(known, known, outcome, BINARY), BINARY).mean()
    after = expected_loss(harder, calibrate(harder, known, outcome, BINARY), BINARY).mean()
    assert after > before + 0.1
    changed = (rng.random(4000) < 0.6).astype(int)
    assert row_loss(changed, known, BINARY).mean() > before + 0.4


def test_a_model_of_the_loss_tells_easy_rows_from_hard_ones(tmp_path):
    text = MODEL_YAML.replace(
        "target: {column: late, kind: binary, delay: 1D}", "target: {column: late, kind: regression, delay: 1D}"
    )
    text = text.replace("floor: {log_loss: 0.69}", "floor: {rmse: 100}")
    (tmp_path / "model.yaml").write_text(text)
    config = parse_config(tmp_path / "model.yaml")
    rng = np.random.default_rng(4)

    def rows(count: int, spread_where_kiel: float) -> pd.DataFrame:
        city = rng.choice(["Kiel", "Ulm", None], count)
        noise = rng.normal(0, np.where(city == "Kiel", spread_where_kiel, 1.0))
        said = rng.normal(0, 1, count)
        held = {"weight": said, "distance": np.nan, "city": pd.Series(city, dtype=object), "prediction": said}
        return pd.DataFrame(held | {"late": said + noise})

    known, new = rows(6000, 3.0), rows(3000, 3.0)
    found = learned_loss(new.drop(columns="late"), known, config)
    realised = row_loss(new["late"].to_numpy(), new["prediction"].to_numpy(), config.target)
    assert found.min() >= 0
    assert found.mean() == pytest.approx(realised.mean(), rel=0.1)
    kiel = (new["city"] == "Kiel").to_numpy()
    assert found[kiel].mean() == pytest.approx(9, rel=0.2)
    assert found[~kiel].mean() == pytest.approx(1, rel=0.3)
    assert len(learned_loss(new.assign(city="Atlantis"), known, config)) == 3000
