"""Schedules and their next runs, from responses of Prefect's API."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tasks.orchestration.schedules import PAGE, PLANNING, Schedule, active_schedules, read_deployments
from tasks.reports.health import schedule_alerts

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Api:
    """A stub of Prefect's API: responds to `filter` requests from lists, page by page."""

    def __init__(self, runs: list[dict[str, Any]]) -> None:
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.items: dict[str, list[dict[str, Any]]] = {
            "flows/filter": [{"id": "f1", "name": "process"}, {"id": "f2", "name": "remind"}],
            "deployments/filter": [
                deployment("f2", "all", [schedule("s3", {"interval": 3600.0}, updated=None)]),
                deployment("f1", "tiny", [schedule("s1"), schedule("s2", active=False)], parameters={"model": "tiny"}),
                deployment("f1", "held", [schedule("s4")], parameters={"model": "held"}, paused=True),
            ],
            "flow_runs/filter": runs,
            "work_queues/filter": [
                {"work_pool_name": "evergreen", "name": "default", "last_polled": "2026-03-01T11:59:50Z"},
                {"work_pool_name": "evergreen", "name": "backfills", "last_polled": None},
            ],
        }

    def __call__(self, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
        self.requests.append((path, body))
        return self.items[path][body["offset"] :][: body["limit"]]


def deployment(
    flow: str, name: str, schedules: list[dict], parameters: dict | None = None, paused: bool = False
) -> dict:
    return {
        "id": f"{flow}-{name}", "flow_id": flow, "name": name, "parameters": parameters or {}, "paused": paused,
        "schedules": schedules, "work_pool_name": "evergreen", "work_queue_name": None if name == "tiny" else "backfills",
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


def test_an_active_schedule_has_its_earliest_planned_run_and_manual_runs_do_not_count() -> None:
    api = Api([run(None, "2026-03-01T13:00:00Z"), run("s1", "2026-03-02T11:00:00Z"), run("s1", "2026-04-02T10:00:00Z")])
    deployments = read_deployments(api)
    assert list(deployments) == ["remind/all", "process/held", "process/tiny"]
    hourly, tiny = active_schedules(deployments, api)
    assert (hourly.deployment, hourly.model, hourly.rule, hourly.timezone) == ("remind/all", "", "every 3600 s", "UTC")
    assert (hourly.next_run, hourly.next_run_local) == (None, "none planned")
    assert (tiny.deployment, tiny.model, tiny.next_run) == (
        "process/tiny",
        "tiny",
        datetime(2026, 3, 2, 11, tzinfo=UTC),
    )
    assert (tiny.queue, tiny.polled) == ("evergreen/default", datetime(2026, 3, 1, 11, 59, 50, tzinfo=UTC))
    assert (hourly.queue, hourly.polled) == ("evergreen/backfills", None)
    assert tiny.next_run_local == "2026-03-02 06:00 America/New_York"
    assert [s.deployment for s in active_schedules(deployments, api, "tiny")] == ["process/tiny"]
    assert active_schedules(deployments, api, "held") == [], "a paused deployment has no active schedule"


def test_planned_runs_are_read_page_by_page_until_each_schedule_has_one() -> None:
    api = Api([run("s1", f"2026-03-02T11:{n % 60:02d}:00Z") for n in range(PAGE)] + [run("s3", "2026-03-03T00:00:00Z")])
    hourly, _ = active_schedules(read_deployments(api), api)
    assert hourly.next_run == datetime(2026, 3, 3, tzinfo=UTC)
    assert [body["offset"] for path, body in api.requests if path == "flow_runs/filter"] == [0, PAGE]


@pytest.mark.parametrize(
    ("next_run", "age", "missing"),
    [(None, PLANNING * 2, True), (None, PLANNING / 2, False), (NOW + timedelta(days=1), PLANNING * 2, False)],
)
def test_a_run_is_missing_if_the_scheduler_has_had_the_time_to_plan_it(
    next_run: datetime | None, age: timedelta, missing: bool
) -> None:
    assert Schedule("process/tiny", "tiny", "0 6 2 * *", "UTC", NOW - age, next_run).is_missing(NOW) is missing


def test_a_schedule_without_a_planned_run_is_an_alert_with_its_name_and_an_action() -> None:
    old = datetime(2026, 1, 1, tzinfo=UTC)
    dead = Schedule("process/tiny", "tiny", "0 6 2 * *", "UTC", old, None)
    planned = Schedule("assess/tiny", "tiny", "0 7 2 * *", "UTC", old, NOW)
    (alert,) = schedule_alerts([planned, dead])
    assert alert.severity == "error"
    assert alert.message == "process/tiny is scheduled (0 6 2 * * UTC), but Prefect has planned no run of it"
    assert "restart" in alert.action


@pytest.mark.parametrize(
    ("polled", "changed", "idle"), [(4, 60, False), (6, 60, True), (None, 6, True), (None, 4, False), (6, 4, False)]
)
def test_a_queue_into_which_no_worker_looks_is_one_alert_with_the_deployments_that_wait(polled, changed, idle) -> None:
    """`polled` and `changed` are minutes ago. Deploying anew gives a worker time to start."""
    now = datetime.now(UTC)
    since = None if polled is None else now - timedelta(minutes=polled)
    schedules = [
        Schedule(name, "tiny", "0 6 * * *", "UTC", now - timedelta(minutes=changed), now, "evergreen/default", since)
        for name in ("process/tiny", "assess/tiny")
    ]
    found = schedule_alerts(schedules)
    assert len(found) == idle
    if idle:
        assert found[0].message.endswith("scheduled runs of assess/tiny, process/tiny do not start")
        assert ("since" in found[0].message) == (polled is not None)
        assert "prefect worker start --pool evergreen" in found[0].action
