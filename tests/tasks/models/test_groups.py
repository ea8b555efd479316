"""The losses of groups, the fairness gaps, and the bins of the calibration in the record of an assessment."""

import numpy as np
import pandas as pd
import pytest

from configs.load import parse_config
from configs.schema import ModelConfig
from configs.target import Target
from tasks.models.groups import MOST, calibration_bins, fairness_gaps, group_columns, measure_groups
from tests.conftest import MODEL_YAML

RULES = """\
gate:
  segments: {columns: [city], max_loss: 0.5}
  fairness: [{column: city, metric: accuracy_difference, at_most: 0.1, min_rows: 10}]
"""


@pytest.fixture
def config(tmp_path) -> ModelConfig:
    path = tmp_path / "model.yaml"
    path.write_text(MODEL_YAML.replace("gate:\n", RULES))
    return parse_config(path)


def test_the_loss_of_each_group_is_its_mean_and_null_is_a_group(config):
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"city": rng.choice(["Bonn", "Kiel", None], 500, p=[0.5, 0.3, 0.2])})
    losses = rng.random(500)
    names = rows["city"].fillna("(null)")
    expected = pd.Series(losses).groupby(names).agg(["size", "mean"])
    measured = measure_groups(rows, losses, config)["city"]
    assert {name: (count, loss) for name, count, loss in measured} == {
        name: (row["size"], pytest.approx(row["mean"])) for name, row in expected.iterrows()
    }
    assert [name for name, _, _ in measured] == list(names.value_counts().index)
    assert group_columns(config) == ("city",)


def test_only_the_largest_of_many_groups_are_recorded(config):
    names = [f"c{i:02d}" for i in range(40) for _ in range(i + 1)]
    measured = measure_groups(pd.DataFrame({"city": names}), np.ones(len(names)), config)["city"]
    assert [count for _, count, _ in measured] == list(range(40, 40 - MOST, -1))


def test_a_fairness_gap_is_the_difference_of_the_groups_accuracies(config):
    city = pd.DataFrame({"city": ["Bonn"] * 50 + ["Kiel"] * 50})
    outcome = np.array([1] * 100)
    prediction = np.array([0.9] * 40 + [0.1] * 10 + [0.9] * 25 + [0.1] * 25)
    (gap,) = fairness_gaps(city, outcome, prediction, config)
    assert (gap["column"], gap["metric"]) == ("city", "accuracy_difference")
    assert gap["gap"] == pytest.approx(0.8 - 0.5)
    (few,) = fairness_gaps(city.iloc[:55], outcome[:55], prediction[:55], config)
    assert few["gap"] is None, "one group has fewer rows than min_rows"


def test_the_bins_of_two_periods_add_up_to_those_of_both():
    target = Target(column="late", kind="binary", delay="1D")
    rng = np.random.default_rng(1)
    prediction = np.append(rng.random(999), 1.0)
    outcome = (rng.random(1000) < prediction).astype("int64")
    first, second = (
        calibration_bins(outcome[part], prediction[part], target) for part in (slice(300), slice(300, None))
    )
    whole = np.array(calibration_bins(outcome, prediction, target))
    assert np.add(first, second) == pytest.approx(whole)
    assert whole.sum(axis=0) == pytest.approx([1000, prediction.sum(), outcome.sum()])
    inside = (prediction >= 0.3) & (prediction < 0.4)
    assert whole[3] == pytest.approx([inside.sum(), prediction[inside].sum(), outcome[inside].sum()])


def test_several_classes_are_calibrated_by_their_most_probable_one_and_numbers_are_not():
    target = Target(column="kind", kind="multiclass", delay="1D", classes=("a", "b", "c"))
    prediction = np.array([[0.7, 0.2, 0.1], [0.2, 0.75, 0.05], [0.1, 0.2, 0.7]])
    bins = calibration_bins(np.array([0, 0, 2]), prediction, target)
    assert bins[7] == pytest.approx([3, 2.15, 2])
    assert calibration_bins(np.ones(3), np.ones(3), Target(column="y", kind="regression", delay="1D")) == []
