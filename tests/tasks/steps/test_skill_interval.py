"""The interval of the skill covers the true skill, although the base rate differs from day to day."""

import numpy as np
import pytest

from configs.load import parse_config
from configs.schema import ModelConfig
from tasks.models.metrics import row_loss
from tasks.models.skill import summarise_outcomes
from tasks.steps.assess import _skill
from tests.conftest import MODEL_YAML

DAYS, ROWS, WORLDS = 30, 60, 200


@pytest.fixture
def config(tmp_path) -> ModelConfig:
    path = tmp_path / "model.yaml"
    path.write_text(MODEL_YAML)
    return parse_config(path)


def world(rng: np.random.Generator, days: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return outcomes, predictions and days. The base rate of a day is between .1 and .5, and the model knows half of what matters."""
    level = np.repeat(rng.normal(-1.0, 0.6, days), ROWS)
    known, unknown = rng.normal(0, 1, days * ROWS), rng.normal(0, 1, days * ROWS)
    outcome = (rng.random(days * ROWS) < 1 / (1 + np.exp(-(level + known + unknown)))).astype("int64")
    return outcome, 1 / (1 + np.exp(-(-0.85 + 0.85 * known))), np.repeat(np.arange(days), ROWS)


def skill_of(outcome, prediction, days, config: ModelConfig) -> dict:
    losses = row_loss(outcome, prediction, config.target)
    return _skill(losses, summarise_outcomes(outcome, days, config.target), days, config)


@pytest.mark.long
def test_the_interval_covers_the_true_skill_in_95_of_100_partitions(config):
    rng = np.random.default_rng(0)
    true = skill_of(*world(rng, 4_000), config)["skill"]
    shown = [skill_of(*world(rng, DAYS), config) for _ in range(WORLDS)]
    intervals = np.array([s["skill_interval"] for s in shown])
    covered = ((intervals[:, 0] <= true) & (true <= intervals[:, 1])).mean()
    assert covered >= 0.92, "95 % but for what 200 partitions can show"
    widths = intervals[:, 1] - intervals[:, 0]
    assert np.median(widths) < 8 * np.std([s["skill"] for s in shown]), "it is not wide for nothing"


def test_a_partition_of_one_block_has_a_skill_and_no_interval(config):
    outcome, prediction, days = world(np.random.default_rng(1), 1)
    shown = skill_of(outcome, prediction, days, config)
    assert shown["skill_interval"] is None
    share = row_loss(outcome, prediction, config.target).mean()
    rate = outcome.mean()
    prior = -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
    assert shown["skill"] == pytest.approx(1 - share / prior)


def test_two_blocks_give_no_interval_beyond_what_a_loss_can_be(config):
    outcome, prediction, days = world(np.random.default_rng(2), 2)
    shown = skill_of(outcome, prediction, days, config)
    if shown["skill_interval"]:
        largest = row_loss(outcome, prediction, config.target).max() / shown["prior_loss"]
        assert 1 - largest - 1e-9 <= shown["skill_interval"][0] <= shown["skill"] <= shown["skill_interval"][1] <= 1
