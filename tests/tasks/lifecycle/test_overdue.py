"""What does not come is found by the clock: a late partition and an old champion, each reported once."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
import yaml

from flows.remind import remind
from ops.play import Play
from ops.status_model import events
from ops.terminal import terminal
from tasks.contracts import Stage
from tasks.lifecycle.lateness import late_partition, nothing_scored, old_champion
from tasks.lifecycle.overdue import report_overdue
from tasks.orchestration.prefect_tasks import simulation
from tasks.reports.health import Severity, alerts, state
from tasks.resources import LiveResources, open_resources
from tasks.steps.ingest import INGEST
from tasks.steps.step import advance
from tasks.steps.validate import VALIDATE
from tests.conftest import day_file
from tests.ops.test_play import DAYS, make_champion

pytestmark = pytest.mark.long

DUE = datetime(2024, 3, 6, 6, tzinfo=UTC)
"""When the fourth day is due: its end, a grace of a day, and six hours."""


@pytest.fixture
def res(tiny: Path) -> LiveResources:
    """Three days are processed, by a champion that learned from rows up to March 1."""
    path = tiny / "configs" / "tiny" / "model.yaml"
    config = yaml.safe_load(path.read_text())
    config["source"]["due_within"] = "6h"
    config["champion"] = {"max_age": "10D"}
    path.write_text(yaml.safe_dump(config))
    opened = open_resources("tiny")
    make_champion(opened.ref(DAYS[0]).start, opened)
    for key in DAYS[:3]:
        scored(key, opened)
    return opened


def scored(key: str, res: LiveResources) -> None:
    """Ingest and validate a partition, and write a record of its predictions."""
    for step in (INGEST, VALIDATE):
        advance(step, res.ref(key), res)
    res.lake.write_record(res.ref(key), Stage.PREDICTIONS, version=1, inputs={}, rows=150, data={"version": "1"})


def test_a_partition_is_late_when_its_time_has_passed_and_it_is_not_processed(res, tiny):
    assert late_partition(res, DUE - timedelta(seconds=1)) is None
    late = late_partition(res, DUE)
    assert late is not None
    assert (late.partition, late.since, late.champion) == (DAYS[3], DUE, "1")
    assert "2024-03-04 has come, but is not processed: it was due by 2024-03-06 06:00 UTC" in late.message
    day_file(tiny, 3).unlink()
    late = late_partition(res, DUE)
    assert late is not None
    assert "2024-03-04 has not come: " in late.message
    assert "the newest that is processed is 2024-03-03" in late.message


@pytest.mark.parametrize("what", ["scored", "blocked", "without rows"])
def test_a_partition_for_which_nothing_is_left_to_do_is_not_late(res, tiny, what):
    if what == "scored":
        scored(DAYS[3], res)
    else:
        rows = pd.read_parquet(day_file(tiny, 3))
        changed = rows.iloc[:0] if what == "without rows" else rows.assign(parcel="the same key")
        changed.to_parquet(day_file(tiny, 3), index=False)
        for step in (INGEST, VALIDATE):
            advance(step, res.ref(DAYS[3]), res)
    assert late_partition(res, DUE) is None
    assert late_partition(res, DUE + timedelta(days=1)) is not None, "the next day"


def test_a_champion_is_too_old_by_the_rows_that_it_learned_from(res):
    learned_until = res.ref(DAYS[0]).start
    assert old_champion(res, learned_until + timedelta(days=10)) is None
    old = old_champion(res, learned_until + timedelta(days=12))
    assert old is not None
    assert old.message == (
        "version 1 learned from rows up to 2024-03-01; champion.max_age is 10 days, so it is too old since 2024-03-11"
    )
    first, newer = res.ledger.champion(), res.ref(DAYS[4]).start
    assert first
    res.ledger.append(replace(first, version="2", previous="1", against=first.sequence, as_of=newer, window_end=newer))
    assert old_champion(res, learned_until + timedelta(days=12)) is None


def test_each_is_a_fact_once_that_no_policy_decides_about_and_an_alert_until_it_ends(res):
    with simulation():
        facts = report_overdue(res, DUE + timedelta(days=20))
        assert [(f.kind, f.partition, f.as_of) for f in facts] == [
            ("late", DAYS[3], DUE),
            ("old", "", res.ref(DAYS[0]).start + timedelta(days=10)),
        ]
        assert report_overdue(res, DUE + timedelta(days=21)) == []
    assert res.ledger.undecided() == []
    current = alerts(res)
    assert state(current) == Severity.ERROR
    assert "2024-03-04 has come, but is not processed" in current[0].message
    assert any("champion.max_age is 10 days" in alert.message for alert in current)
    scored(DAYS[3], res)
    assert alerts(res)[0].message.startswith("2024-03-05 has come")


def test_days_from_before_the_champion_are_finished_and_the_first_to_score_can_be_late(tiny):
    path = tiny / "configs" / "tiny" / "model.yaml"
    path.write_text(path.read_text().replace("lookback: 1D", "lookback: 1D\n  due_within: 6h"))
    opened = open_resources("tiny")
    for key in (*DAYS[:2], *DAYS[3:6]):  # the third day is missing
        for step in (INGEST, VALIDATE):
            advance(step, opened.ref(key), opened)
    make_champion(opened.ref(DAYS[5]).complete, opened)
    assert late_partition(opened, opened.ref(DAYS[6]).complete) is None, "no day before the champion is ever scored"
    late = late_partition(opened, opened.ref(DAYS[6]).complete + timedelta(hours=6))
    assert late is not None
    assert late.partition == DAYS[6], "although the champion has scored nothing yet"


def test_a_champion_that_gets_no_rows_is_no_good_model(res, tiny):
    for n in range(3, 6):
        pd.read_parquet(day_file(tiny, n)).iloc[:0].to_parquet(day_file(tiny, n), index=False)
        for step in (INGEST, VALIDATE):
            advance(step, res.ref(DAYS[n]), res)
    within = timedelta(hours=6)
    assert nothing_scored(res, res.ref(DAYS[3]).complete + within - timedelta(seconds=1)) == ""
    assert "no rows since 2024-03-03" in nothing_scored(res, res.ref(DAYS[5]).complete + within)
    assert nothing_scored(res, res.ref(DAYS[6]).complete + within) == "", (
        "the seventh day is late, which is an alert by itself"
    )


def test_a_play_does_not_wait_for_a_decision_about_what_people_handle(res, monkeypatch):
    with simulation():
        assert report_overdue(res, DUE)
    monkeypatch.setattr("ops.runs.wait_for_decision", lambda *_: pytest.fail("it waits"))
    play = Play(res, terminal())
    play.wait_for_decisions({DAYS[3]})
    assert play.shown == set()


def test_the_events_of_status_say_what_is_overdue_and_not_that_a_decision_is_missing(res):
    with simulation():
        late, old = report_overdue(res, DUE + timedelta(days=20))
    lines = [line for line in events(res) if late.payload["told"] in line or old.payload["told"] in line]
    assert len(lines) == 2
    assert "decision" not in "".join(lines)
    assert late.id not in "".join(lines), "a person reads what is overdue, not an id"


def test_remind_reports_what_is_overdue_once(res, tiny, prefect_server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tiny}/mlflow.db")  # no versions of other tests
    state = remind(return_state=True)
    assert "tiny: 2024-03-04 has come, but is not processed" in state.message
    assert "champion.max_age is 10 days" in state.message
    assert remind(return_state=True).message == "No fact had to be sent again."


def test_nothing_is_late_where_model_yaml_declares_nothing(tiny):
    opened = open_resources("tiny")
    make_champion(opened.ref(DAYS[0]).start, opened)
    scored(DAYS[0], opened)
    far = datetime(2026, 1, 1, tzinfo=UTC)
    assert (late_partition(opened, far), old_champion(opened, far)) == (None, None)
