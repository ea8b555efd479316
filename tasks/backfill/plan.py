"""Plan what a backfill will do in each step of each partition, and why.

The digest of a plan covers the request, the actions and all their inputs. So the same digest means the same work.
`tasks/backfill/plan_files.py` saves plans, and checks that a run does what its plan says.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from statistics import median
from typing import Any

from tasks.backfill.verify import plan_repairs
from tasks.contracts import Cell, Freshness, PartitionRef, Plan, Request, Stage, StageChoice
from tasks.errors import MissingPartition, MissingSource
from tasks.resources import PRODUCTION, LiveResources, Resources, Variant, open_resources
from tasks.source.extent import available_partitions, why_no_partition
from tasks.steps.order import ALL, PREREQUISITES, SHADOW_STEPS, STEPS_BY_CHOICE, steps_of
from tasks.steps.step import Step, inspect_step
from tasks.storage.files import digest_json
from tasks.storage.partitions import NoPartition, between, parse_key

RUN_ACTIONS = ("make", "again")
FAILED_AND_MISSING = "failed, and what is missing"
"""The mode `failed` for a partition with a failed or blocked step. The steps after it did not run, so they are selected too."""
MODES_BY_STATE: Mapping[str, tuple[str, ...]] = {
    "failed": ("failed", FAILED_AND_MISSING, "missing", "stale", "all"),
    "missing": (FAILED_AND_MISSING, "missing", "stale", "all"),
    "stale": ("stale", "all"),
    "blocked": ("failed", FAILED_AND_MISSING, "all"),
    "fresh, but failed again": ("failed", FAILED_AND_MISSING, "all"),
    "fresh": ("all",),
}
"""The modes that select a step, by its state."""
RETRIED_STATES = ("blocked", "fresh, but failed again")
"""States with an existing output that the mode `failed` selects as well."""
VERB = {step.stage: step.verb for step in ALL}
TIMED_RECORDS = 60
"""Maximum records of a step that an estimate of time uses, the newest first."""


def open_request(request: Request, flow_run: str = "") -> LiveResources:
    """Open the model's resources for a request: production, or a variant of it.

    Raises:
        ConfigError: the model or the override is wrong.
        NoChampion: `champion` is `now`, and there is none.
    """
    production = open_resources(request.model, flow_run)
    version = production.champion().version if request.champion == "now" else ""
    variant = Variant(request.override, version)
    return open_resources(request.model, flow_run, variant) if variant != PRODUCTION else production


def make_plan(request: Request, res: Resources) -> Plan:
    """Plan every step of every partition in the requested range.

    Raises:
        NoPartition: a name is not in the model's calendar, or the range ends before it starts.
        MissingSource: the source has no data in the whole range.
        MissingPartition: the lake has no output to verify.
    """
    refs = _recorded_refs(request, res) if request.mode == "verify" else _source_refs(request, res)
    existing = ALL if request.mode == "verify" else steps_of(res.config)
    steps = tuple(step for step in existing if step in selected_steps(request.stages))
    ordered = refs if request.order == "oldest first" else refs[::-1]
    planned = (
        plan_repairs(r, steps, res) if request.mode == "verify" else plan_partition(r, steps, request.mode, res)
        for r in ordered
    )
    cells = _without_idle_shadow({ref.key: tuple(row) for ref, row in zip(ordered, planned, strict=True)})
    rows = {ref.key: r.rows if (r := res.lake.record(Stage.RAW, ref.key)) else None for ref in ordered}
    digest = digest_json(
        [asdict(request), res.variant.name, state_digests(res, refs[-1].complete), _digest_content(cells)]
    )[:12]
    return Plan(request, res.variant.name, cells, digest, rows, estimate_seconds(cells, res))


def selected_steps(stages: tuple[StageChoice, ...]) -> tuple[Step, ...]:
    """The steps of the chosen stages."""
    return tuple(step for stage in stages for step in STEPS_BY_CHOICE[stage])


def _recorded_refs(request: Request, res: Resources) -> list[PartitionRef]:
    """The partitions with an output in the lake, in the requested range or, without one, all.

    Raises:
        MissingPartition: there are none.
    """
    found = sorted({key for step in ALL for key in res.lake.keys(step.stage) if _is_key(key, res)})
    first, last = request.start or min(found, default=""), request.end or max(found, default="")
    wanted = {ref.key for ref in between(res.config, first, last)} if found else set()
    if not (keys := [key for key in found if key in wanted]):
        raise MissingPartition(
            f"{res.config.name}: the lake has no output to verify; run `process` or `backfill` first"
        )
    return [res.ref(key) for key in keys]


def _source_refs(request: Request, res: Resources) -> list[PartitionRef]:
    """The partitions of the requested range. Refuses a range in which the source has no data."""
    refs = list(between(res.config, request.start, request.end))
    keys = sorted({*available_partitions(res.model), *res.lake.keys(Stage.RAW)})
    if not keys:
        raise MissingSource(f"{res.config.name}: {why_no_partition(res.model)}")
    if not any(ref.key in keys for ref in refs):
        raise MissingSource(
            f"{res.config.name}: the source has no data from {refs[0].key} to {refs[-1].key}; it has {keys[0]} to {keys[-1]}"
        )
    return refs


def plan_partition(ref: PartitionRef, steps: tuple[Step, ...], mode: str, res: Resources) -> Iterator[Cell]:
    """Plan each step of one partition."""
    inspected = [(step, *_inspect(step, ref, res), _problem(step, ref, res)) for step in steps]
    if mode == "failed" and any(
        plan_state(state, problem) in ("failed", *RETRIED_STATES) for _, state, _, problem in inspected
    ):
        mode = FAILED_AND_MISSING
    planned: set[Stage] = set()
    stale: set[Stage] = set()
    for step, freshness, inputs, problem in inspected:
        action, why = decide(step, freshness, planned, mode, problem)
        if action in RUN_ACTIONS:
            planned.add(step.stage)
            if from_stale := [VERB[stage] for stage in PREREQUISITES[step.stage] if stage in stale]:
                why += f"; from the output of {' and '.join(from_stale)}, which is stale and not updated"
        elif freshness.state == "stale":
            stale.add(step.stage)
        yield Cell(step.verb, action, why, inputs_digest(step, inputs))  # type: ignore[arg-type]


def inputs_digest(step: Step, inputs: Mapping[str, str]) -> str:
    """Digest of a step's inputs and its version; empty if the inputs are not available yet."""
    return digest_json([step.version, inputs])[:12] if inputs else ""


