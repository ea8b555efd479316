"""A first training that gives no champion: the run's message, the alert and `make status` name the key to change in one line.

The ways are tried on one backfilled folder. Each changes model.yaml or the outcomes.
"""

from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from flows.backfill import backfill
from flows.train import train
from ops.status_model import print_model
from tasks.errors import NotEnoughData
from tasks.reports.health import alerts
from tasks.resources import LiveResources, open_resources
from tests.conftest import day_file, set_up_copy, set_up_tiny

pytestmark = pytest.mark.slow
WINDOW = "window: {min_partitions: 4, min_rows: 200, holdout: 2D}"

NOT_ENOUGH = {
    "partitions": (
        "window: {min_partitions: 13, min_rows: 200, holdout: 2D}",
        r"training\.window\.min_partitions is 13, but 10 validated partitions have matured labels as of .*; set it to at most 10, "
        r"run `backfill` for earlier ones, or wait for 3 more partitions",
    ),
    "rows": (
        "window: {min_partitions: 4, min_rows: 1500, holdout: 2D}",
        r"training\.window\.min_rows is 1500, but there are \d+ labelled rows from .*; set it to at most \d+, or wait for \d more",
    ),
    "rows before the validation split": (
        "window: {min_partitions: 4, min_rows: 900, holdout: 2D}",
        r"the window is too short to choose a candidate on the 2D before its holdout: training\.window\.min_rows is 900, but there are "
        r"\d+ labelled rows before .*; set it to at most \d+, or wait for \d more partitions?\. A shorter training\.window\.holdout \(2D\)",
    ),
    "time": (
        "window: {partitions: 5, min_partitions: 4, min_rows: 100, holdout: 4D}",
        r"no labelled row from .*; the holdout, a validation split of the same length \(4D\), and target\.delay \(1D\) before each need "
        r"10D: shorten training\.window\.holdout, or raise training\.window\.partitions \(5\)",
    ),
}
REFUSED = {
    "floor": (
        "floor: {log_loss: 0.69}",
        "floor: {log_loss: 0.01}",
        r"gate\.floor\.log_loss is 0\.01, the version has (0\.\d+) on the holdout; set it to at least (0\.\d+) if such a model is good "
        r"enough, else add features or partitions",
    ),
    "floor of a score": (
        "floor: {log_loss: 0.69}",
        "floor: {roc_auc: 0.999}",
        r"gate\.floor\.roc_auc is 0\.999, the version has (0\.\d+) on the holdout; set it to at most (0\.\d+) if such",
    ),
    "rows of the holdout": (
        "floor: {log_loss: 0.69}",
        "floor: {log_loss: 0.69}\n  min_rows: 999",
        r"gate\.min_rows is 999, the holdout has (\d+) labelled rows; set it to at most (\d+), or lengthen training\.window\.holdout",
    ),
    "size": (
        "floor: {log_loss: 0.69}",
        "floor: {log_loss: 0.69}\n  budgets: {size_mb: 0.001}",
        r"gate\.budgets\.size_mb is 0\.001, the version has (0\.\d+) on the holdout; set it to at least (0\.\d+) .* shrink the model by",
    ),
    "calibration": (
        "floor: {log_loss: 0.69}",
        "floor: {log_loss: 0.69}\n  calibration: {at_most: 0.0001}",
        r"gate\.calibration\.at_most is 0\.0001, the version has (0\.\d+) on the holdout; set it to at least (0\.\d+) if",
    ),
    "groups": (
        "floor: {log_loss: 0.69}",
        "floor: {log_loss: 0.69}\n  fairness: [{column: city, metric: accuracy_difference, at_most: 0.9, min_rows: 500}]",
        r"gate\.fairness\[0\]\.min_rows is 500, but the holdout's groups by city have fewer \(rows: .*\); lower it, merge",
    ),
}


@pytest.fixture(scope="module")
def backfilled(tiny_source: Path, tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Path:
    """Ten days backfilled, no champion."""
    folder = tmp_path_factory.mktemp("backfilled")
    with pytest.MonkeyPatch.context() as patch:
        set_up_tiny(tiny_source, folder, f"sqlite:///{folder}/mlflow.db", patch)
        backfill(model="tiny", start="2024-03-01", end="2024-03-10")
    return folder


@pytest.fixture
def folder(backfilled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder for one test."""
    set_up_copy(backfilled, tmp_path, monkeypatch)
    return tmp_path


def change(folder: Path, old: str, new: str) -> LiveResources:
    path = folder / "configs" / "tiny" / "model.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return open_resources("tiny")


def status(res: LiveResources, capsys: pytest.CaptureFixture[str]) -> str:
    print_model(res, Console(width=4000))
    return capsys.readouterr().out


@pytest.mark.parametrize("case", NOT_ENOUGH)
def test_a_training_without_enough_data_fails_with_the_key_to_change(
    folder: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    window, message = NOT_ENOUGH[case]
    res = change(folder, WINDOW, window)
    with pytest.raises(NotEnoughData, match=message) as error:
        train(model="tiny")
    assert "\n" not in str(error.value)
    alert = next(alert for alert in alerts(res) if "no champion yet" in alert.message)
    assert alert.message.startswith("it has no champion yet: the last training, as of 2024-03-")
    assert alert.action == f"{error.value}. Then prefect deployment run train/tiny"
    assert f"to change: {error.value}\n" in status(res, capsys)


def test_outcomes_of_one_class_name_the_target(folder: Path) -> None:
    for day in range(10):
        path = day_file(folder, day)
        pd.read_parquet(path).assign(late=0.0).to_parquet(path, index=False)
    backfill(model="tiny", start="2024-03-01", end="2024-03-10")
    message = r"every outcome from .* is 0, but a classifier needs both; check target\.column \(late\), or wait for more partitions"
    with pytest.raises(NotEnoughData, match=message):
        train(model="tiny")


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_first_version_names_the_key_the_value_and_what_passes(
    folder: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    old, new, message = REFUSED[case]
    res = change(folder, old, new)
    state = train(model="tiny", return_state=True)
    assert state.is_completed()
    change_text = state.message.partition("There is no champion yet. To change: ")[2]
    match = re.match(message, change_text)
    assert match, state.message
    if match.groups():
        measured, passing = map(float, match.groups())
        assert passing == pytest.approx(measured, rel=0.02)
    alert = next(alert for alert in alerts(res) if "no champion yet" in alert.message)
    assert re.match(message, alert.action)
    assert "version 1 did not pass" in alert.message
    assert re.search(message, status(res, capsys))


def test_a_target_that_nothing_predicts_names_the_target_and_the_features(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Outcomes are drawn again, so that no column has to do with them."""
    for day in range(10):
        path = day_file(folder, day)
        frame = pd.read_parquet(path)
        frame.assign(late=frame["late"].sample(frac=1, random_state=day).to_numpy()).to_parquet(path, index=False)
    backfill(model="tiny", start="2024-03-01", end="2024-03-10")
    state = train(model="tiny", return_state=True)
    text = state.message.partition("There is no champion yet. To change: ")[2]
    assert text.startswith("no model predicts late better than a constant on the "), state.message
    assert "add features that are known at sent, check target.column, or wait for more partitions" in text
    assert "no model predicts late better" in status(open_resources("tiny"), capsys)
