"""What a backfill will do to each stage of each partition, and why: a plan that can be read, kept, and held to. Imports no Prefect.

The digest is of what was asked for, of the actions, and of everything that they would be made from. The same digest means
the same work; another one can be compared, and `changes` says in words what is different.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import TypeAdapter

from configs.settings import load_settings
from tasks.contracts import (
    Cell,
    ChampionChoice,
    Freshness,
    Mode,
    Order,
    PartitionRef,
    Plan,
    Request,
    Stage,
    StageChoice,
)
from tasks.errors import MissingSource, PlanChanged, UnknownPlan
from tasks.lake import digest_json, replacing
from tasks.partitions import NoPartition, between, parse_key
from tasks.resources import PRODUCTION, Resources, Variant, open_resources
from tasks.source import available
from tasks.stages import Step, look
from tasks.steps import AFTER, ALL, IN_SHADOW, OF, steps_of

RUNS = ("make", "again")
REST = "failed, and what is missing"
"""The mode `failed` for a partition of which something failed or was blocked: its other stages were not reached then."""
TAKEN: Mapping[str, tuple[str, ...]] = {
    "failed": ("failed", REST, "missing", "stale", "all"),
    "missing": (REST, "missing", "stale", "all"),
    "stale": ("stale", "all"),
    "blocked": ("failed", REST, "all"),
    "fresh": ("all",),
}
"""The modes that take up a stage in each state."""
VERB = {step.stage: step.verb for step in ALL}
SAID = {"make": "to be made", "again": "to be made again", "keep": "fresh", "leave": "left alone", "wait": "waiting"}
RECENT = 60
"""Records of a stage that an estimate of time looks at."""
_PLAN = TypeAdapter(Plan)


def request_of(
    model: str,
    start: str,
    end: str,
    stages: Sequence[StageChoice],
    mode: Mode,
    order: Order,
    champion: ChampionChoice,
    override: Mapping[str, Any],
    plan: str,
) -> Request:
    """What a person asks for; without a range it is what the plan was made for.

    Raises:
        UnknownPlan: there is no such plan here.
        NoPartition: neither a range nor a plan is given.
    """
    if plan and not (start or end):
        path = plan_file(plan, model)
        if not path.is_file():
            raise UnknownPlan(
                f"there is no plan {plan!r} of {model} here ({path}); give start and end too, or run with dry_run"
            )
        return _PLAN.validate_python(_kept(path)[0]).request
    if not (start and end):
        raise NoPartition("a backfill needs start and end, or the digest of a plan that a dry run has made")
    chosen = tuple(name for name in OF if name in stages)
    return Request(model, start, end, chosen, mode, order, champion, dict(override))


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
    _hold_to_source(refs, res)
    wanted = tuple(step for step in steps_of(res.config) if step in steps_asked(asked.stages))
    ordered = refs if asked.order == "oldest first" else refs[::-1]
    cells = _shown({ref.key: tuple(plan_partition(ref, wanted, asked.mode, res)) for ref in ordered})
    rows = {ref.key: r.rows if (r := res.lake.record(Stage.RAW, ref.key)) else None for ref in ordered}
    digest = digest_json([asdict(asked), res.variant.name, world(res, refs[-1].as_of), _bare(cells)])[:12]
    return Plan(asked, res.variant.name, cells, digest, rows, estimate_seconds(cells, res))


def steps_asked(stages: tuple[StageChoice, ...]) -> tuple[Step, ...]:
    """The steps behind the stages that a person chose."""
    return tuple(step for stage in stages for step in OF[stage])


def _hold_to_source(refs: list[PartitionRef], res: Resources) -> None:
    """Refuse a range of which the source has nothing."""
    known = sorted({*available(res.model), *res.lake.keys(Stage.RAW)})
    if known and not any(ref.key in known for ref in refs):
        raise MissingSource(
            f"{res.config.name}: the source has nothing from {refs[0].key} to {refs[-1].key}; it has {known[0]} to {known[-1]}"
        )


def plan_partition(ref: PartitionRef, steps: tuple[Step, ...], mode: str, res: Resources) -> Iterator[Cell]:
    """What will be done to each stage of one partition."""
    made: set[Stage] = set()
    looks = [(step, *_look(step, ref, res), _is_blocked(step, ref, res)) for step in steps]
    if mode == "failed" and any(found.state == "failed" or blocked for _, found, _, blocked in looks):
        mode = REST
    for step, found, inputs, blocked in looks:
        action, why = decide(step, found, made, mode, blocked)
        if action in RUNS:
            made.add(step.stage)
        yield Cell(step.verb, action, why, inputs_digest(step, inputs))  # type: ignore[arg-type]


def inputs_digest(step: Step, inputs: Mapping[str, str]) -> str:
    """Of what a step would be made from, and its own version; empty where that is not known yet."""
    return digest_json([step.version, inputs])[:12] if inputs else ""


def _is_blocked(step: Step, ref: PartitionRef, res: Resources) -> bool:
    record = res.lake.record(step.stage, ref.key)
    return bool(record and record.status == "blocked")


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
        found, inputs = look(step, ref, res)
    except Exception as error:  # noqa: BLE001
        return Freshness("failed", f"{type(error).__name__}: {error}"), {}
    if found.state == "stale" and not res.lake.owns(step.stage, ref.key):
        return Freshness("missing", f"production's does not fit: {found.why}"), inputs
    return found, inputs


def decide(step: Step, found: Freshness, made: set[Stage], mode: str, blocked: bool) -> tuple[str, str]:
    """The action on one stage and why; `made` are the stages of the partition that are to be made before it.

    What is `blocked` by inputs that have changed since has no result that could be stale: it counts as failed.
    """
    first = [VERB[stage] for stage in AFTER[step.stage] if stage in made]
    if found.state == "waiting":
        return ("make", f"after {VERB[found.needs]}") if found.needs in made else ("wait", found.why)
    why = f"{found.state}: {found.why}" if found.why else found.state
    if mode in TAKEN["failed" if blocked and found.state == "stale" else found.state]:
        return ("again" if found.state in ("fresh", "blocked") else "make"), why
    if first:
        return "make", f"{', '.join(first)} is made first"
    return ("keep" if found.state == "fresh" else "leave"), why if found.state != "fresh" else ""


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


# Plans on disk


def plan_file(digest: str, model: str) -> Path:
    settings = load_settings()
    return settings.path(settings.home) / "plans" / f"{model}-{digest}.json"


def _kept(path: Path) -> tuple[dict[str, Any], dict[str, str], datetime]:
    """A plan as it was written down, the world that it was made in, and when by the clock."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    return kept, kept.pop("world"), datetime.fromisoformat(kept.pop("made_at"))


