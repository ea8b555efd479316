"""Estimates of performance before labels are available: correct if their assumption holds, and wrong under concept drift."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from configs.load import parse_config
from configs.target import Target
from tasks.models.metrics import row_loss
from tasks.steps.estimate import calibrate, expected_auc, expected_loss, predict_loss
from tests.conftest import MODEL_YAML

BINARY = Target(column="y", delay="1D")
THREE = Target(column="y", delay="1D", kind="multiclass", classes=("a", "b", "c"))


def test_expected_auc_and_loss_equal_the_mean_of_scikit_learns_over_drawn_outcomes():
    rng = np.random.default_rng(0)
    predicted = np.round(rng.beta(2, 5, 400), 2)  # ties too
    probability = np.clip(predicted * 1.2, 0.01, 0.99)
    drawn = rng.random((400, 400)) < probability
    aucs = [roc_auc_score(y, predicted) for y in drawn]
    losses = [log_loss(y, predicted) for y in drawn]
    assert expected_auc(predicted, probability) == pytest.approx(np.mean(aucs), abs=4 * np.std(aucs) / 20)
    assert expected_loss(predicted, probability, BINARY).mean() == pytest.approx(
        np.mean(losses), abs=4 * np.std(losses) / 20
    )


def test_certain_outcomes_give_the_realised_auc():
    predicted, outcome = np.array([0.1, 0.4, 0.4, 0.8, 0.3]), np.array([0.0, 0.0, 1.0, 1.0, 1.0])
    assert expected_auc(predicted, outcome) == pytest.approx(roc_auc_score(outcome, predicted))
    assert np.isnan(expected_auc(predicted, np.ones(5)))


def test_the_expected_loss_of_classes_equals_the_mean_over_drawn_outcomes():
    rng = np.random.default_rng(1)
    predicted = rng.dirichlet([2, 3, 4], 300)
    drawn = np.array([[rng.choice(3, p=p) for p in predicted] for _ in range(200)])
    losses = [row_loss(y, predicted, THREE).mean() for y in drawn]
    assert expected_loss(predicted, predicted, THREE).mean() == pytest.approx(
        np.mean(losses), abs=4 * np.std(losses) / 14
    )


def test_overconfident_probabilities_are_calibrated_and_calibrated_ones_hardly_change():
    rng = np.random.default_rng(2)
    truth = rng.beta(2, 4, 6000)
    outcome = (rng.random(6000) < truth).astype(int)
    overconfident = truth**2 / (truth**2 + (1 - truth) ** 2)
    calibrated = calibrate(overconfident, overconfident, outcome, BINARY)
    assert np.abs(calibrated - truth).mean() < np.abs(overconfident - truth).mean() / 2
    realised = row_loss(outcome, overconfident, BINARY).mean()
    assert expected_loss(overconfident, calibrated, BINARY).mean() == pytest.approx(realised, abs=0.02)
    few = calibrate(truth[:200], truth[:200], outcome[:200], BINARY)
    assert few is not None
    assert expected_loss(truth, calibrate(truth, truth, outcome, BINARY), BINARY).mean() == pytest.approx(
        row_loss(outcome, truth, BINARY).mean(), abs=0.02
    )


def test_a_covariate_shift_is_detected_and_concept_drift_is_not():
    """As the module's docstring states."""
    rng = np.random.default_rng(3)
    labelled = rng.uniform(0.05, 0.3, 4000)
    outcome = (rng.random(4000) < labelled).astype(int)
    harder = rng.uniform(0.3, 0.7, 4000)
    before = expected_loss(labelled, calibrate(labelled, labelled, outcome, BINARY), BINARY).mean()
    after = expected_loss(harder, calibrate(harder, labelled, outcome, BINARY), BINARY).mean()
    assert after > before + 0.1
    changed = (rng.random(4000) < 0.6).astype(int)
    assert row_loss(changed, labelled, BINARY).mean() > before + 0.4


def test_the_predicted_loss_is_higher_for_harder_rows(tmp_path):
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
        predicted = rng.normal(0, 1, count)
        columns = {
            "weight": predicted,
            "distance": np.nan,
            "city": pd.Series(city, dtype=object),
            "prediction": predicted,
        }
        return pd.DataFrame(columns | {"late": predicted + noise})

    labelled, new = rows(6000, 3.0), rows(3000, 3.0)
    estimated = predict_loss(new.drop(columns="late"), labelled, config)
    realised = row_loss(new["late"].to_numpy(), new["prediction"].to_numpy(), config.target)
    assert estimated.min() >= 0
    assert estimated.mean() == pytest.approx(realised.mean(), rel=0.1)
    kiel = (new["city"] == "Kiel").to_numpy()
    assert estimated[kiel].mean() == pytest.approx(9, rel=0.2)
    assert estimated[~kiel].mean() == pytest.approx(1, rel=0.3)
    assert len(predict_loss(new.assign(city="Atlantis"), labelled, config)) == 3000
