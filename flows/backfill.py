"""Run the steps of a range of past partitions: make a plan, review it, run exactly that plan, and resume after a failure.

    request ─> plan (partition x step: what and why) ─ dry run: page and file, named by digest
                 └─ in parallel:  ingest ─ validate ─ sketch ─ collect ─┬─ score ─ estimate ─ watch ─ assess ─> grid
                                                                    all of them

Started by hand, from the form in the Prefect UI or:

    prefect deployment run backfill/manual -p model=flights -p start=2013-01 -p end=2013-03 -p dry_run=true
    prefect deployment run backfill/manual -p model=flights -p plan=1f0c2a9b77de
"""

from typing import Annotated, Any

from prefect import flow, runtime
from prefect.states import Cancelled, State
from pydantic import Field

from configs.choices import ModelSelection, OptionalModelName, PartitionKey
from tasks.backfill.execute import execute_plan
from tasks.backfill.plan import make_plan, open_request
from tasks.backfill.plan_files import require_plan, resolve_request, save_plan
from tasks.backfill.verify import remove_earlier_contents, write_verification
from tasks.backfill.workers import Workers
from tasks.contracts import ChampionChoice, Mode, Order, Runner, StageChoice
from tasks.lifecycle.sending import Sending, send_outputs
from tasks.orchestration.run_names import name_by_range
from tasks.orchestration.run_tags import end_run, tag_failed_run, tag_run
from tasks.orchestration.selection import one_model, run_each
from tasks.orchestration.timeouts import seconds_of
from tasks.reports.artifacts import outcome_state, publish_backfill, publish_model, publish_plan, publish_selection
from tasks.steps.order import STEPS_BY_CHOICE

STAGES: list[StageChoice] = list(STEPS_BY_CHOICE)
NOTHING: dict[str, Any] = {}


@flow(name="backfill", timeout_seconds=seconds_of("backfill"), flow_run_name=name_by_range, on_failure=[tag_failed_run])
def backfill(
    model: OptionalModelName = None,
    start: PartitionKey = "",
    end: PartitionKey = "",
    stages: list[StageChoice] = STAGES,
    mode: Mode = "missing",
    order: Order = "oldest first",
    champion: ChampionChoice = "then",
    override: dict[str, Any] = NOTHING,
    plan: str = "",
    dry_run: bool = False,
    concurrency: Annotated[int, Field(ge=1, le=64)] = 2,
    runner: Runner = "threads",
    dask: str = "",
    models: ModelSelection = "",
) -> State:
    """Bring a range of partitions up to date. A failed partition is recorded, and the others continue.

    Drift is recorded with its partition. The next `process` run emits the event, and the policy declines it if a later
    training has already used the data.

    Args:
        model: Name of the model; a folder in `configs/`.
        start: First partition, such as 2013-01.
        end: Last partition, included.
        stages: The steps to run. Each needs the output of the step before it.
        mode: `missing`: outputs that do not exist. `failed`: outputs whose last attempt failed or was blocked. `stale`: outputs that
            do not exist or whose inputs have changed. `all`: every output again. `verify`: outputs whose files or records are
            damaged; without start and end, of all partitions in the lake. Every file is read.
        order: Which partitions come first.
        champion: `then`: score with the version that was champion at that time, as production did. `now`: score with today's
            champion. The outputs of `now` are stored separately, in the lake's `variants`.
        override: Replaces values of model.yaml, such as {"monitoring": {"alpha": 0.01}}. The outputs are stored separately, in the
            lake's `variants`. docs/backfills.md lists the allowed keys.
        plan: Digest of a dry run's plan. Runs exactly that plan, or refuses and names what has changed. Without start and end,
            all parameters come from the plan.
        dry_run: Make the plan and run nothing.
        concurrency: Partitions that are processed in parallel.
        runner: `threads` of this run, or the workers of a `dask` cluster that share its storage.
        dask: Address of the Dask scheduler, such as tcp://127.0.0.1:8786.
        models: Several models instead, by patterns such as store-* or store-a,store-b. Each gets a run of its own.

    Raises:
        NoPartition, MissingSource: The range does not match the model's partitions, or is outside its source.
        MissingPartition: There is no output to verify.
        UnknownPlan, PlanChanged: The plan does not exist, or the steps to run have changed.
        ClusterUnreachable, ClusterMismatch: The Dask cluster does not respond, or does not share the storage.
    """
    if models:
        return end_run(*run_each(backfill, models, publish_selection))
    request = resolve_request(one_model(model), start, end, stages, mode, order, champion, override, plan)
    res = open_request(request, runtime.flow_run.get_id() or "")
    current = make_plan(request, res)
    line = publish_plan(res, current, dry_run)
    planned_at = require_plan(plan, current, res) if plan else None
    if dry_run:
        return end_run(f"{line} Saved as {save_plan(current, res)}.", ["dry-run"])

    outcomes = execute_plan(current, res, Workers(runner, concurrency, dask), planned_at, strict=bool(plan))
    (line, tags), states = publish_backfill(res, current, outcomes), set(map(outcome_state, outcomes))
    if current.request.mode == "verify":
        write_verification(current, outcomes, res)
        remove_earlier_contents(res)
    stopped = bool(states & {"not started", "incomplete"})
    sending = Sending() if stopped else send_outputs(res)
    if current.todo or sending.had_work:
        publish_model(res)
    if stopped:
        tag_run(tags)
        return Cancelled(message=line)
    return end_run(line + sending.message, [*tags, *sending.tags], failed=bool(states & {"failed", "blocked"}))
