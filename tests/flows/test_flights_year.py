"""A year of the bundled flights, month by month: page and event have the same verdicts, or the page lists the differences first."""

from pathlib import Path

import pytest

from flows.backfill import backfill
from flows.process import process
from flows.train import train
from tasks.contracts import Stage
from tasks.drift.columns import methods
from tasks.drift.evidently_run import UNREACHABLE
from tasks.resources import open_resources
from tests.flows.test_history import evidently_results

pytestmark = pytest.mark.slow
MONTHS = [f"2013-{m:02d}" for m in range(4, 13)]


@pytest.fixture
def flights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_store: str, prefect_server: None) -> None:
    """The repository's own model and data, with a lake and a ledger of the test."""
    for name, value in (("HOME", ".evergreen"), ("LAKE", "lake")):
        monkeypatch.setenv(f"EVERGREEN_{name}", str(tmp_path / value))
    monkeypatch.setenv("EVERGREEN_DATABASE_URL", f"sqlite:///{tmp_path}/ledger.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_store)


def test_for_every_month_evidentlys_page_and_the_event_have_the_same_verdicts(flights):
    backfill(model="flights", start="2013-01", end="2013-03")
    train(model="flights", reason="first champion")
    res = open_resources("flights")
    expected = methods(res.config)
    for key in MONTHS:
        process(model="flights", partition=key)
        record = res.lake.record(Stage.MONITORING, key)
        verdicts = evidently_results(res, record)
        columns = [c for c in record.data["columns"] if c["column"] in expected]
        scored = {c["column"]: c for c in columns if c["method"] == expected[c["column"]].method}
        assert set(verdicts) == set(scored) == set(expected)
        for column, (threshold, drifted) in verdicts.items():
            assert threshold == (scored[column]["threshold"] or UNREACHABLE)
            assert (drifted != scored[column]["drifted"]) == (column in record.data["differs"]), (key, column)
        page = res.lake.path(Stage.MONITORING, key, "html").read_text()
        assert f"{record.data['share']:.0%} of columns" in page
        for column in record.data["differs"]:
            assert page.index("Differs from the verdict") < page.index(f"Drift in column '{column}'")
        facts = [f for f in res.ledger.facts() if (f.kind, f.partition) == ("drift", key)]
        assert bool(facts) == record.data["detected"]
        for fact in facts:
            assert {c["column"] for c in fact.payload["signals"]} == {
                c["column"] for c in record.data["columns"] if c["drifted"]
            }
            assert fact.payload["snapshot"] == record.data["snapshot"]