def last_moment(plan: Plan, res: Resources) -> datetime:
    """The as-of of a plan's newest partition."""
    return max(res.ref(key).as_of for key in plan.cells)


def _now() -> str:
    return datetime.now(UTC).isoformat()


def keep_plan(plan: Plan, res: Resources) -> Path:
    """Write a plan to its file, so that it can be submitted by its digest; returns the file."""
    path = plan_file(plan.digest, res.config.name)
    told = _PLAN.dump_python(plan, mode="json") | {"world": world(res, last_moment(plan, res)), "made_at": _now()}
    with replacing(path) as draft:
        draft.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return path


def hold_to(digest: str, plan: Plan, res: Resources) -> datetime | None:
    """Refuse to go on when today's plan would do anything that the one with this digest does not say.

    What that plan has done already, before it was killed or cancelled, is no change. Returns when the plan was made by the
    clock, where it was kept here.

    Raises:
        UnknownPlan: there is no such plan here.
        PlanChanged: saying what has changed since.
    """
    path = plan_file(digest, res.config.name)
    if not path.is_file():
        if plan.digest == digest:
            return None
        raise UnknownPlan(
            f"there is no plan {digest!r} of {res.config.name} ({path}), and what you ask for makes plan {plan.digest!r}; "
            f"run with dry_run to make a plan and read it first"
        )
    kept, then, made_at = _kept(path)
    if told := list(changes(_PLAN.validate_python(kept), then, plan, res)):
        raise PlanChanged(
            f"plan {digest!r} holds no longer: {'; '.join(told)}. Run with dry_run again; today's plan is {plan.digest!r}"
        )
    return made_at


def changes(kept: Plan, then: Mapping[str, str], plan: Plan, res: Resources) -> Iterator[str]:
    """What is different in today's plan, in words; the first few cells by name."""
    before, after = (json.loads(json.dumps(asdict(p.request))) for p in (kept, plan))
    for name, value in before.items():
        if after[name] != value:
            yield f"it was made for {name} {value!r}, not {after[name]!r}"
    for name, digest in world(res, last_moment(plan, res)).items():
        if then.get(name) != digest:
            yield f"{name} has changed"
    found = []
    for key in dict.fromkeys([*kept.cells, *plan.cells]):
        old, new = ({c.verb: c for c in p.cells.get(key, ())} for p in (kept, plan))
        pairs = ((verb, old.get(verb), new.get(verb)) for verb in dict.fromkeys([*old, *new]))
        found += [f"{key} {verb} {told}" for verb, one, two in pairs if (told := _change(one, two))]
    yield from found[:5]
    if len(found) > 5:
        yield f"and {len(found) - 5} more stages"


def _change(one: Cell | None, two: Cell | None) -> str:
    """How a cell of today's plan differs from the kept one's; nothing where it is the same, or is done."""
    if one is None or two is None:
        return "is in one of the plans only"
    done = one.action in RUNS and (two.action == "keep" or two.why.startswith("blocked"))
    if done or one.action == two.action or (one.action in RUNS and two.action in RUNS):
        same = one.inputs in ("", two.inputs) or one.action == "wait"
        return "" if same else "would be made from other data" + (f" ({two.why})" if two.why else "")
    return f"was {SAID[one.action]} and now is {SAID[two.action]}" + (f" ({two.why})" if two.why else "")
