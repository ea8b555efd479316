"""Alerts and pages of a model. They come from records and the ledger only, and are written only if something has changed."""

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
from tasks.reports.health import Severity, alerts, state
from tasks.reports.pages.catalogue import describe_data
from tasks.reports.pages.model import describe, render
from tasks.reports.pages.publish import refresh_pages
from tasks.resources import open_resources
from tasks.storage.partitions import NoPartition
from tests.conftest import day_file
from tests.flows.conftest import SHIFTED, STEADY


def messages(res) -> list[tuple[Severity, str]]:
    return [(alert.severity, alert.message) for alert in alerts(res)]


@pytest.mark.slow
def test_alerts_of_a_new_model_are_no_partition_then_no_champion_then_none(workspace):
    res = open_resources("tiny")
    assert messages(res) == [(Severity.ACTION, "no partition was processed yet")]
    backfill(model="tiny", start="2024-03-01", end="2024-03-10")
    assert messages(res) == [(Severity.ACTION, "it has no champion yet")]
    train(model="tiny", reason="first champion")
    process(model="tiny", partition=STEADY)
    assert alerts(res) == []
    assert state([]) == "good"


def test_a_blocked_partition_is_the_first_alert_and_has_the_reason(workspace):
    backfill(model="tiny", start="2024-03-01", end="2024-03-03")
    path = day_file(workspace, 3)
    frame = pd.read_parquet(path)
    frame.assign(weight=99.0).to_parquet(path, index=False)
    process(model="tiny", partition="2024-03-04", return_state=True)
    (severity, message), *_ = messages(open_resources("tiny"))
    assert severity == Severity.ERROR
    assert message.startswith("2024-03-04 is blocked at valid: weight: column_values_to_be_between failed")
    page = (workspace / ".evergreen" / "pages" / "tiny.html").read_text()
    assert "2024-03-04 is blocked at valid" in page
    assert "error: No version is champion yet." in page
    data = (workspace / ".evergreen" / "pages" / "tiny-data.html").read_text()
    assert "blocked: weight" in data


def test_the_alert_of_a_failed_step_has_the_command_that_runs_it_again(workspace):
    backfill(model="tiny", start="2024-03-01", end="2024-03-02")
    res = open_resources("tiny")
    res.lake.write_failure(res.ref("2024-03-02"), Stage.SKETCHES, OSError("No space left on device"))
    (first, *_) = alerts(res)
    assert first.message == "sketches of 2024-03-02 failed: OSError: No space left on device"
    assert first.action.endswith("-p model=tiny -p start=2024-03-02 -p end=2024-03-02 -p mode=failed")


def test_the_page_shows_champion_partitions_drift_and_decisions(processed):
    res = open_resources("tiny")
    page = describe(res)
    champion = res.ledger.champion()
    assert page["champion"]["version"] == champion.version
    assert [p["key"] for p in page["partitions"]] == res.lake.keys(Stage.RAW)
    assert any(p["drifted"] for p in page["partitions"] if p["key"] == SHIFTED)
    assert page["drift"]["key"] == SHIFTED
    assert page["decisions"][0][0] == SHIFTED
    drift = f"drift detected in {SHIFTED} against the reference of version {champion.version}"
    assert (Severity.WARNING, drift) in messages(res)
    html = render(page)
    assert 'data-view="performance" data-src="tiny/performance.json"' in html
    assert "http://" not in re.sub(r'href="[^"]*"|>http[^<]*<', "", html)
    assert render(page) == html, "a second rendering gives the same bytes"


def test_pages_are_written_only_if_something_has_changed(processed):
    res = open_resources("tiny")
    refresh_pages(res)
    path = processed / ".evergreen" / "pages" / "tiny.html"
    before = path.stat().st_mtime_ns
    assert refresh_pages(open_resources("tiny")) is None
    assert path.stat().st_mtime_ns == before
    assert json.loads(path.with_suffix(".json").read_text())["page"]["model"] == "tiny"
    assert ">tiny</a>" in (path.parent / "index.html").read_text()


