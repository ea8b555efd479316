"""Plans on disk: kept under their digest, read again, and held to when they are submitted."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from configs.settings import load_settings
from tasks.backfill.plan import RUNS, last_moment, world
from tasks.contracts import Cell, ChampionChoice, Mode, Order, Plan, Request, StageChoice
from tasks.errors import PlanChanged, UnknownPlan
from tasks.resources import Resources
from tasks.steps.order import STEPS_BY_CHOICE
from tasks.storage.files import replacing
from tasks.storage.partitions import NoPartition

SAID = {"make": "to be made", "again": "to be made again", "keep": "fresh", "leave": "left alone", "wait": "waiting"}
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
        PlanChanged: something is asked for that is not what the plan was made for.
        NoPartition: neither a range nor a plan is given.
    """
    chosen = tuple(name for name in STEPS_BY_CHOICE if name in stages)
    if plan and not (start or end):
        path = plan_file(plan, model)
        if not path.is_file():
            raise UnknownPlan(
                f"there is no plan {plan!r} of {model} here ({path}); give start and end too, or run with dry_run"
            )
        kept = _PLAN.validate_python(_kept(path)[0]).request
        _require_request(
            plan, kept, replace(kept, stages=chosen, mode=mode, order=order, champion=champion, override=override)
        )
        return kept
    if not (start and end):
        raise NoPartition("a backfill needs start and end, or the digest of a plan that a dry run has made")
    return Request(model, start, end, chosen, mode, order, champion, dict(override))


def _require_request(digest: str, kept: Request, said: Request) -> None:
    """Refuse what is asked for beside a plan and is not the plan's. What is left as the form has it says nothing."""
    plain = asdict(Request(kept.model, kept.start, kept.end, tuple(STEPS_BY_CHOICE)))
    of_plan = asdict(kept)
    for name, value in asdict(said).items():
        if value not in (plain[name], of_plan[name]):
            raise PlanChanged(
                f"plan {digest!r} was made for {name} {of_plan[name]!r}, not {value!r}; leave {name} out, or make a new plan by dry_run"
            )


def plan_file(digest: str, model: str) -> Path:
    settings = load_settings()
    return settings.path(settings.home) / "plans" / f"{model}-{digest}.json"


def _kept(path: Path) -> tuple[dict[str, Any], dict[str, str], datetime]:
    """A plan as it was written down, the world that it was made in, and when by the clock."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    return kept, kept.pop("world"), datetime.fromisoformat(kept.pop("made_at"))


def _now() -> str:
    return datetime.now(UTC).isoformat()


def save_plan(plan: Plan, res: Resources) -> Path:
    """Write a plan to its file, so that it can be submitted by its digest; returns the file."""
    path = plan_file(plan.digest, res.config.name)
    told = _PLAN.dump_python(plan, mode="json") | {"world": world(res, last_moment(plan, res)), "made_at": _now()}
    with replacing(path) as draft:
        draft.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return path


def require_plan(digest: str, plan: Plan, res: Resources) -> datetime | None:
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
