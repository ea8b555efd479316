"""On a real stack: files that come are processed and assessed without anybody, events start runs at once, a hung run is killed."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pandas as pd
import psutil
import pytest
import yaml

from configs.settings import ROOT
from ops.supervision import find_processes
from tests.copies import Copy
from tests.e2e.test_loop import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.servers, pytest.mark.slow]
FIRST_DAYS, ARRIVING, LATER = 10, "2024-03-11", "2024-03-12"
DOWNSTREAM = """
from pathlib import Path
from prefect import flow


@flow
def invoice(partition: str, predictions: str) -> None:
    Path("invoiced.txt").write_text(f"{partition} {predictions}")
"""


@pytest.fixture(scope="module")
def copy(tiny_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    """A copy of the repository with the model tiny, whose deployments have the tag, and files of ten days. Others lie elsewhere."""
    copy = Copy(tmp_path_factory.mktemp("arrivals"))
    copy.add_tiny(tiny_source)
    (copy.folder / "elsewhere").mkdir()
    for path in sorted((copy.folder / "data").glob("*.parquet"))[FIRST_DAYS:]:
        path.rename(copy.folder / "elsewhere" / path.name)
    deployments = copy.folder / "prefect.yaml"
    text = deployments.read_text().replace("tags: [tiny] # with", "tags: [tiny, on-arrival] # with")
    head, _, block = text.partition("  # tiny\n")
    block = block.replace("name: tiny\n    tags: [tiny]\n", "name: tiny\n    tags: [tiny, on-arrival]\n", 1)
    deployments.write_text(f"{head}  # tiny\n{block}{downstream()}")
    (copy.folder / "flows" / "invoice.py").write_text(DOWNSTREAM)
    try:
        copy.up()
        yield copy
    finally:
        copy.down()


def downstream() -> str:
    """The deployment that docs/events.md shows, as one of this copy."""
    example = re.search(r"```yaml\n(deployments:\n.*?)```", (ROOT / "docs" / "events.md").read_text(), re.DOTALL)
    assert example
    (shown,) = yaml.safe_load(example[1].replace("flights", "tiny"))["deployments"]
    shown |= {"work_pool": {"name": "evergreen", "job_variables": {"working_dir": "."}}}
    return "".join(f"  {line}\n" for line in yaml.safe_dump([shown]).splitlines())


def arrive(copy: Copy, key: str) -> None:
    name = f"parcels-{key}.parquet"
    (copy.folder / "elsewhere" / name).rename(copy.folder / "data" / name)


def runs(copy: Copy, flow: str) -> list[dict]:
    return [run for run in copy.runs_of(flow) if run["deployment_id"]]


def lake(copy: Copy, stage: str) -> list[str]:
    return sorted(path.stem for path in (copy.folder / "data" / "lake" / "tiny" / stage).glob("*.json"))


def send(copy: Copy, name: str, times: int, **labels: str) -> None:
    """Send an event as docs/events.md shows it for curl."""
    resource = {"prefect.resource.id": "evergreen.model.tiny", **labels}
    for _ in range(times):
        event = {
            "event": name,
            "resource": resource,
            "id": str(uuid4()),
            "occurred": pd.Timestamp.now("UTC").isoformat(),
        }
        copy.ask("events", [event])


def test_what_is_there_is_processed_and_assessed_by_the_schedule_of_poll_alone(copy):
    wait_until(lambda: len(lake(copy, "valid")) == FIRST_DAYS, 600)
    run = copy.wait_for("process", {"COMPLETED"}, 300)
    assert [r["id"] for r in runs(copy, "process")] == [run["id"]]
    copy.deployment("train/tiny", reason="first champion")


def test_ten_events_about_a_day_start_one_run_at_once(copy):
    before = len(runs(copy, "process"))
    arrive(copy, ARRIVING)
    send(copy, "evergreen.source.updated", 10, **{"evergreen.partition": ARRIVING})
    wait_until(lambda: ARRIVING in lake(copy, "predictions"), 120)
    started = sorted(runs(copy, "process"), key=lambda run: run["created"])[before:]
    by_event = [run for run in started if run["created_by"]["type"] == "AUTOMATION"]
    assert len(by_event) == 1


def test_a_flow_of_others_reads_the_predictions_that_an_event_names(copy):
    wait_until(lambda: (copy.folder / "invoiced.txt").is_file(), 120)
    partition, path = (copy.folder / "invoiced.txt").read_text().split()
    assert partition == ARRIVING
    assert len(pd.read_parquet(path)) == 150


def test_labels_that_arrive_start_assess(copy):
    before = len(runs(copy, "assess"))
    send(copy, "evergreen.labels.updated", 1)
    wait_until(lambda: ARRIVING in lake(copy, "performance"), 120)
    assert len(runs(copy, "assess")) > before


def test_a_file_that_comes_without_an_event_is_processed_within_minutes_and_then_assessed(copy):
    arrive(copy, LATER)
    wait_until(lambda: LATER in lake(copy, "predictions"), 420)
    wait_until(lambda: LATER in lake(copy, "performance"), 420)


def test_a_run_that_hangs_outside_of_python_is_killed_when_it_is_cancelled(copy):
    sql = copy.folder / "configs" / "tiny" / "source.sql"
    text = sql.read_text()
    hang = " AND (SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE (a.range * b.range) % 7 = 3) > 0"
    sql.write_text(text.rstrip().removesuffix(";") + hang)
    run = copy.begin("process/tiny", partition=LATER)
    wait_until(
        lambda: copy.ask("flow_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})[0]["state_type"] == "RUNNING", 120
    )
    time.sleep(10)
    hung = [p for p in find_processes(copy.folder / ".evergreen") if run in json.dumps(environment(p))]
    assert hung
    copy.ask(f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
    wait_until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in hung), 120)
    wait_until(
        lambda: copy.ask("flow_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})[0]["state_type"] == "CANCELLED", 60
    )
    copy.failing.add(run)
    sql.write_text(text)
    copy.deployment("process/tiny", partition=LATER)


def environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}
