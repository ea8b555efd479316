"""Take a range of past partitions through their steps: plan it, read the plan, run just that, and take up what failed.

    request ─> plan (partition x stage: what and why) ─ dry run: page and file, named by digest
                 └─ side by side: ingest ─ validate ─ sketch ─ collect ─┬─ score ─ estimate ─ watch ─ assess ─> grid
                                                                    all of them

Started by hand, from the form in the Prefect UI or:

    prefect deployment run backfill/manual -p model=flights -p start=2013-01 -p end=2013-03 -p dry_run=true
    prefect deployment run backfill/manual -p model=flights -p plan=1f0c2a9b77de
"""

from typing import Annotated, Any

from prefect import flow, runtime
from prefect.states import Cancelled, Completed, Failed, State
from pydantic import Field

from configs.choices import ModelName
from tasks.backfill.execute import carry_out
from tasks.backfill.plan import make_plan, open_request
from tasks.backfill.plan_files import request_of, require_plan, save_plan
from tasks.backfill.workers import Workers
from tasks.contracts import ChampionChoice, Mode, Order, Runner, StageChoice
from tasks.orchestration.run_names import name_by_range
from tasks.reports.artifacts import ended_as, publish_backfill, publish_model, publish_plan
from tasks.steps.order import STEPS_BY_CHOICE

STAGES: list[StageChoice] = list(STEPS_BY_CHOICE)
NOTHING: dict[str, Any] = {}


@flow(name="backfill", flow_run_name=name_by_range)
def backfill(
    model: ModelName,
    start: str = "",
    end: str = "",
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
) -> State:
    """Bring a range of partitions up to date. A failed partition is recorded, and the rest go on.

    Drift found on the way is kept with its partition; the next `process` run tells of it, and the
    policy declines what a later training has overtaken.

    Args:
        model: Name of the model; a folder in `configs/`.
        start: First partition, such as 2013-01.
        end: Last partition, included.
        stages: The stages to take up. Each is made from the one before, which must be there.
        mode: `missing`: what is not there. `failed`: what failed or was blocked. `stale`: what is not there or no longer what its
            inputs make. `all`: everything again.
        order: Which partitions come first.
        champion: Score with the version that was champion `then`, as production would have, or with today's: `now`. The latter's
            results lie apart, in the lake's `variants`.
        override: Said over model.yaml, such as {"monitoring": {"alpha": 0.01}}. Its results lie apart, in the lake's `variants`.
        plan: Digest of a dry run's plan. Runs exactly that, or refuses and says what has changed. Without start and end,
            everything is taken from the plan.
        dry_run: Make the plan, and do nothing.
        concurrency: Partitions that are worked on side by side.
        runner: `threads` of this run, or the workers of a `dask` cluster that share its storage.
        dask: Address of the Dask scheduler, such as tcp://127.0.0.1:8786.

    Raises:
        NoPartition, MissingSource: the range is none of the model's calendar, or outside its source.
        UnknownPlan, PlanChanged: the plan is not there, or no longer holds.
        ClusterUnreachable, ClusterMismatch: no Dask cluster answers, or it does not share the storage.
    """
    asked = request_of(model, start, end, stages, mode, order, champion, override, plan)
    res = open_request(asked, runtime.flow_run.get_id() or "")
    drawn = make_plan(asked, res)
    line = publish_plan(res, drawn, dry_run)
    since = require_plan(plan, drawn, res) if plan else None
    if dry_run:
        return Completed(message=f"{line} Kept as {save_plan(drawn, res)}.")

    outcomes = carry_out(drawn, res, Workers(runner, concurrency, dask), since, strict=bool(plan))
    line, ends = publish_backfill(res, drawn, outcomes), set(map(ended_as, outcomes))
    if drawn.todo:
        publish_model(res)
    if ends & {"untouched", "half done"}:
        return Cancelled(message=line)
    return Failed(message=line) if ends & {"failed", "blocked"} else Completed(message=line)
