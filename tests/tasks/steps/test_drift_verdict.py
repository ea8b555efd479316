"""A signal that alarms in most partitions is reported once, and counts again when it stops or becomes much worse."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from upath import UPath

from configs.load import parse_config
from configs.schema import ModelConfig
from tasks.contracts import Stage
from tasks.steps.drift_verdict import RECENT, drift_at, judge_drift, suggestion
from tasks.storage.lake import Lake
from tasks.storage.partitions import partition
from tests.conftest import MODEL_YAML


@pytest.fixture
def config(tmp_path: Path) -> ModelConfig:
    path = tmp_path / "model.yaml"
    path.write_text(MODEL_YAML)
    return parse_config(path)


def signal(column: str, drifted: bool, score: float = 0.3, method: str = "wasserstein") -> dict:
    fields = {"column": column, "method": method, "score": score, "threshold": 0.2, "effect": 0.1, "note": ""}
    return fields | {"drifted": drifted}


def data(*signals: dict) -> dict:
    """The data of a monitoring record of a model with four compared columns."""
    share = len({s["column"] for s in signals if s["drifted"]}) / 4
    return {"columns": list(signals), "share": share, "threshold": 0.0, "detected": share > 0}


def history(alarms: str) -> list[dict]:
    """Records of partitions: x where `weight` alarmed, - where it did not."""
    return [data(signal("weight", a == "x"), signal("distance", False)) for a in alarms]


@pytest.mark.parametrize(
    ("earlier", "counts"),
    [
        ("", True),
        ("xxx", True),
        ("xx--", True),
        ("xxx-", False),
        ("xxxx", False),
        ("xxxx----", True),
        ("xxxxx---", False),
    ],
)
def test_an_alarm_counts_unless_there_were_alarms_in_more_than_half_of_at_least_four_partitions(
    earlier, counts, config
):
    verdict = judge_drift(data(signal("weight", True), signal("distance", False)), history(earlier), config)
    assert (verdict["detected"], verdict["share"]) == ((True, 0.25) if counts else (False, 0.0))
    note = next(c["note"] for c in verdict["columns"] if c["column"] == "weight")
    assert note.startswith("always different: drifted in ") != counts, "it stays among the columns"


def test_it_is_reported_in_the_one_partition_in_which_it_becomes_always_different(config):
    records, reported = history("xxxxxxxxx"), []
    for at, record in enumerate(records):
        verdict = judge_drift(record, records[:at][-RECENT:], config)
        reported.append((verdict["detected"], verdict["newly_different"]))
    assert reported == [(True, [])] * 3 + [(True, ["weight"])] + [(False, [])] * 5
    assert verdict["always_different"] == {"weight": "drifted in 8 of the last 8 partitions"}
    assert suggestion("weight", config) == (
        "add it to monitoring.seasonal, or set monitoring.reference to trailing, or add it to monitoring.ignore"
    )


def test_a_break_of_a_column_that_is_always_different_counts(config):
    """Its earlier scores were 0.3, and the effect size is 0.1. A share of missing values is another signal of the column."""
    earlier = history("xxxx")
    assert not judge_drift(data(signal("weight", True, 0.39)), earlier, config)["detected"]
    assert judge_drift(data(signal("weight", True, 0.41)), earlier, config)["detected"]
    varying = [data(signal("weight", True, score)) for score in (0.3, 0.5, 0.9, 1.3)]
    assert not judge_drift(data(signal("weight", True, 2.2)), varying, config)["detected"]
    assert judge_drift(data(signal("weight", True, 2.4)), varying, config)["detected"], "1.3 and the range of 1.0"
    missing = data(signal("weight", True), signal("weight", True, 0.5, "missing"))
    assert [c["method"] for c in judge_drift(missing, earlier, config)["columns"] if c["drifted"]] == ["missing"]


def test_other_columns_and_all_features_together_still_count(config):
    other = judge_drift(data(signal("weight", True), signal("distance", True)), history("xxxx"), config)
    assert (other["detected"], other["share"]) == (True, 0.25)
    together = data(signal("weight", True), signal("(all features)", True, 0.9, "domain classifier"))
    assert judge_drift(together, history("xxxx"), config)["detected"]


def test_the_verdict_of_a_partition_uses_earlier_partitions_only(config, tmp_path):
    """Days 2 to 9 alarmed, and were written in the reverse order, as a backfill may."""
    lake = Lake(UPath(tmp_path), "tiny")
    res = SimpleNamespace(lake=lake, config=config, ref=lambda key: partition(config, key))
    for day, record in list(enumerate(history("xxxxxxxx"), start=2))[::-1]:
        ref = partition(config, f"2024-03-{day:02d}", datetime(2024, 3, 20, tzinfo=UTC))
        lake.write_record(
            ref, Stage.MONITORING, version=1, inputs={}, rows=10, digest=None, data=record, blocked=False, run=None
        )
    assert [drift_at(res.ref(f"2024-03-{day:02d}"), res)["detected"] for day in range(2, 10)] == [True] * 4 + [
        False
    ] * 4
    assert drift_at(res.ref("2024-03-10"), res) is None
