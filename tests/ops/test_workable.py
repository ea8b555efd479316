"""`make lint` warns about a valid model.yaml that cannot work: each warning names file, key, value, and what to do."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from configs.base import span_text
from configs.settings import ROOT
from ops.check import main
from ops.workable import config_value, time_warnings, warnings
from tasks.contracts import Promotion, Verdict
from tasks.resources import Resources, open_resources
from tasks.steps.ingest import INGEST
from tasks.steps.step import advance
from tasks.steps.validate import VALIDATE
from tests.conftest import day_file, parcels
from tests.tasks.reports.test_refusals import evidence

pytestmark = pytest.mark.long


def change(folder: Path, **texts: str) -> Resources:
    """Replace parts of the tiny model's YAML; each text is `old -> new`."""
    path = folder / "configs" / "tiny" / "model.yaml"
    text = path.read_text()
    for part in texts.values():
        old, new = part.split(" -> ")
        assert old in text, old
        text = text.replace(old, new)
    path.write_text(text)
    return open_resources("tiny")


CASES = {
    "fewer blocks in the holdout than the gain needs": (
        "gain: {block: H, min_blocks: 6 -> gain: {block: D, min_blocks: 6",
        "gate.gain.min_blocks: 6: training.window.holdout (2D) has at most 2 blocks",
        "Lower min_blocks",
    ),
    "a window that is all holdout": (
        "window: {min_partitions: 4 -> window: {partitions: 6, min_partitions: 4",
        "training.window.partitions: 6: at most 6D. The holdout, a validation split of the same length,",
        "Use more partitions",
    ),
    "a cool-down that is not longer than the holdout": (
        "cool_down: 3D -> cool_down: 2D",
        "retraining.cool_down: 2D: not longer than training.window.holdout (2D). A challenger is judged without",
        "Lengthen cool_down",
    ),
    "fewer rows than decay needs": (
        "{min_rows: 150} -> {min_rows: 400, partitions: 2}",
        "monitoring.decay.min_rows: 400: a partition has about 150 rows (in the source), and monitoring.decay.partitions is 2",
        "Set decay.partitions to at least 3",
    ),
    "fewer rows in the holdout than the gate needs": (
        "floor: {log_loss: 0.69} -> min_rows: 301\n  floor: {log_loss: 0.69}",
        "gate.min_rows: 301: a holdout of 2D has about 300 rows",
        "Lengthen training.window.holdout",
    ),
    "fewer rows in the window than a fit needs": (
        "window: {min_partitions: 4, min_rows: 200 -> window: {partitions: 7, min_partitions: 4, min_rows: 451",
        "training.window.min_rows: 451: 7 partitions of about 150 rows (in the source) have about 450 before the holdout",
        "Use more partitions",
    ),
    "segments that are all too small": (
        "floor: -> segments: {columns: [city], min_rows: 200, max_loss: 0.1}\n  floor:",
        "gate.segments.min_rows: 200: the largest segment has",
        "Lower min_rows",
    ),
    "a group that is too small": (
        "floor: -> fairness: [{column: city, metric: accuracy_difference, at_most: 0.5, min_rows: 50}]\n  floor:",
        "gate.fairness[0].min_rows: 50: group '(null)' has 42 rows in the first holdout (in the source)",
        "merge groups",
    ),
    "an expectation that the first partition fails": (
        "min_value: -50, max_value: 50 -> min_value: 3, max_value: 50",
        "expectations: the first partition would be blocked: weight",
        "Correct the source or the expectation",
    ),
    "an expectation that quarantines many rows": (
        "{type: expect_column_values_to_be_between, kwargs: {column: weight, min_value: -50, max_value: 50, mostly: 0.9}} -> "
        "{type: expect_column_values_to_be_between, severity: warning, kwargs: {column: weight, min_value: 3, max_value: 50}}",
        "of the first partition's rows would be quarantined (in the source), so they are neither scored nor learned from: weight",
        "use `severity: info`",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_rule_that_cannot_work_is_a_warning(tiny: Path, case: str) -> None:
    text, problem, action = CASES[case]
    found = [w for w in warnings(change(tiny, text=text)) if problem in w]
    assert len(found) == 1, list(warnings(open_resources("tiny")))
    assert found[0].startswith(f"{tiny / 'configs' / 'tiny' / 'model.yaml'}: ")
    assert action in found[0]


def test_rules_that_are_just_enough_are_no_warning(tiny: Path) -> None:
    """A holdout has 300 rows and 48 hours; a partition has 150 rows; 7 partitions are a day more than two holdouts and two delays."""
    res = change(
        tiny,
        blocks="min_blocks: 6 -> min_blocks: 48",
        decay="{min_rows: 150} -> {min_rows: 300, partitions: 2}",
        gate="floor: {log_loss: 0.69} -> min_rows: 300\n  floor: {log_loss: 0.69}",
        window="window: {min_partitions: 4, min_rows: 200 -> window: {partitions: 7, min_partitions: 4, min_rows: 450",
    )
    assert list(warnings(res)) == []


def test_rows_of_the_lake_come_before_those_of_the_source(tiny: Path) -> None:
    res = change(tiny, decay="{min_rows: 150} -> {min_rows: 400, partitions: 2}")
    for day in range(7):
        for step in (INGEST, VALIDATE):
            advance(step, res.ref(f"2024-03-{day + 1:02d}"), res)
        parcels(day).iloc[:10].to_parquet(day_file(tiny, day), index=False)
    assert any("a partition has about 150 rows (in the lake)" in warning for warning in warnings(res))


def test_without_rows_a_note_names_what_was_not_checked(tiny: Path) -> None:
    for file in (tiny / "data").iterdir():
        file.unlink()
    (note,) = warnings(open_resources("tiny"))
    assert "were not checked, because there are no rows: the source has no partition: no file" in note


def test_a_limit_that_the_first_training_did_not_keep_is_a_warning_until_there_is_a_champion(tiny: Path) -> None:
    res, moment = open_resources("tiny"), datetime(2024, 3, 12, tzinfo=UTC)
    for day in range(7):
        for step in (INGEST, VALIDATE):
            advance(step, res.ref(f"2024-03-{day + 1:02d}"), res)
    verdict = Verdict("floor: log_loss", "failed", False, 0.8, 0.69)
    refused = {"verdicts": [evidence(verdict)]}
    res.ledger.append(Promotion("tiny", 0, "refuse", "1", None, moment, moment, "ann", "a test", refused, "", "", 0))
    (found,) = warnings(res)
    assert "model.yaml: gate.floor.log_loss: 0.69: the training as of 2024-03-12 was refused" in found
    assert "floor: log_loss: the value is 0.8, and must be at most 0.69" in found
    res.ledger.append(Promotion("tiny", 0, "promote", "2", None, moment, moment, "ann", "a test", {}, "", "", 0))
    assert list(warnings(res)) == []


@pytest.mark.long
def test_the_bundled_models_have_no_warning(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVERGREEN_CONFIGS", str(ROOT / "configs"))
    assert main() == 0
    assert capsys.readouterr().err == ""


def test_values_and_durations_are_as_in_the_file(tiny: Path) -> None:
    config = open_resources("tiny").config
    assert config_value("gate.floor.log_loss", config) == "0.69"
    assert config_value("training.candidates", config) == ""
    assert [span_text(timedelta(minutes=m)) for m in (2880, 2160, 90)] == ["2D", "36h", "90min"]
    assert list(time_warnings(config)) == []
