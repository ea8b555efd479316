"""Runs send outputs to the places of `publish`. One that is down fails no run, is an alert, and gets everything later."""

from datetime import UTC, datetime

import pytest
from prefect.client.orchestration import get_client

from flows.assess import assess
from flows.backfill import backfill
from flows.process import process
from flows.remind import remind
from tasks.contracts import Stage
from tasks.lifecycle import sending
from tasks.reports.health import Severity, alerts
from tasks.reports.metrics import describe
from tasks.resources import open_resources
from tasks.sinks.records import read_sent
from tests.conftest import free_port
from tests.tasks.sinks.targets import configure, query
from tests.tasks.source.databases import ADDRESS

DAY, NEXT = "2024-03-11", "2024-03-12"


@pytest.fixture
def published(champion, monkeypatch):
    """Ten days and a champion, a database that does not answer, a folder for files and one for a Delta table."""
    monkeypatch.setenv(ADDRESS, f"postgresql://writer:hunter2@127.0.0.1:{free_port()}/test")
    files, lake = f"{champion}/out/{{partition}}.parquet", f"{champion}/delta"
    configure(
        champion,
        publish={
            "warehouse": {"connection": "warehouse", "table": "predictions"},
            "files": {"path": files},
            "lake": {"delta": lake, "output": "performance"},
        },
    )
    return champion


def tags(state) -> set[str]:
    with get_client(sync_client=True) as client:
        return set(client.read_flow_run(state.state_details.flow_run_id).tags)


def unsent_metric(res) -> dict[str, float]:
    samples = describe(res).samples(datetime.now(UTC))
    return {sample.labels[1]: sample.value for sample in samples if sample.name == "evergreen_outputs_unsent"}


def sent(folder) -> list[str]:
    return sorted(path.stem for path in (folder / "out").glob("*.parquet"))


def test_a_sink_that_is_down_fails_no_run_is_an_alert_and_gets_all_when_it_is_back(published, monkeypatch):
    state = process(model="tiny", partition=DAY, return_state=True)
    assert state.is_completed()
    assert f"tiny: {DAY} processed" in state.message
    assert "Not sent to warehouse: 1 partition, tried again by the next run" in state.message
    assert "Connection refused" in state.message
    assert "hunter2" not in state.message
    assert "warning" in tags(state)
    assert sent(published) == [DAY], "the other place has it"
    state = process(model="tiny", partition=NEXT, return_state=True)
    assert "Not sent to warehouse: 2 partitions" in state.message
    assert sent(published) == [DAY, NEXT]

    res = open_resources("tiny")
    (alert,) = [alert for alert in alerts(res) if "warehouse" in alert.message]
    assert alert.severity == Severity.ERROR
    assert alert.message.startswith(f"2 partitions of predictions not sent to warehouse; {NEXT} failed at ")
    assert "hunter2" not in alert.message
    assert unsent_metric(res) == {"warehouse": 2, "files": 0, "lake": 0}
    state = remind(return_state=True)
    assert "tiny: Not sent to warehouse: 2 partitions" in state.message
    assert "warning" in tags(state)

    address = f"sqlite:///{published}/warehouse.db"
    monkeypatch.setenv(ADDRESS, address)
    assert "Not sent" not in remind(return_state=True).message
    rows = query(address, "SELECT partition, count(*), count(DISTINCT parcel) FROM predictions GROUP BY 1 ORDER BY 1")
    expected = [(key, res.lake.done(Stage.PREDICTIONS, key).rows) for key in (DAY, NEXT)]
    assert rows == [(key, count, count) for key, count in expected]
    assert not [alert for alert in alerts(res) if "warehouse" in alert.message]
    assert unsent_metric(res)["warehouse"] == 0
    state = process(model="tiny", partition=DAY, return_state=True)
    assert "warning" not in tags(state)


@pytest.mark.slow
def test_performance_is_sent_when_a_partition_is_assessed(published):
    from deltalake import DeltaTable

    process(model="tiny", partition=DAY)
    assess(model="tiny", partition=DAY)
    rows = DeltaTable(f"{published}/delta").to_pandas().set_index("metric")
    record = open_resources("tiny").lake.done(Stage.PERFORMANCE, DAY)
    assert rows.loc["log_loss", "value"] == record.data["metrics"]["log_loss"]
    assert set(rows["partition"]) == {DAY}


@pytest.mark.slow
def test_a_history_is_sent_newest_first_within_a_limit_and_continued(published, monkeypatch):
    monkeypatch.setenv(ADDRESS, f"sqlite:///{published}/warehouse.db")
    with monkeypatch.context() as patch:
        patch.setattr(sending, "SECONDS", -1.0)
        state = backfill(model="tiny", start=DAY, end="2024-03-14", return_state=True)
        assert state.is_completed()
        assert "12 outputs left to send, by the next run" in state.message  # of four days to three places
        assert sent(published) == []
    state = process(model="tiny", partition=DAY, return_state=True)
    assert "left to send" not in state.message
    keys = [DAY, NEXT, "2024-03-13", "2024-03-14"]
    assert sent(published) == keys
    lake = open_resources("tiny").lake
    records = [read_sent(lake, "warehouse", key) for key in keys]
    assert [r.partition for r in sorted(records, key=lambda r: r.run.started, reverse=True)] == keys
