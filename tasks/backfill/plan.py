"""What a backfill will do to each stage of each partition, and why.

The digest is of what was asked for, of the actions, and of everything that they would be made from. The same digest means
the same work; `tasks/backfill/plan_files.py` keeps plans and holds a run to one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from statistics import median
from typing import Any

from tasks.contracts import (
    Cell,
    Freshness,
    PartitionRef,
    Plan,
    Request,
    Stage,
    StageChoice,
)
from tasks.errors import MissingSource
from tasks.resources import PRODUCTION, Resources, Variant, open_resources
from tasks.source.extent import available
from tasks.steps.order import ALL, IN_SHADOW, PREREQUISITES, STEPS_BY_CHOICE, steps_of
from tasks.steps.step import Step, inspect_step
from tasks.storage.files import digest_json
from tasks.storage.partitions import NoPartition, between, parse_key

RUNS = ("make", "again")
REST = "failed, and what is missing"
"""The mode `failed` for a partition of which something failed or was blocked: its other stages were not reached then."""
TAKEN: Mapping[str, tuple[str, ...]] = {
    "failed": ("failed", REST, "missing", "stale", "all"),
    "missing": (REST, "missing", "stale", "all"),
    "stale": ("stale", "all"),
    "blocked": ("failed", REST, "all"),
    "fresh, but failed again": ("failed", REST, "all"),
    "fresh": ("all",),
}
"""The modes that take up a stage in each state."""
ANEW = ("blocked", "fresh, but failed again")
"""States of which something is there, and that `failed` takes up nevertheless."""
VERB = {step.stage: step.verb for step in ALL}
RECENT = 60
"""Records of a stage that an estimate of time looks at."""


def open_request(asked: Request, flow_run: str = "") -> Resources:
    """The model as a request wants to see it: production, or a variant of it.

    Raises:
        ConfigError: the model or the override is wrong.
        NoChampion: `champion` is now, and there is none.
    """
    plain = open_resources(asked.model, flow_run)
    version = plain.champion().version if asked.champion == "now" else ""
    variant = Variant(asked.override, version)
    return open_resources(asked.model, flow_run, variant) if variant != PRODUCTION else plain


def make_plan(asked: Request, res: Resources) -> Plan:
    """Look at every stage of every partition of a range.

    Raises:
        NoPartition: a name is none of the model's calendar, or the range ends before it starts.
        MissingSource: the source has nothing in the whole range.
    """
    refs = list(between(res.config, asked.start, asked.end))
    _require_source(refs, res)
    wanted = tuple(step for step in steps_of(res.config) if step in steps_asked(asked.stages))
    ordered = refs if asked.order == "oldest first" else refs[::-1]
    cells = _shown({ref.key: tuple(plan_partition(ref, wanted, asked.mode, res)) for ref in ordered})
    rows = {ref.key: r.rows if (r := res.lake.record(Stage.RAW, ref.key)) else None for ref in ordered}
    digest = digest_json([asdict(asked), res.variant.name, world(res, refs[-1].as_of), _bare(cells)])[:12]
    return Plan(asked, res.variant.name, cells, digest, rows, estimate_seconds(cells, res))


def steps_asked(stages: tuple[StageChoice, ...]) -> tuple[Step, ...]:
    """The steps behind the stages that a person chose."""
    return tuple(step for stage in stages for step in STEPS_BY_CHOICE[stage])


def _require_source(refs: list[PartitionRef], res: Resources) -> None:
    """Refuse a range of which the source has nothing."""
    known = sorted({*available(res.model), *res.lake.keys(Stage.RAW)})
    if known and not any(ref.key in known for ref in refs):
        raise MissingSource(
            f"{res.config.name}: the source has nothing from {refs[0].key} to {refs[-1].key}; it has {known[0]} to {known[-1]}"
        )


def plan_partition(ref: PartitionRef, steps: tuple[Step, ...], mode: str, res: Resources) -> Iterator[Cell]:
    """What will be done to each stage of one partition."""
    looks = [(step, *_look(step, ref, res), _trouble(step, ref, res)) for step in steps]
    if mode == "failed" and any(standing(found, trouble) in ("failed", *ANEW) for _, found, _, trouble in looks):
        mode = REST
    made: set[Stage] = set()
    old: set[Stage] = set()
    for step, found, inputs, trouble in looks:
        action, why = decide(step, found, made, mode, trouble)
        if action in RUNS:
            made.add(step.stage)
            if from_old := [VERB[stage] for stage in PREREQUISITES[step.stage] if stage in old]:
                why += f"; from what {' and '.join(from_old)} made, which is stale and left"
        elif found.state == "stale":
            old.add(step.stage)
        yield Cell(step.verb, action, why, inputs_digest(step, inputs))  # type: ignore[arg-type]


def inputs_digest(step: Step, inputs: Mapping[str, str]) -> str:
    """Of what a step would be made from, and its own version; empty where that is not known yet."""
    return digest_json([step.version, inputs])[:12] if inputs else ""


def _trouble(step: Step, ref: PartitionRef, res: Resources) -> str:
    """What is wrong with a stage that has a record: it is blocked, or making it once more has failed. Empty where nothing is."""
    record = res.lake.record(step.stage, ref.key)
    return record.reason if record and record.status == "blocked" else res.lake.failure(step.stage, ref.key)


def standing(found: Freshness, trouble: str) -> str:
    """The state of a stage as `TAKEN` has it.

    What is blocked by inputs that have changed since has no result that could be stale: it counts as failed.
    """
    if trouble and found.state == "stale":
        return "failed"
    return "fresh, but failed again" if trouble and found.state == "fresh" else found.state


def _shown(cells: Mapping[str, tuple[Cell, ...]]) -> dict[str, tuple[Cell, ...]]:
    """The cells without the steps in the shadow that none of the partitions needs."""
    aside = {step.verb for step in IN_SHADOW}
    needed = {c.verb for row in cells.values() for c in row if c.verb not in aside or c.action != "wait"}
    return {key: tuple(c for c in row if c.verb in needed) for key, row in cells.items()}


def _look(step: Step, ref: PartitionRef, res: Resources) -> tuple[Freshness, dict[str, str]]:
    """As `look`. What cannot even be looked at is planned, so that its error is this partition's and stops no other.

    What production has, and a variant would make otherwise, is missing in the variant.
    """
    try:
        found, inputs = inspect_step(step, ref, res)
    except Exception as error:  # noqa: BLE001
        return Freshness("failed", f"{type(error).__name__}: {error}"), {}
    if found.state == "stale" and not res.lake.owns(step.stage, ref.key):
        return Freshness("missing", f"production's does not fit: {found.why}"), inputs
    return found, inputs


def decide(step: Step, found: Freshness, made: set[Stage], mode: str, trouble: str) -> tuple[str, str]:
    """The action on one stage and why; `made` are the stages of the partition that are to be made before it."""
    first = [VERB[stage] for stage in PREREQUISITES[step.stage] if stage in made]
    if found.state == "waiting":
        return ("make", f"after {VERB[found.needs]}") if found.needs in made else ("wait", found.why)
    state = standing(found, trouble)
    why = (
        f"{state}: {trouble}"
        if found.state == "fresh" and trouble
        else f"{found.state}: {found.why}".removesuffix(": ")
    )
    if mode in TAKEN[state]:
        return ("again" if found.state in ("fresh", "blocked") else "make"), why
    if first:
        return "make", f"{', '.join(first)} is made first"
    return ("keep" if found.state == "fresh" else "leave"), why if state != "fresh" else ""


def world(res: Resources, until: datetime) -> dict[str, str]:
    """Digests of what every stage's outcome also depends on: config, code, and who was champion before the last moment."""
    model = res.model
    reigning = [] if res.variant.champion else [c for c in res.ledger.champions() if c.as_of < until]
    return {
        "model.yaml or its SQL": digest_json([res.config.model_dump(mode="json"), model.source_sql, model.labels_sql]),
        "a stage's code": digest_json({step.verb: step.version for step in steps_of(res.config)}),
        "the champions": digest_json([[c.sequence, c.version, c.as_of] for c in reigning]),
    }


def estimate_seconds(cells: Mapping[str, tuple[Cell, ...]], res: Resources) -> float | None:
    """Seconds of work on one core, by the medians of earlier runs of each step; None where a step never ran."""
    total = 0.0
    for step in steps_of(res.config):
        count = sum(c.verb == step.verb and c.action in RUNS for row in cells.values() for c in row)
        if not count:
            continue
        keys = [key for key in res.lake.keys(step.stage) if _is_key(key, res)][-RECENT:]
        taken = [r.run.seconds for key in keys if (r := res.lake.record(step.stage, key)) and r.run]
        if not taken:
            return None
        total += count * median(taken)
    return total


def _is_key(key: str, res: Resources) -> bool:
    try:
        parse_key(key, res.config.partition.every)
    except NoPartition:
        return False
    return True


def _bare(cells: Mapping[str, tuple[Cell, ...]]) -> list[Any]:
    """What of the cells the work depends on."""
    return [[key, [[c.verb, c.action, c.inputs] for c in row]] for key, row in cells.items()]


def last_moment(plan: Plan, res: Resources) -> datetime:
    """The as-of of a plan's newest partition."""
    return max(res.ref(key).as_of for key in plan.cells)
