"""Steps and the scoring contract of a model with personal columns: no record, message or error has a value of them."""

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
import yaml

from serving.contract import contract_of
from serving.envelope import Table
from serving.problems import Problem
from tasks.contracts import Stage
from tasks.errors import LeakFound, SourceMismatch, StepFailed
from tasks.resources import LiveResources, open_resources
from tasks.steps.collect import COLLECT, join_outcomes
from tasks.steps.ingest import INGEST
from tasks.steps.sketch import SKETCH
from tasks.steps.step import Step, StepOutput, advance
from tasks.steps.validate import VALIDATE
from tasks.storage import personal
from tasks.storage.personal import hashed
from tests.conftest import day_file
from tests.personal import MARKERS, NUMBER, TEXT, marked, set_up_personal

pytestmark = pytest.mark.long

DAY = "2024-03-02"


@pytest.fixture
def res(tiny: Path) -> LiveResources:
    personal._key.cache_clear()
    set_up_personal(tiny, 3)
    return open_resources("tiny")


def require_hidden(text: str) -> None:
    assert not [marker for marker in MARKERS if marker in text], text


def test_records_reasons_and_sketches_have_hashes(res):
    for step in (INGEST, VALIDATE, SKETCH, COLLECT):
        advance(step, res.ref(DAY), res)
    for path in Path(str(res.lake.root)).rglob("*.json"):
        require_hidden(path.read_text())
    reasons = pd.read_parquet(res.lake.path(Stage.QUARANTINE, DAY))["reasons"]
    require_hidden(" ".join(reasons))
    expected = {"city": f"{TEXT} forbidden", "owner": f"{TEXT} forbidden", "distance": NUMBER * 100}
    for column, value in expected.items():
        assert any(f"{column} {hashed(value)} " in reason for reason in reasons), column
    findings = res.lake.done(Stage.VALID, DAY).data["findings"]
    observed = {(f["expectation"], f["column"]): f["observed"] for f in findings}
    assert observed["expect_column_max_to_be_between", "distance"] == "not shown: personal data"
    assert observed["expect_column_values_to_not_match_regex", "city"].startswith(hashed(f"{TEXT} forbidden"))
    sketch = res.lake.read(Stage.SKETCHES, DAY)
    require_hidden(" ".join(sketch["text"]))
    assert hashed(f"{TEXT} town") in set(sketch["text"])
    assert f"{TEXT} town" in set(res.lake.read(Stage.VALID, DAY)["city"]), "rows are the data"


def test_without_personal_columns_the_inputs_of_steps_stay_the_same(res):
    """The digests of outputs of models without personal columns must not change. These are those of v0.1's functions."""
    from tasks.steps import sketch, watch
    from tasks.storage.files import digest_json

    advance(INGEST, res.ref(DAY), res)
    advance(VALIDATE, res.ref(DAY), res)
    config = res.config.model_copy(update={"personal": ()})
    object.__setattr__(res.model, "config", config)
    rules = [config.features.columns, config.monitoring.block, config.partition.timezone, config.time]
    assert sketch.inputs(res.ref(DAY), res)["config"] == digest_json(rules)
    assert watch.hash_inputs(config) == []


def test_a_key_that_occurs_twice_is_hashed_in_the_error(res):
    rows = marked(1)[["parcel", "sent"]]
    labels = pd.DataFrame({"parcel": [rows["parcel"][0]] * 2, "late": [0.0, 1.0]})
    with pytest.raises(ValueError, match="occurs twice") as caught:
        join_outcomes(rows, labels, res.config)
    require_hidden(str(caught.value))
    assert hashed(rows["parcel"][0]) in str(caught.value)


def test_a_leak_is_reported_with_hashes(res, tiny):
    """The feature distance is the outcome of a parcel, which is known a day later."""
    path = tiny / "configs" / "tiny" / "source.sql"
    path.write_text(path.read_text().replace("distance", "late * 7073182.5 AS distance"))
    with pytest.raises(LeakFound) as caught:
        advance(INGEST, open_resources("tiny").ref(DAY), open_resources("tiny"))
    require_hidden(str(caught.value))
    assert "hash:" in str(caught.value)


