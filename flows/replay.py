"""Simulate retraining policies on past partitions: the decisions, performance and cost of each policy.

    policies ─┬─ first champion ─ (process ─ assess ─ decide ─ train ─ gate) per partition ─> run ─┐
              └─ ...                                                                               ├─> ranking, advice, page
    oracle ───── every possible training, measured on every later partition ───────────────────────┘

Started by hand, from the form in the Prefect UI or:

    prefect deployment run replay/manual -p model=flights -p start=2013-04 -p end=2013-12
"""

from typing import Annotated, Any

from prefect import flow, runtime
from prefect.states import State
from pydantic import Field

from configs.choices import ModelSelection, OptionalModelName, PartitionKey
from tasks.backfill.workers import Workers
from tasks.contracts import Runner
from tasks.orchestration.run_names import name_by_range
from tasks.orchestration.run_tags import end_run, tag_failed_run
from tasks.orchestration.selection import one_model, run_each
from tasks.orchestration.timeouts import seconds_of
from tasks.replay.persistence_baseline import persistence
from tasks.replay.policies import policies as named_policies
from tasks.replay.result import Replay
from tasks.replay.setup import cost_of, metric_of, open_replayed_model, prepare_replay
from tasks.replay.standings import evaluate_policies
from tasks.replay.tasks import ReplayJob, run_policies
from tasks.reports.artifacts import publish_selection
from tasks.reports.artifacts.replays import publish_replay

NOTHING: dict[str, Any] = {}
ALL: list[str] = []


@flow(name="replay", timeout_seconds=seconds_of("replay"), flow_run_name=name_by_range, on_failure=[tag_failed_run])
def replay(
    model: OptionalModelName = None,
    *,
    start: PartitionKey,
    end: PartitionKey,
    policies: list[str] = ALL,
    given: dict[str, Any] = NOTHING,
    metric: str = "",
    cost: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None,
    override: dict[str, Any] = NOTHING,
    oracle: bool = True,
    concurrency: Annotated[int, Field(ge=1, le=64)] = 2,
    runner: Runner = "threads",
    dask: str = "",
    models: ModelSelection = "",
) -> State:
    """Simulate policies on a range of past partitions, each with the data that production had at that time. Changes nothing.

    Models are trained once and cached by their inputs, and all policies share them. A replay that is repeated, or that
    was cancelled or killed, trains only what is not cached.

    Args:
        model: Name of the model; a folder in `configs/`.
        start: First partition that is scored, such as 2013-04. The first champion is trained on the partitions before it.
        end: Last partition, included.
        policies: Names of policies. By default all: live (the policy in use), never, every, every_2nd, every_3rd, drift, drift_twice,
            decay, estimate, those of `replay.policies` in model.yaml, and `expected_gain` with the cost below. `live` is always included.
        given: More policies by name, each with the keys of `retraining:` in model.yaml, such as {"calm": {"cool_down": "60D"}}.
        metric: Metric by which policies are compared. By default, the loss by which models are compared.
        cost: Cost of one retraining, in units of the metric over one partition. By default, `replay.cost` of model.yaml, then
            `retraining.cost` if the metric is the model's loss, otherwise 0.
        override: Replaces values of model.yaml, such as {"partition": {"every": "W"}}. docs/backfills.md lists the allowed keys.
        oracle: Also find the best retraining times in hindsight, which runs every possible training once.
        concurrency: Policies that are simulated in parallel.
        runner: `threads` of this run, or the workers of a `dask` cluster that share its storage.
        dask: Address of the Dask scheduler, such as tcp://127.0.0.1:8786.
        models: Several models instead, by patterns such as store-* or store-a,store-b. Each gets a run of its own.

    Raises:
        ConfigError: A policy or the metric does not exist, or the override is wrong.
        NotEnoughData, MissingPartition: The partitions before the range are too few for a training, or some are missing.
        NoChampion: The gate refused the first version.
        FutureRead: The code read data from after the simulated time.
    """
    if models:
        return end_run(*run_each(replay, models, publish_selection))
    live = open_replayed_model(one_model(model), override, runtime.flow_run.get_id() or "")
    compared_by = metric_of(live.config, metric)
    retraining_cost = cost_of(live.config, compared_by, cost)
    in_loss = compared_by == live.config.target.eval_loss  # the unit of `retraining.cost`
    selected = named_policies(live.config, policies, given, retraining_cost if in_loss else None)
    setup = prepare_replay(start, end, live)
    job = ReplayJob(live.config.name, override, live.flow_run, setup)
    runs, trainings = run_policies(selected, job, Workers(runner, concurrency, dask), oracle)
    findings = evaluate_policies(runs, trainings, compared_by, retraining_cost, live.config)
    baseline = persistence(setup.refs, live)
    return end_run(publish_replay(Replay(live, setup, runs, findings, baseline)))
