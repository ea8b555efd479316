"""The rows of each output, and what leaves the lake of personal columns."""

from datetime import UTC, datetime

import pandas as pd
import pytest
import yaml

from configs.errors import ConfigError
from configs.load import load_model
from ops.deploy import connections
from tasks.contracts import Decision, Fact, Stage
from tasks.resources import Variant, open_resources
from tasks.sinks.send import find_unsent
from tasks.steps.ingest import INGEST
from tasks.steps.step import advance
from tasks.steps.validate import VALIDATE
from tasks.storage.personal import hashed
from tests.conftest import day_file
from tests.tasks.sinks.targets import DAY, NEXT, configure, predict, record, send_all


def sink(tiny, output: str, **keys) -> dict:
    return {"publish": {"out": {"path": f"{tiny}/{output}/{{partition}}.parquet", "output": output, **keys}}}


def sent(tiny, output: str, key: str = DAY) -> pd.DataFrame:
    return pd.read_parquet(tiny / output / f"{key}.parquet")


def quarantine(tiny, **keys) -> None:
    """Validate a day of which two parcels are too heavy."""
    path = day_file(tiny, 1)
    rows = pd.read_parquet(path)
    rows.loc[[4, 7], "weight"] = 99.0
    rows.to_parquet(path, index=False)
    res = configure(tiny, **sink(tiny, "quarantine"), **keys)
    for step in (INGEST, VALIDATE):
        advance(step, res.ref(DAY), res)


def test_quarantined_rows_have_their_reasons_and_are_sent_again_when_the_others_are_scored(tiny):
    quarantine(tiny)
    res = open_resources("tiny")
    send_all(res)
    rows = sent(tiny, "quarantine")
    assert list(rows)[:4] == ["model", "partition", "as_of", "model_version"]
    assert list(rows["parcel"]) == ["01-004", "01-007"]
    assert rows["reasons"].str.contains("weight").all()
    assert set(rows["model_version"]) == {""}
    predict(res, DAY, 3, version="4")
    assert len(send_all(res)) == 1
    assert set(sent(tiny, "quarantine")["model_version"]) == {"4"}
    assert send_all(res) == []


def test_a_day_without_quarantined_rows_has_an_empty_file_with_the_same_columns(tiny):
    quarantine(tiny)
    res = open_resources("tiny")
    for step in (INGEST, VALIDATE):
        advance(step, res.ref(NEXT), res)
    assert [s.rows for s in send_all(res)] == [0, 2]
    assert list(sent(tiny, "quarantine", NEXT).dtypes) == list(sent(tiny, "quarantine").dtypes)


def test_performance_is_one_row_for_each_metric(tiny):
    res = configure(tiny, **sink(tiny, "performance"))
    counts = {"scored": 150, "mature": 140, "pending": 7, "never": 3}
    data = {
        "version": "3",
        "metrics": {"log_loss": 0.5, "roc_auc": None},
        "intervals": {"log_loss": [0.4, 0.6]},
        **counts,
    }
    record(res, Stage.PERFORMANCE, DAY, data | {"skill": 0.2, "skill_interval": None})
    send_all(res)
    rows = sent(tiny, "performance").set_index("metric")
    assert list(rows.index) == ["log_loss", "roc_auc", "skill"]
    assert rows.loc["log_loss", ["value", "lower", "upper"]].tolist() == [0.5, 0.4, 0.6]
    assert rows.loc["roc_auc", ["value", "lower", "upper"]].isna().all()
    assert rows.loc["skill", "value"] == 0.2
    assert (rows[list(counts)] == pd.Series(counts)).all().all()
    assert set(rows["model_version"]) == {"3"}


