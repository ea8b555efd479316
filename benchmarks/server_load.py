"""The load for `benchmarks.server`: flow runs side by side while events are sent, on the server of `PREFECT_API_URL`.

    python -m benchmarks.server_load THREADS SECONDS

Prints one line of JSON: the facts that the events were about, how many runs completed, and why others did not.
"""

import asyncio
import json
import sys
import threading
import time
from uuid import uuid4

from prefect import flow, get_run_logger, task
from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.events.worker import EventsWorker

from ops.deploy import lost_runs

TASKS, LINES = 8, 20
"""Tasks per run, and log lines per task."""


@task(task_run_name="{name}")
def write_lines(name: str) -> None:
    for line in range(LINES):
        get_run_logger().warning("line %d of %s", line, name)


@flow(name="load")
def load() -> None:
    for number in range(TASKS):
        write_lines(str(number))


@flow(name="asked")
def asked(fact: str) -> None:
    """The flow that the automation starts; no worker runs it."""


async def set_up() -> None:
    """Create a deployment, an automation like ours that starts it for each fact, and the one that reacts to every heartbeat."""
    async with get_client() as client:
        flow_id = await client.create_flow(asked)
        deployment = await client.create_deployment(flow_id=flow_id, name="benchmark", enforce_parameter_schema=False)
        trigger = EventTrigger(
            match=ResourceSpecification({"prefect.resource.id": "benchmark.model"}),
            expect={"benchmark.drift"},
            for_each={"prefect.resource.id", "benchmark.fact"},
            posture=Posture.Reactive,
            threshold=1,
            within=30,  # seconds
        )
        action = RunDeployment(deployment_id=deployment, parameters={"fact": "{{ event.payload.fact }}"})
        await client.create_automation(AutomationCore(name="benchmark", trigger=trigger, actions=[action]))
        await client.create_automation(lost_runs())


def main() -> None:
    threads, seconds = int(sys.argv[1]), float(sys.argv[2])
    asyncio.run(set_up())
    end = time.monotonic() + seconds
    facts: list[str] = []
    completed: list[int] = []
    failed: list[str] = []

    def work() -> None:
        while time.monotonic() < end:
            try:
                load()
                completed.append(1)
            except Exception as error:  # noqa: BLE001  (every error is reported)
                failed.append(repr(error)[:300])

    running = [threading.Thread(target=work) for _ in range(threads)]
    for thread in running:
        thread.start()
    while time.monotonic() < end:
        facts.append(str(uuid4()))
        about = {"prefect.resource.id": "benchmark.model", "benchmark.fact": facts[-1]}
        emit_event("benchmark.drift", resource=about, payload={"fact": facts[-1]})
        time.sleep(1)
    for thread in running:
        thread.join()
    EventsWorker.instance().wait_until_empty()
    print(json.dumps({"facts": facts, "runs": len(completed), "failed": failed}))


if __name__ == "__main__":
    main()
