"""What a model needs of people, and the pages that tell: from records and ledger alone, written only when something changed."""

import json
import re
from datetime import UTC, datetime

import pandas as pd
import pytest

from flows.backfill import backfill
from flows.process import process
from flows.train import train
from tasks.catalogue import load
from tasks.contracts import Stage
from tasks.errors import MissingPartition, UnknownStage
from tasks.orchestration.schedules import Schedule
from tasks.reports.health import alerts, state
from tasks.reports.pages.catalogue import describe_data
from tasks.reports.pages.model import describe, render
from tasks.reports.pages.publish import refresh_pages
from tasks.resources import open_resources
from tasks.storage.partitions import NoPartition
from tests.conftest import day_file
from tests.flows.conftest import SHIFTED, STEADY


def told(res) -> list[tuple[int, str]]:
    return [(need.weight, need.told) for need in alerts(res)]


def test_a_new_model_asks_for_data_then_for_a_champion_and_then_for_nothing(world):
    res = open_resources("tiny")
    assert told(res) == [(2, "no partition was processed yet")]
    backfill(model="tiny", start="2024-03-01", end="2024-03-10")
    assert told(res) == [(2, "it has no champion yet")]
    train(model="tiny", reason="first champion")
    process(model="tiny", partition=STEADY)
    assert alerts(res) == []
    assert state([]) == "good"


def test_blocked_data_come_first_and_say_why(world):
    backfill(model="tiny", start="2024-03-01", end="2024-03-03")
    path = day_file(world, 3)
    frame = pd.read_parquet(path)
    frame.assign(weight=99.0).to_parquet(path, index=False)
    process(model="tiny", partition="2024-03-04", return_state=True)
    (weight, why), *_ = told(open_resources("tiny"))
    assert weight == 3
    assert why.startswith("2024-03-04 is blocked at valid: weight: column_values_to_be_between failed")
    page = (world / ".evergreen" / "pages" / "tiny.html").read_text()
    assert "2024-03-04 is blocked at valid" in page
    assert "broken: No version is champion yet." in page
    data = (world / ".evergreen" / "pages" / "tiny-data.html").read_text()
    assert "blocked: weight" in data


def test_a_failure_is_told_with_the_command_that_tries_again(world):
    backfill(model="tiny", start="2024-03-01", end="2024-03-02")
    res = open_resources("tiny")
    res.lake.write_failure(res.ref("2024-03-02"), Stage.SKETCHES, OSError("No space left on device"))
    (first, *_) = alerts(res)
    assert first.told == "sketches of 2024-03-02 failed: OSError: No space left on device"
    assert first.do.endswith("-p model=tiny -p start=2024-03-02 -p end=2024-03-02 -p mode=failed")


def test_the_page_tells_of_drift_decisions_versions_and_costs(played):
    res = open_resources("tiny")
    page = describe(res)
    champion = res.ledger.champion()
    assert page["champion"]["version"] == champion.version
    assert [p["key"] for p in page["partitions"]] == res.lake.keys(Stage.RAW)
    assert any(p["drifted"] for p in page["partitions"] if p["key"] == SHIFTED)
    assert page["drift"]["key"] == SHIFTED
    assert page["decisions"][0][0] == SHIFTED
    assert (1, f"{SHIFTED} has drifted from what version {champion.version} knows") in told(res)
    html = render(page)
    assert len(re.findall('<img alt="[^"]{20,}" src="data:image/svg', html)) == 2
    assert "http://" not in re.sub(r'href="[^"]*"|>http[^<]*<|xmlns[^ ]*', "", html)
    assert render(page) == html, "the same bytes"


def test_pages_are_written_when_something_has_changed_and_only_then(played):
    res = open_resources("tiny")
    refresh_pages(res)
    path = played / ".evergreen" / "pages" / "tiny.html"
    before = path.stat().st_mtime_ns
    assert refresh_pages(open_resources("tiny")) is None
    assert path.stat().st_mtime_ns == before
    assert json.loads(path.with_suffix(".json").read_text())["page"]["model"] == "tiny"
    assert ">tiny</a>" in (path.parent / "index.html").read_text()


