"""Schedules of deployments, and the next run that Prefect has planned for each.

Prefect's server plans runs ahead of time. A schedule that is switched on but has no planned run will never start anything,
which no health check and no switch in the UI shows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

Post = Callable[[str, dict[str, Any]], Any]
"""Sends a body to a path of Prefect's API, such as `deployments/filter`, and returns the response's JSON."""
PAGE = 200
"""Most items that Prefect returns at once."""
PLANNING = timedelta(minutes=3)
"""Prefect's scheduler processes each deployment once a minute, so a new schedule has no planned run yet."""
UNPOLLED = timedelta(minutes=5)
"""A worker looks into its queues every few seconds, and a restart takes a minute or two."""


@dataclass(frozen=True)
class Schedule:
    """One schedule of a deployment.

    Attributes:
        deployment: Flow and deployment, as in `process/flights`.
        model: The model that the deployment is for, empty if it is for all of them.
        rule: When it starts runs: a cron line, or `every 3600 s`.
        timezone: Name of the zone in which the rule counts.
        changed: When it was last changed, UTC.
        next_run: When its next planned run is due, UTC. None if there is no planned run.
        queue: Pool and queue of its runs, as in `evergreen/default`; empty if no worker starts them.
        polled: When a worker has last looked into the queue, UTC. None if none ever has.
    """

    deployment: str
    model: str
    rule: str
    timezone: str
    changed: datetime
    next_run: datetime | None
    queue: str = ""
    polled: datetime | None = None

    @property
    def next_run_local(self) -> str:
        """The next run in the time zone of the schedule, as in `2026-12-02 06:00 America/New_York`; `none planned` without one."""
        if self.next_run is None:
            return "none planned"
        return f"{self.next_run.astimezone(ZoneInfo(self.timezone)):%Y-%m-%d %H:%M} {self.timezone}"

    def is_missing(self, now: datetime | None = None) -> bool:
        """Return whether the next run is missing: Prefect's scheduler has had the time to plan one and has planned none."""
        return self.next_run is None and (now or datetime.now(UTC)) - self.changed > PLANNING

    def has_no_worker(self, now: datetime | None = None) -> bool:
        """Return whether no worker looks into its queue, for longer than a restart takes."""
        now = now or datetime.now(UTC)
        return bool(self.queue) and now - max(self.polled or self.changed, self.changed) > UNPOLLED


def read_deployments(post: Post) -> dict[str, dict[str, Any]]:
    """Return all deployments as Prefect's API describes them, by flow and name: `process/flights`."""
    flows = {flow["id"]: flow["name"] for flow in all_items(post, "flows/filter", {})}
    named = {f"{flows[d['flow_id']]}/{d['name']}": d for d in all_items(post, "deployments/filter", {})}
    return dict(sorted(named.items(), key=lambda item: (item[1]["name"], item[0])))


def active_schedules(deployments: dict[str, dict[str, Any]], post: Post, model: str | None = None) -> list[Schedule]:
    """Return the schedules that are switched on, each with its next planned run.

    Args:
        deployments: What `read_deployments` returned.
        post: Asks Prefect's API.
        model: Only the schedules of this model's deployments; by default all.
    """
    selected = {
        name: deployment
        for name, deployment in deployments.items()
        if not deployment["paused"] and (model is None or deployment["parameters"].get("model") == model)
    }
    active = [(name, d, s) for name, d in selected.items() for s in d["schedules"] if s["active"]]
    planned = _next_runs([s["id"] for _, _, s in active], [d["id"] for _, d, _ in active], post)
    queues = all_items(post, "work_queues/filter", {}) if active else ()
    polls = {f"{queue['work_pool_name']}/{queue['name']}": queue["last_polled"] for queue in queues}
    return [_schedule(name, d, s, planned.get(s["id"]), polls) for name, d, s in active]


def _schedule(
    name: str,
    deployment: dict[str, Any],
    schedule: dict[str, Any],
    next_run: datetime | None,
    polls: dict[str, str | None],
) -> Schedule:
    rule, pool = schedule["schedule"], deployment["work_pool_name"]
    queue = f"{pool}/{deployment['work_queue_name'] or 'default'}" if pool else ""
    polled = polls.get(queue)
    return Schedule(
        deployment=name,
        model=str(deployment["parameters"].get("model", "")),
        rule=rule.get("cron") or rule.get("rrule") or f"every {rule['interval']:.0f} s",
        timezone=rule.get("timezone") or "UTC",
        changed=datetime.fromisoformat(schedule["updated"] or schedule["created"]),
        next_run=next_run,
        queue=queue,
        polled=datetime.fromisoformat(polled) if polled else None,
    )


def _next_runs(schedules: Sequence[str], deployments: Sequence[str], post: Post) -> dict[str, datetime]:
    """Return the earliest planned run after now of each schedule, by the schedule's id."""
    if not schedules:
        return {}
    planned = {
        "deployment_id": {"any_": sorted(set(deployments))},
        "state": {"type": {"any_": ["SCHEDULED"]}},
        "expected_start_time": {"after_": datetime.now(UTC).isoformat()},
    }
    next_runs: dict[str, datetime] = {}
    for run in all_items(post, "flow_runs/filter", {"flow_runs": planned, "sort": "EXPECTED_START_TIME_ASC"}):
        by = run["created_by"] or {}
        if by.get("type") == "SCHEDULE":
            next_runs.setdefault(by["id"], datetime.fromisoformat(run["expected_start_time"]))
        if next_runs.keys() >= set(schedules):
            break
    return next_runs


def all_items(post: Post, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield all items that a filter matches, page by page."""
    offset = 0
    while True:
        items = post(path, {**body, "limit": PAGE, "offset": offset})
        yield from items
        if len(items) < PAGE:
            return
        offset += PAGE
