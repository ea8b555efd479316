"""From a drift event to the first line of its retraining, and Prefect's minimum: an event that starts an empty flow.

Both use the same server, automation and worker, alternately, ten times. The events name facts that the ledger does not have, so the
retraining begins and ends at once. Only its beginning is measured.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import uuid4

from benchmarks.harness import Row, Spent, row
from benchmarks.site import NEXT, Site, site

ROUNDS, TIMEOUT = 10, 120
EMPTY = """
  - name: benchmark
    entrypoint: benchmarks/empty.py:empty
    work_pool: *pool
    triggers:
      - type: event
        enabled: true
        name: benchmark
        expect: [benchmark.empty]
        match: {prefect.resource.id: benchmark}
        for_each: [prefect.resource.id, benchmark.number]
        posture: Reactive
        threshold: 1
        within: 30
"""
EMIT = """
import json, sys
from prefect.events import emit_event
for line in sys.stdin:
    print(emit_event(**json.loads(line)).occurred.isoformat(), flush=True)
"""


def rows() -> list[Row]:
    copy = site()
    deploy_empty(copy)
    copy.set_automations(enabled=True)
    ours, theirs = [], []
    with emitting(copy) as emit:
        for _ in range(ROUNDS):
            ours.append(reaction(copy, emit, "retrain", drift()))
            theirs.append(reaction(copy, emit, "empty", nothing()))
    copy.set_automations(enabled=False)
    (whole, own), (whole_of_empty, own_of_empty) = zip(*ours, strict=True), zip(*theirs, strict=True)
    against, note = (
        "the same for an empty flow",
        "up to 5 s of it are Prefect's random delay until an event starts a run",
    )
    return [
        row("drift event to first line of retraining, ten times", against, whole, whole_of_empty, 1.3, "wall", note),
        row("of that, from the run's creation to its first line", against, own, own_of_empty, what="wall"),
    ]


def deploy_empty(copy: Site) -> None:
    """Deploy an empty flow."""
    file = copy.folder / "prefect.yaml"
    if "benchmarks/empty.py" not in (text := file.read_text()):
        file.write_text(text.rstrip() + "\n" + EMPTY)
        copy.run("prefect", "--no-prompt", "deploy", "--name", "empty/benchmark")


def drift() -> dict[str, Any]:
    fact = str(uuid4())
    about = {"prefect.resource.id": "evergreen.model.flights", "evergreen.fact": fact, "evergreen.partition": NEXT}
    payload = {"fact_id": fact, "as_of": "2013-05-02T04:00:00+00:00", "kind": "drift"}
    return {"event": "evergreen.drift.detected", "resource": about, "payload": payload}


def nothing() -> dict[str, Any]:
    about = {"prefect.resource.id": "benchmark", "benchmark.number": str(uuid4())}
    return {"event": "benchmark.empty", "resource": about, "payload": {}}


@contextmanager
def emitting(copy: Site) -> Iterator[Callable[[dict[str, Any]], datetime]]:
    """Yield a function that emits an event from a running process, and returns when it occurred."""
    with subprocess.Popen(
        [sys.executable, "-c", EMIT],
        cwd=copy.folder,
        env=os.environ | copy.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def emit(event: dict[str, Any]) -> datetime:
            assert process.stdin
            assert process.stdout
            print(json.dumps(event), file=process.stdin, flush=True)
            return datetime.fromisoformat(process.stdout.readline().strip())

        yield emit
        assert process.stdin
        process.stdin.close()


def reaction(
    copy: Site, emit: Callable[[dict[str, Any]], datetime], flow: str, event: dict[str, Any]
) -> tuple[Spent, Spent]:
    """Return the seconds until a run was running, from its event and from its own creation. Waits for its end."""
    before, fact = {run["id"] for run in copy.runs_of(flow)}, event["payload"].get("fact_id")
    occurred, deadline = emit(event), time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        new = [run for run in copy.runs_of(flow) if run["id"] not in before and run["end_time"]]
        done = [run for run in new if run["parameters"].get("fact") == fact]
        if done:
            began, created = (datetime.fromisoformat(done[0][name]) for name in ("start_time", "created"))
            from_event, from_run = (Spent((began - t).total_seconds(), float("nan")) for t in (occurred, created))
            return from_event, from_run
        time.sleep(0.5)
    print(f"no run of {flow} within {TIMEOUT} s", file=sys.stderr)
    raise TimeoutError(flow)