def _problem(step: Step, ref: PartitionRef, res: Resources) -> str:
    """Why a step is blocked, or how its last run failed; empty if neither is the case."""
    record = res.lake.record(step.stage, ref.key)
    return record.reason if record and record.status == "blocked" else res.lake.failure(step.stage, ref.key)


def plan_state(freshness: Freshness, problem: str) -> str:
    """The state of a step as a key of `MODES_BY_STATE`.

    A blocked step whose inputs have changed counts as failed, because it has no output that could be stale.
    """
    if problem and freshness.state == "stale":
        return "failed"
    return "fresh, but failed again" if problem and freshness.state == "fresh" else freshness.state


def _without_idle_shadow(cells: Mapping[str, tuple[Cell, ...]]) -> dict[str, tuple[Cell, ...]]:
    """The cells without the shadow steps that wait in every partition."""
    shadow = {step.verb for step in SHADOW_STEPS}
    needed = {c.verb for row in cells.values() for c in row if c.verb not in shadow or c.action != "wait"}
    return {key: tuple(c for c in row if c.verb in needed) for key, row in cells.items()}


def _inspect(step: Step, ref: PartitionRef, res: Resources) -> tuple[Freshness, dict[str, str]]:
    """Like `inspect_step`, but an error counts as a failed step, so that it affects this partition only.

    An output of production that does not fit a variant is missing in the variant.
    """
    try:
        freshness, inputs = inspect_step(step, ref, res)
    except Exception as error:  # noqa: BLE001
        return Freshness("failed", f"{type(error).__name__}: {error}"), {}
    if freshness.state == "stale" and not res.lake.owns(step.stage, ref.key):
        return Freshness("missing", f"production's output does not fit: {freshness.why}"), inputs
    return freshness, inputs


def decide(step: Step, freshness: Freshness, planned: set[Stage], mode: str, problem: str) -> tuple[str, str]:
    """The action for one step, and the reason. `planned` are the outputs of the partition that are written before."""
    first = [VERB[stage] for stage in PREREQUISITES[step.stage] if stage in planned]
    if freshness.state == "waiting":
        return ("make", f"after {VERB[freshness.needs]}") if freshness.needs in planned else ("wait", freshness.why)
    state = plan_state(freshness, problem)
    why = (
        f"{state}: {problem}"
        if freshness.state == "fresh" and problem
        else f"{freshness.state}: {freshness.why}".removesuffix(": ")
    )
    if mode in MODES_BY_STATE[state]:
        return ("again" if freshness.state in ("fresh", "blocked") else "make"), why
    if first:
        return "make", f"{', '.join(first)} {'runs' if len(first) == 1 else 'run'} first"
    return ("keep" if freshness.state == "fresh" else "leave"), why if state != "fresh" else ""


def state_digests(res: Resources, until: datetime) -> dict[str, str]:
    """Digests of what every step depends on beside its inputs: config, code, and the champions before `until`.

    The names are part of a plan's digest.
    """
    model, config = res.model, res.config.model_dump(mode="json", exclude={"publish"})
    champions = [] if res.variant.champion else [c for c in res.ledger.champions() if c.as_of < until]
    return {
        "model.yaml or its SQL": digest_json([config, model.source_sql, model.labels_sql]),
        "a stage's code": digest_json({step.verb: step.version for step in steps_of(res.config)}),
        "the champions": digest_json([[c.sequence, c.version, c.as_of] for c in champions]),
    }


def estimate_seconds(cells: Mapping[str, tuple[Cell, ...]], res: Resources) -> float | None:
    """Seconds of work on one core, from the median time of each step in earlier runs; None if a step never ran."""
    total = 0.0
    for step in steps_of(res.config):
        count = sum(c.verb == step.verb and c.action in RUN_ACTIONS for row in cells.values() for c in row)
        if not count:
            continue
        keys = [key for key in res.lake.keys(step.stage) if _is_key(key, res)][-TIMED_RECORDS:]
        seconds = [r.run.seconds for key in keys if (r := res.lake.record(step.stage, key)) and r.run]
        if not seconds:
            return None
        total += count * median(seconds)
    return total


def _is_key(key: str, res: Resources) -> bool:
    try:
        parse_key(key, res.config.partition.every)
    except NoPartition:
        return False
    return True


def _digest_content(cells: Mapping[str, tuple[Cell, ...]]) -> list[Any]:
    """The part of the cells that a plan's digest covers: not the reasons."""
    return [[key, [[c.verb, c.action, c.inputs] for c in row]] for key, row in cells.items()]


def last_moment(plan: Plan, res: Resources) -> datetime:
    """When the newest partition of a plan is complete."""
    return max(res.ref(key).complete for key in plan.cells)
