"""Schedules and their next runs, read from answers as Prefect's API gives them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tasks.orchestration.schedules import PAGE, PLANNING, Schedule, active_schedules, read_deployments
from tasks.reports.health import schedule_alerts

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Api:
    """Answers `filter` requests from lists, page by page as Prefect does."""

    def __init__(self, runs: list[dict[str, Any]]) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.items = {
            "flows/filter": [{"id": "f1", "name": "process"}, {"id": "f2", "name": "remind"}],
            "deployments/filter": [
                deployment("f2", "all", [schedule("s3", {"interval": 3600.0}, updated=None)]),
                deployment("f1", "tiny", [schedule("s1"), schedule("s2", active=False)], parameters={"model": "tiny"}),
                deployment("f1", "held", [schedule("s4")], parameters={"model": "held"}, paused=True),
            ],
            "flow_runs/filter": runs,
        }

    def __call__(self, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
        self.asked.append((path, body))
        return self.items[path][body["offset"] :][: body["limit"]]


def deployment(
    flow: str, name: str, schedules: list[dict], parameters: dict | None = None, paused: bool = False
) -> dict:
    return {
        "id": f"{flow}-{name}", "flow_id": flow, "name": name, "parameters": parameters or {}, "paused": paused,
        "schedules": schedules,
    }  # fmt: skip


def schedule(
    number: str, rule: dict | None = None, active: bool = True, updated: str | None = "2026-02-01T00:00:00Z"
) -> dict:
    cron = {"cron": "0 6 2 * *", "timezone": "America/New_York"}
    return {
        "id": number,
        "schedule": rule or cron,
        "active": active,
        "updated": updated,
        "created": "2026-01-01T00:00:00Z",
    }


def run(by: str | None, at: str) -> dict[str, Any]:
    return {"created_by": by and {"id": by, "type": "SCHEDULE"}, "expected_start_time": at}


def test_active_schedules_have_their_earliest_planned_run_and_a_run_by_hand_is_none() -> None:
    api = Api([run(None, "2026-03-01T13:00:00Z"), run("s1", "2026-03-02T11:00:00Z"), run("s1", "2026-04-02T10:00:00Z")])
    known = read_deployments(api)
    assert list(known) == ["remind/all", "process/held", "process/tiny"]
    hourly, tiny = active_schedules(known, api)
    assert (hourly.deployment, hourly.model, hourly.rule, hourly.timezone) == ("remind/all", "", "every 3600 s", "UTC")
    assert (hourly.next_run, hourly.next_run_local) == (None, "none planned")
    assert (tiny.deployment, tiny.model, tiny.next_run) == (
        "process/tiny",
        "tiny",
        datetime(2026, 3, 2, 11, tzinfo=UTC),
    )
    assert tiny.next_run_local == "2026-03-02 06:00 America/New_York"
    assert [s.deployment for s in active_schedules(known, api, "tiny")] == ["process/tiny"]
    assert active_schedules(known, api, "held") == [], "a paused deployment has no active schedule"


def test_planned_runs_are_read_page_by_page_until_each_schedule_has_one() -> None:
    api = Api([run("s1", f"2026-03-02T11:{n % 60:02d}:00Z") for n in range(PAGE)] + [run("s3", "2026-03-03T00:00:00Z")])
    hourly, _ = active_schedules(read_deployments(api), api)
    assert hourly.next_run == datetime(2026, 3, 3, tzinfo=UTC)
    assert [body["offset"] for path, body in api.asked if path == "flow_runs/filter"] == [0, PAGE]


@pytest.mark.parametrize(
    ("next_run", "age", "missing"),
    [(None, PLANNING * 2, True), (None, PLANNING / 2, False), (NOW + timedelta(days=1), PLANNING * 2, False)],
)
def test_a_run_is_missing_once_the_scheduler_had_the_time_to_plan_it(
    next_run: datetime | None, age: timedelta, missing: bool
) -> None:
    assert Schedule("process/tiny", "tiny", "0 6 2 * *", "UTC", NOW - age, next_run).is_missing(NOW) is missing


def test_a_schedule_without_a_planned_run_is_an_alert_that_names_it_and_what_to_do() -> None:
    old = datetime(2026, 1, 1, tzinfo=UTC)
    dead = Schedule("process/tiny", "tiny", "0 6 2 * *", "UTC", old, None)
    planned = Schedule("assess/tiny", "tiny", "0 7 2 * *", "UTC", old, NOW)
    (alert,) = schedule_alerts([planned, dead])
    assert alert.weight == 3
    assert alert.told == "process/tiny is scheduled (0 6 2 * * UTC), but Prefect has planned no run of it"
    assert "restart" in alert.do