def test_html_in_a_models_text_is_escaped(processed):
    page = describe(open_resources("tiny")) | {"description": "<script>alert(1)</script>", "headline": "a & b"}
    html = render(page)
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_the_catalogue_has_each_columns_role_rules_and_each_partitions_digest(processed):
    res = open_resources("tiny")
    data = describe_data(res)
    contract = data["contract"]
    columns = {row[0]: row for row in contract["columns"]}
    assert columns["weight"][1:4] == ["double", "feature, a number", "yes"]
    assert columns["parcel"][2:4] == ["key", "never"]
    assert columns["late"][1:3] == ["double", "target, in the labels"]
    assert contract["promises"][0][:4] == [
        "weight", "values to be between (min_value -50, max_value 50, mostly 0.9)", "critical", "kept"
    ]  # fmt: skip
    assert contract["promises"][0][4] == "12 of 12"
    newest = data["partitions"][0]
    assert newest[0] == res.lake.keys(Stage.VALID)[-1]
    assert newest[5:] == [res.lake.record(Stage.VALID, newest[0]).digest[:16], "1"]
    ((version, _, _, partitions, broken),) = contract["versions"]  # a backfill ends its partitions in any order
    assert (version, partitions, broken) == ("1", f"2024-03-01 to {newest[0]}", "")
    labels = contract["freshness"][2]
    assert labels[1:4] == ["outcomes matured 1 day after the end of the day", SHIFTED, "2024-03-19 00:00 UTC"]


def test_load_returns_the_rows_of_a_range_and_an_error_names_a_missing_partition(processed):
    res = open_resources("tiny")
    loaded = load("tiny", "valid", "2024-03-02", "2024-03-04")
    parts = [res.lake.read(Stage.VALID, f"2024-03-0{n}") for n in (2, 3, 4)]
    pd.testing.assert_frame_equal(loaded, pd.concat(parts, ignore_index=True))
    assert list(load("tiny", "predictions", SHIFTED, SHIFTED, columns=["parcel", "prediction"])) == [
        "parcel",
        "prediction",
    ]
    with pytest.raises(MissingPartition, match="2024-03-18"):
        load("tiny", "valid", SHIFTED, "2024-03-18")
    assert len(load("tiny", "valid", SHIFTED, "2024-03-18", gaps="skip")) == res.lake.record(Stage.VALID, SHIFTED).rows
    with pytest.raises(UnknownStage, match=r"'models' is not a dataset with rows; there are: raw, valid"):
        load("tiny", "models")
    with pytest.raises(NoPartition, match="before it starts"):
        load("tiny", "valid", "2024-03-04", "2024-03-02")


def test_the_page_links_to_the_card_of_each_version(processed):
    """The reason of a refusal is two clicks away from the index, without MLflow."""
    res = open_resources("tiny")
    refresh_pages(res)
    page = (processed / ".evergreen" / "pages" / "tiny-versions.html").read_text()
    versions = {row.version for row in res.ledger.promotions()}
    links = dict(re.findall(r'<a href="(tiny-v\d+\.html)">v(\d+)</a>', page))
    assert set(links.values()) == versions
    for name in links:
        assert "Verdicts of the gate" in (processed / ".evergreen" / "pages" / name).read_text()


def test_a_failed_ingestion_is_an_alert_even_without_any_record(workspace):
    res = open_resources("tiny")
    res.lake.write_failure(
        res.ref("2024-03-01"), Stage.RAW, OSError("s3://key:secret@host/bucket does not answer\nat all")
    )
    (first, *_) = alerts(res)
    assert (first.severity, first.message) == (
        Severity.ERROR,
        "raw of 2024-03-01 failed: OSError: s3://host/bucket does not answer",
    )


def test_an_error_in_a_page_does_not_fail_the_run(workspace, monkeypatch):
    def raise_error(*_):
        raise KeyError("note")

    monkeypatch.setattr("tasks.reports.artifacts.model.refresh_pages", raise_error)
    state = backfill(model="tiny", start="2024-03-01", end="2024-03-02", return_state=True)
    assert state.is_completed(), state.message


def test_pages_of_another_layout_version_are_written_again(processed):
    res = open_resources("tiny")
    refresh_pages(res)
    path = processed / ".evergreen" / "pages" / "tiny.json"
    written = path.read_text()
    path.write_text(json.dumps({"layout_version": 0, "page": {"model": "tiny"}}))
    refresh_pages(res)
    assert json.loads(path.read_text()) == json.loads(written)
    assert ">tiny</a>" in (path.parent / "index.html").read_text()


def test_the_page_shows_the_next_run_of_each_schedule_and_alerts_where_there_is_none(processed):
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
    first = page["alerts"][0]
    assert first["severity"] == Severity.ERROR
    assert (
        first["message"]
        == "assess/tiny is scheduled (0 7 2 * * America/New_York), but Prefect has planned no run of it"
    )
    assert "Not known: Prefect did not answer" in render(describe(res, None))
    assert "No schedule is active" in render(describe(res, []))
