"""Simulate a replay's policies in parallel, each as a Prefect task."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.retraining import Retraining
from tasks.backfill.workers import Workers, open_runner
from tasks.contracts import PartitionRef, PolicyRun
from tasks.orchestration.prefect_tasks import run_log
from tasks.replay.oracle import TrainingTable, measure_all
from tasks.replay.policies import EVERY
from tasks.replay.setup import ReplaySetup, open_replayed_model
from tasks.replay.simulate import simulate_policy
from tasks.resources import Resources


@dataclass(frozen=True)
class ReplayJob:
    """The inputs of a task: plain values, since it may run on another machine."""

    model: str
    override: Mapping[str, Any]
    flow_run: str
    setup: ReplaySetup

    def open(self) -> Resources:
        """Open the model's resources."""
        return open_replayed_model(self.model, self.override, self.flow_run)


@task(name="simulate a policy", task_run_name="simulate {name}", cache_policy=NO_CACHE, persist_result=False)
def run_policy(name: str, policy: Retraining, job: ReplayJob) -> PolicyRun:
    """Simulate one policy on the range, and log the progress."""
    log, count = run_log(), len(job.setup.refs)
    done: list[str] = []

    def log_progress(ref: PartitionRef) -> None:
        done.append(ref.key)
        if len(done) % max(1, count // 10) == 0:
            log.info("%s: %s simulated, %d of %d", name, ref.key, len(done), count)

    return simulate_policy(name, policy, job.setup.begin, job.setup.refs, job.open(), log_progress)


@task(
    name="measure every training", task_run_name="measure every training", cache_policy=NO_CACHE, persist_result=False
)
def measure_trainings(job: ReplayJob) -> TrainingTable:
    """Measure every possible training on every later partition, for the oracle."""
    return measure_all(job.setup.begin, job.setup.refs, job.open())


def run_policies(
    policies: Mapping[str, Retraining], job: ReplayJob, workers: Workers, oracle: bool
) -> tuple[list[PolicyRun], TrainingTable | None]:
    """Simulate all policies in parallel.

    The policy with most trainings starts first, so the others can reuse its models. Models and check results are cached, so a replay
    that was killed or cancelled continues where it stopped.

    Args:
        oracle: Whether to measure all possible trainings too.

    Returns:
        The runs in the order of `policies`, and the oracle's table.
    """
    order = sorted(policies, key=lambda name: name != EVERY)
    with open_runner(workers) as runner:
        oracle_future = runner.submit(measure_trainings, {"job": job}) if oracle else None
        futures = {
            name: runner.submit(run_policy, {"name": name, "policy": policies[name], "job": job}) for name in order
        }
        runs: dict[str, PolicyRun] = {}
        for name, future in futures.items():
            run: PolicyRun = future.result(raise_on_failure=True)
            runs[name] = run
            run_log().info(
                "%s: %d retrainings (%d of %d policies)", name, len(run.retrainings), len(runs), len(futures)
            )
        table = oracle_future.result(raise_on_failure=True) if oracle_future else None
    return [runs[name] for name in policies], table