def test_text_of_a_model_is_shown_and_not_run(played):
    page = describe(open_resources("tiny")) | {"description": "<script>alert(1)</script>", "headline": "a & b"}
    html = render(page)
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_the_catalogue_has_each_columns_role_rules_and_each_partitions_digest(played):
    res = open_resources("tiny")
    data = describe_data(res)
    columns = {row[0]: row for row in data["columns"]}
    assert columns["weight"][1:3] == ["double", "feature, a number"]
    assert "be between (min -50, max 50, mostly 0.9), critical" in columns["weight"][4]
    assert columns["parcel"][2] == "key"
    newest = data["partitions"][0]
    assert newest[0] == res.lake.keys(Stage.VALID)[-1]
    assert newest[5] == res.lake.record(Stage.VALID, newest[0]).digest[:16]


def test_load_gives_the_rows_of_a_range_and_names_what_is_missing(played):
    res = open_resources("tiny")
    found = load("tiny", "valid", "2024-03-02", "2024-03-04")
    parts = [res.lake.read(Stage.VALID, f"2024-03-0{n}") for n in (2, 3, 4)]
    pd.testing.assert_frame_equal(found, pd.concat(parts, ignore_index=True))
    assert list(load("tiny", "predictions", SHIFTED, SHIFTED, columns=["parcel", "prediction"])) == [
        "parcel",
        "prediction",
    ]
    with pytest.raises(MissingPartition, match="2024-03-18"):
        load("tiny", "valid", SHIFTED, "2024-03-18")
    assert len(load("tiny", "valid", SHIFTED, "2024-03-18", gaps="skip")) == res.lake.record(Stage.VALID, SHIFTED).rows
    with pytest.raises(UnknownStage, match=r"'models' is no stage with rows; there are: raw, valid"):
        load("tiny", "models")
    with pytest.raises(NoPartition, match="before it starts"):
        load("tiny", "valid", "2024-03-04", "2024-03-02")


def test_the_page_leads_to_the_card_of_each_version(played):
    """Why one was refused is two clicks from the index, without MLflow."""
    res = open_resources("tiny")
    page = describe(res)
    cards = [row[0] for row in page["versions"]]
    assert {card["text"] for card in cards} == {row.version for row in res.ledger.promotions()}
    for card in cards:
        assert "What the gate said" in (played / ".evergreen" / "pages" / card["href"]).read_text()
        assert f'<a href="{card["href"]}">{card["text"]}</a>' in render(page)


def test_an_ingestion_that_failed_is_told_though_nothing_was_ever_made(world):
    res = open_resources("tiny")
    res.lake.write_failure(
        res.ref("2024-03-01"), Stage.RAW, OSError("s3://key:secret@host/bucket does not answer\nat all")
    )
    (first, *_) = alerts(res)
    assert (first.weight, first.told) == (3, "raw of 2024-03-01 failed: OSError: s3://host/bucket does not answer")


def test_a_page_that_fails_fails_no_run(world, monkeypatch):
    def broken(*_):
        raise KeyError("note")

    monkeypatch.setattr("tasks.reports.artifacts.model.refresh_pages", broken)
    state = backfill(model="tiny", start="2024-03-01", end="2024-03-02", return_state=True)
    assert state.is_completed(), state.message


def test_the_index_is_made_anew_when_a_models_page_has_another_shape(played):
    res = open_resources("tiny")
    refresh_pages(res)
    path = played / ".evergreen" / "pages" / "tiny.json"
    kept = path.read_text()
    path.write_text(json.dumps({"look": 0, "page": {"model": "tiny"}}))
    refresh_pages(res)
    assert json.loads(path.read_text()) == json.loads(kept)
    assert ">tiny</a>" in (path.parent / "index.html").read_text()


def test_the_page_shows_the_next_run_of_each_schedule_and_alerts_where_there_is_none(played):
    res, changed = open_resources("tiny"), datetime(2026, 3, 1, tzinfo=UTC)
    good = Schedule(
        "process/tiny", "tiny", "0 6 2 * *", "America/New_York", changed, datetime(2026, 4, 2, 10, tzinfo=UTC)
    )
    bad = Schedule("assess/tiny", "tiny", "0 7 2 * *", "America/New_York", changed, None)
    page = describe(res, [good, bad])
    assert page["schedules"] == [
        ["process/tiny", "0 6 2 * *", "2026-04-02 06:00 America/New_York"],
        ["assess/tiny", "0 7 2 * *", "none planned"],
    ]
    assert "2026-04-02 06:00 America/New_York" in render(page)
    first = page["needs"][0]
    assert first["weight"] == 3
    assert (
        first["told"] == "assess/tiny is scheduled (0 7 2 * * America/New_York), but Prefect has planned no run of it"
    )
    assert "Not known: Prefect did not answer" in render(describe(res, None))
    assert "No schedule is active" in render(describe(res, []))