def test_an_error_of_duckdb_has_no_value(res, tiny):
    broken = marked(1).astype({"distance": object})
    broken["distance"] = f"{TEXT} is no number"
    for day in (0, 1):
        broken.to_parquet(day_file(tiny, day), index=False)
    path = tiny / "configs" / "tiny" / "source.sql"
    path.write_text(path.read_text().replace("distance", "distance::DOUBLE AS distance"))
    record = advance(INGEST, open_resources("tiny").ref(DAY), open_resources("tiny"))
    assert record.status == "blocked"
    assert "DuckDB's ConversionException (its message is not shown: personal data) in column distance" in record.reason
    require_hidden(record.reason)


def why_not(res: LiveResources) -> str:
    """Why the day cannot be ingested."""
    try:
        return advance(INGEST, res.ref(DAY), res).reason
    except SourceMismatch as error:
        return str(error)


NAMES = ["O'Zyxmarker", "Zyxmarker's", '"Zyxmarker"', "\\'Zyxmarker", "`Zyxmarker\x1f7073182"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fault", ["one value too many", "a text as number"])
@pytest.mark.parametrize("kind", ["file", "tables"])
def test_a_bad_line_of_a_csv_file_is_told_without_its_values(tiny, name, fault, kind):
    personal._key.cache_clear()
    path = tiny / "configs" / "tiny" / "model.yaml"
    config = yaml.safe_load(path.read_text())
    config["personal"] = ["parcel", "city", "distance"]
    table = {"path": f"{tiny}/data/flat.csv"}
    config["source"] = {"file": table} if kind == "file" else {"tables": {"parcels": table}}
    path.write_text(yaml.safe_dump(config))
    sql = path.with_name("source.sql")
    sql.write_text(
        "SELECT parcel::VARCHAR AS parcel, sent::TIMESTAMPTZ AS sent, distance::DOUBLE AS distance, weight, city "
        "FROM parcels WHERE sent::TIMESTAMPTZ >= $start AND sent::TIMESTAMPTZ < $end"
    )
    cell = '"' + name.replace('"', '""') + ', x"'
    distance, more = ("1", ",9") if fault == "one value too many" else (cell, "")
    text = "parcel,sent,distance,weight,city,late\n1,2024-03-02 01:00:00,1,1,Bonn,0\n"
    (tiny / "data" / "flat.csv").write_text(text + f"2,2024-03-02 02:00:00,{distance},1,{cell},1{more}\n")
    reason = why_not(open_resources("tiny"))
    assert "flat.csv" in reason
    assert ("line 3" if kind == "file" or more else "in column distance") in reason
    require_hidden(reason)


def test_an_error_of_a_library_in_a_step_loses_its_values_and_its_traceback(res):
    def fail(*_: object) -> StepOutput:
        return StepOutput(rows=int(float(f"{TEXT} of 7073182.5")))

    step = Step("sketch", Stage.SKETCHES, 1, lambda *_: {"x": "1"}, fail)
    with pytest.raises(StepFailed) as caught:
        advance(step, res.ref(DAY), res)
    require_hidden(str(caught.value))
    assert "ValueError (its message is not shown" in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    require_hidden(res.lake.failure(Stage.SKETCHES, DAY))


def test_the_scoring_contract_answers_with_hashes(res):
    contract = contract_of(res.config, res.config.features.active)
    columns = {"weight": [1.0], "distance": [NUMBER * 100], "city": [f"{TEXT} forbidden"]}
    with pytest.raises(Problem) as caught:
        contract.validate(Table(columns, 1, False), datetime.now(UTC))
    text = caught.value.response().body.decode()
    require_hidden(text)
    assert text.count("hash:") == 2
