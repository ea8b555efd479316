"""Play a replay's policies side by side, each as a task of the run, with progress."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.retraining import Retraining
from tasks.backfill.workers import Workers, opened
from tasks.contracts import PolicyRun
from tasks.orchestration.prefect_tasks import run_log
from tasks.replay.oracle import Table, measure_all
from tasks.replay.policies import EVERY
from tasks.replay.setup import ReplaySetup, open_past
from tasks.replay.simulate import simulate_policy
from tasks.resources import Resources


@dataclass(frozen=True)
class Scene:
    """What a task needs to know of the replay; plain values, since it may go to another machine."""

    model: str
    override: Mapping[str, Any]
    flow_run: str
    course: ReplaySetup

    def open(self) -> Resources:
        return open_past(self.model, self.override, self.flow_run)


@task(name="play a policy", task_run_name="play {name}", cache_policy=NO_CACHE, persist_result=False)
def play_policy(name: str, policy: Retraining, scene: Scene) -> PolicyRun:
    """What one policy would have made of the range."""
    log, count = run_log(), len(scene.course.refs)
    done: list[str] = []

    def told(ref: Any) -> None:
        done.append(ref.key)
        if len(done) % max(1, count // 10) == 0:
            log.info("%s: %s played, %d of %d", name, ref.key, len(done), count)

    return simulate_policy(name, policy, scene.course.begin, scene.course.refs, scene.open(), told)


@task(
    name="measure every training", task_run_name="measure every training", cache_policy=NO_CACHE, persist_result=False
)
def measure_trainings(scene: Scene) -> Table:
    """What every possible training would have come to, for the oracle."""
    return measure_all(scene.course.begin, scene.course.refs, scene.open())


def play_all(
    chosen: Mapping[str, Retraining], scene: Scene, workers: Workers, oracle: bool
) -> tuple[list[PolicyRun], Table | None]:
    """Every policy's play in the order given, and the oracle's table.

    Those that train most begin first: the others then find the models made. Models and checks are kept, so a replay that was killed
    or cancelled goes on where it stopped.
    """
    first = sorted(chosen, key=lambda name: name != EVERY)
    with opened(workers) as runner:
        table = runner.submit(measure_trainings, {"scene": scene}) if oracle else None
        running = {
            name: runner.submit(play_policy, {"name": name, "policy": chosen[name], "scene": scene}) for name in first
        }
        played: dict[str, PolicyRun] = {}
        for name, future in running.items():
            one: PolicyRun = future.result(raise_on_failure=True)
            played[name] = one
            run_log().info(
                "%s: %d retrainings (%d of %d policies)", name, len(one.retrainings), len(played), len(running)
            )
        found = table.result(raise_on_failure=True) if table else None
    return [played[name] for name in chosen], found
