"""Try retraining policies on history before one is turned on: what each would have done, come to and cost.

    policies ─┬─ first champion ─ (process ─ assess ─ decide ─ train ─ gate) a partition ─> play ─┐
              └─ ...                                                                              ├─> standings, advice, page
    oracle ───── every training, measured on every later partition ──────────────────────────────┘

Started by hand, from the form in the Prefect UI or:

    prefect deployment run replay/manual -p model=flights -p start=2013-04 -p end=2013-12
"""

from typing import Annotated, Any

from prefect import flow, runtime
from prefect.states import Completed, State
from pydantic import Field

from configs.choices import ModelName
from tasks.backfill.workers import Workers
from tasks.contracts import Runner
from tasks.orchestration.run_names import name_by_range
from tasks.replay.persistence_baseline import persistence
from tasks.replay.policies import policies as named_policies
from tasks.replay.result import Replay
from tasks.replay.setup import lay_out, metric_of, open_past
from tasks.replay.standings import find
from tasks.replay.tasks import Scene, play_all
from tasks.reports.artifacts.replays import publish_replay

NOTHING: dict[str, Any] = {}
ALL: list[str] = []


@flow(name="replay", flow_run_name=name_by_range)
def replay(
    model: ModelName,
    start: str,
    end: str,
    policies: list[str] = ALL,
    given: dict[str, Any] = NOTHING,
    metric: str = "",
    cost: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None,
    override: dict[str, Any] = NOTHING,
    oracle: bool = True,
    concurrency: Annotated[int, Field(ge=1, le=64)] = 2,
    runner: Runner = "threads",
    dask: str = "",
) -> State:
    """Play policies on a range of past partitions, each as production would have with what was known then. Changes nothing.

    Models are made once and kept by what they are made from, so policies share them; the same replay again, or one that was
    cancelled or killed, costs only what is new.

    Args:
        model: Name of the model; a folder in `configs/`.
        start: First partition that is scored, such as 2013-04. The first champion is trained on what lies before it.
        end: Last partition, included.
        policies: Their names; by default all: live, never, every, every_2nd, every_3rd, drift, drift_twice, decay, estimate,
            and those of `replay.policies` in model.yaml. The live one is always played.
        given: More policies by name, each as `retraining:` in model.yaml, such as {"calm": {"cool_down": "60D"}}.
        metric: What they are compared by; by default the loss that models are judged by.
        cost: What a retraining costs, in the metric over one partition; by default model.yaml's `replay.cost`.
        override: Said over model.yaml, such as {"partition": {"every": "W"}}.
        oracle: Whether the best times in hindsight are found too; that makes every possible training once.
        concurrency: Policies that are played side by side.
        runner: `threads` of this run, or the workers of a `dask` cluster that share its storage.
        dask: Address of the Dask scheduler, such as tcp://127.0.0.1:8786.

    Raises:
        ConfigError: a policy or the metric is not known, or the override is wrong.
        NotEnoughData, MissingPartition: what lies before the range is too short to learn from, or has holes.
        NoChampion: the gate lets no first champion through.
        FutureRead: something looks into the future.
    """
    live = open_past(model, override, runtime.flow_run.get_id() or "")
    chosen, measure = named_policies(live.config, policies, given), metric_of(live.config, metric)
    course = lay_out(start, end, live)
    scene = Scene(model, override, live.flow_run, course)
    played, table = play_all(chosen, scene, Workers(runner, concurrency, dask), oracle)
    price = live.config.replay.cost if cost is None else cost
    found = find(played, table, measure, price, live.config)
    last = persistence(course.refs, live)
    return Completed(message=publish_replay(Replay(live, course, played, found, last)))
