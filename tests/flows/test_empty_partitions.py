"""Partitions without rows first, in the middle and last: every flow, artifact and page runs, and no number counts them."""

import io

import pytest
import yaml
from rich.console import Console

from flows.assess import assess
from flows.backfill import backfill
from flows.process import process
from flows.replay import replay
from flows.reproduce import reproduce
from flows.train import train
from ops.status_model import print_model
from tasks.contracts import Stage
from tasks.lifecycle.policy_inputs import count_new_labels
from tasks.reports.artifacts.partitions import row
from tasks.reports.pages.model import describe
from tasks.reports.summary import grid, summarise
from tasks.resources import Resources, open_resources
from tasks.training.window import locate_window
from tests.conftest import day_file, parcels

pytestmark = pytest.mark.slow

EMPTY = ("2024-03-01", "2024-03-05", "2024-03-10", "2024-03-12", "2024-03-14")
FULL = tuple(day for day in (f"2024-03-{d:02d}" for d in range(1, 14)) if day not in EMPTY)
MATURE = 147
"""Parcels of a day with an outcome: three of 150 have none."""


@pytest.fixture
def res(workspace) -> Resources:
    """Fourteen days, five of them without rows, with a champion after the tenth. Drift is tested against the day before."""
    for key in EMPTY:
        day = int(key[-2:]) - 1
        parcels(day).iloc[:0].to_parquet(day_file(workspace, day), index=False)
    path = workspace / "configs" / "tiny" / "model.yaml"
    config = yaml.safe_load(path.read_text())
    config["monitoring"] |= {"reference": "trailing", "trailing": 1}
    path.write_text(yaml.safe_dump(config))
    states = [backfill(model="tiny", start="2024-03-01", end="2024-03-10", return_state=True)]
    assert train(model="tiny", reason="first champion").decision.passed
    for key in ("2024-03-11", "2024-03-12", "2024-03-13", "2024-03-14"):
        states += [f(model="tiny", partition=key, return_state=True) for f in (process, assess)]
    states.append(assess(model="tiny", return_state=True))
    assert [state.message for state in states if not state.is_completed()] == []
    return open_resources("tiny")


def test_empty_partitions_pass_every_step_and_count_in_no_number(res):
    rows = grid(res, [res.ref(key) for key in res.lake.keys(Stage.RAW)])
    assert {state for row in rows for state in row.values()} - {row["partition"] for row in rows} == {
        "fresh",
        "empty",
        ".",
    }
    assert [row["partition"] for row in rows if (row["ingest"], row["validate"]) == ("empty", "empty")] == [*EMPTY]
    for key in EMPTY:
        records = {stage: record for stage in Stage if (record := res.lake.record(stage, key))}
        assert {(r.status, r.rows) for r in records.values()} == {("done", 0)}
        assert not res.lake.path(Stage.QUARANTINE, key).exists()
    monitored, assessed = (res.lake.done(stage, "2024-03-12").data for stage in (Stage.MONITORING, Stage.PERFORMANCE))
    assert (monitored["detected"], monitored["note"]) == (False, "the partition has no rows")
    assert (assessed["mature"], assessed["pending"], assessed["metrics"]["log_loss"]) == (0, 0, None)
    assert not {fact.partition for fact in res.ledger.facts()} & {*EMPTY}

    champion = res.ledger.champion()
    assert champion.window_end == res.ref("2024-03-09").end, "the window ends with the newest partition that has rows"
    version = res.registry.cached_version(champion.version)
    assert version.rows == 7 * MATURE
    later = locate_window(res, res.ref("2024-03-14").as_of)
    assert (later.partitions, later.passed_over) == (FULL, ())
    assert count_new_labels(champion, res.ref("2024-03-14").as_of, res) == 2 * MATURE
    last = res.lake.done(Stage.MONITORING, "2024-03-13").data["columns"]
    assert {c["reference"] for c in last if c["column"] == "weight"} == {"the 1 partitions before it"}
    assert all(c["score"] is not None for c in last if c["column"] == "weight"), "compared with 11 March, not 12 March"

    shown = {s.key: row(s)["rows"] for s in summarise(res)}
    assert shown == dict.fromkeys(EMPTY, "empty") | dict.fromkeys(FULL, 150)
    page = describe(res)
    assert [p["key"] for p in page["partitions"] if p["empty"]] == [*EMPTY]
    assert not [alert for alert in page["alerts"] if any(key in alert["message"] for key in EMPTY)]
    html = (res.settings.pages / "tiny.html").read_text()
    assert html.count(">empty<") == len(EMPTY)
    status = io.StringIO()
    print_model(res, Console(file=status, width=120))
    assert status.getvalue().count("empty") == 2 * len(EMPTY), "ingest and validate"

    assert reproduce(model="tiny", version=champion.version, return_state=True).is_completed()
    state = replay(model="tiny", start="2024-03-10", end="2024-03-14", policies=["never", "every"], return_state=True)
    assert state.is_completed(), state.message
    assert "2024-03-10 to 2024-03-12" in state.message