def test_decisions_are_rows_by_their_fact_and_get_their_outcome(tiny):
    res = configure(tiny, **sink(tiny, "decisions"))
    moment = datetime(2024, 3, 4, tzinfo=UTC)
    for name, action in (("one", "decline"), ("two", "retrain")):
        res.ledger.record_fact(Fact(name, "tiny", "drift", DAY, moment, {"told": "drift"}))
        res.ledger.record_decision(Decision(name, "tiny", moment, action, "cool-down", "why"))
    assert [s.rows for s in send_all(res)] == [2]
    res.ledger.close_decision("two", "refused", "the gate", version="5", seconds=3.5)
    assert [s.rows for s in send_all(res)] == [2]
    assert send_all(res) == []
    rows = sent(tiny, "decisions").set_index("fact")
    assert rows.loc["one", ["fact_kind", "action", "rule", "outcome"]].tolist() == ["drift", "decline", "cool-down", ""]
    assert rows.loc["two", ["outcome", "model_version", "seconds"]].tolist() == ["refused", "5", 3.5]
    assert (rows["as_of"] == moment).all()


def test_a_personal_column_leaves_the_lake_as_its_hash_unless_model_yaml_has_keep(tiny):
    quarantine(tiny, personal=["parcel", "weight"])
    res = open_resources("tiny")
    send_all(res)
    rows = sent(tiny, "quarantine")
    assert list(rows["parcel"]) == [hashed("01-004"), hashed("01-007")]
    assert set(rows["weight"]) == {hashed(99.0)}
    assert rows["distance"].dtype == "float64"
    res = configure(tiny, **sink(tiny, "quarantine", personal="keep"))
    assert len(send_all(res)) == 1
    assert set(sent(tiny, "quarantine")["weight"]) == {99.0}
    predict(res, DAY, 3)
    send_all(configure(tiny, **sink(tiny, "predictions")))
    assert list(sent(tiny, "predictions")["parcel"]) == [hashed(f"{DAY}-{n}") for n in range(3)]


def test_nothing_of_a_variant_or_a_replay_is_sent(tiny):
    configure(tiny, **sink(tiny, "predictions"))
    predict(open_resources("tiny"), DAY, 3)
    assert len(find_unsent(open_resources("tiny"))) == 1
    assert find_unsent(open_resources("tiny", variant=Variant(champion="1"))) == []
    with pytest.raises(ConfigError, match="publish"):
        open_resources("tiny", variant=Variant({"publish": {}}))


TABLE = {"connection": "warehouse", "table": "predictions"}


@pytest.mark.parametrize(
    ("publish", "message"),
    [
        ({"out": {}}, r"publish\.out: give one of `table`"),
        ({"out": {**TABLE, "delta": "x"}}, r"publish\.out: give one of `table`"),
        ({"out": {"table": "predictions"}}, r"publish\.out: connection: is missing"),
        ({"out": {**TABLE, "table": "a; DROP TABLE b"}}, "is not a name such as ml.predictions"),
        ({"out": {"path": "x.parquet"}}, "has no {partition}"),
        ({"out": {"path": "{day}/{partition}.parquet"}}, "{day} is unknown"),
        ({"out": {"path": "{partition}.csv"}}, r"must end with \.parquet"),
        (
            {"out": {"path": "s3://key:secret@bucket/{partition}.parquet"}},
            "a user or password must not be in model.yaml",
        ),
        ({"out": {**TABLE, "outputs": "x"}}, "unknown key; did you mean 'output'"),
        (
            {"out": TABLE, "other": {**TABLE, "output": "quarantine"}},
            r"publish\.out: has the same target as publish\.other",
        ),
        ({"Out": TABLE}, "should match pattern"),
    ],
)
def test_what_cannot_work_is_an_error_of_model_yaml(tiny, publish, message):
    with pytest.raises(ConfigError, match=message):
        configure(tiny, publish=publish)


def test_a_column_of_the_model_that_each_sent_row_has_is_an_error(tiny):
    path = tiny / "configs" / "tiny" / "model.yaml"
    path.write_text(path.read_text().replace("key: parcel", "key: partition"))
    load_model("tiny")
    with pytest.raises(ConfigError, match=r"publish\.out: partition: each sent row has a column of this name"):
        configure(tiny, publish={"out": TABLE})


def test_a_deployment_limits_the_sessions_of_a_sink_too(tiny):
    configure(tiny, publish={"out": TABLE, "lake": {"delta": "s3://b/x", "connection": "bucket"}})
    assert connections() == ["warehouse"]
    assert yaml.safe_load((tiny / "configs" / "tiny" / "model.yaml").read_text())["publish"]["out"] == TABLE
