"""Plan files: save a plan under its digest, read it, and require that a run follows it."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from configs.settings import load_settings
from tasks.backfill.plan import RUN_ACTIONS, last_moment, state_digests
from tasks.contracts import Cell, ChampionChoice, Mode, Order, Plan, Request, StageChoice
from tasks.errors import PlanChanged, UnknownPlan
from tasks.resources import Resources
from tasks.steps.order import STEPS_BY_CHOICE
from tasks.storage.files import replacing
from tasks.storage.partitions import NoPartition

ACTION_TEXT = {"make": "to run", "again": "to run again", "keep": "fresh", "leave": "not selected", "wait": "waiting"}
_PLAN = TypeAdapter(Plan)


def resolve_request(
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
    """Build the request from a form. Without a range it is the request of the plan with this digest.

    Raises:
        UnknownPlan: there is no file of this plan.
        PlanChanged: a parameter contradicts the plan.
        NoPartition: neither a range nor a plan is given.
    """
    chosen = tuple(name for name in STEPS_BY_CHOICE if name in stages)
    if plan and not (start or end):
        path = plan_path(plan, model)
        if not path.is_file():
            raise UnknownPlan(
                f"there is no plan {plan!r} of {model}: {path} does not exist. Give start and end too, or run with dry_run"
            )
        saved = _PLAN.validate_python(_read_plan(path)[0]).request
        _require_request(
            plan, saved, replace(saved, stages=chosen, mode=mode, order=order, champion=champion, override=override)
        )
        return saved
    if not (start and end) and mode != "verify":
        raise NoPartition("a backfill needs start and end, or the digest of a plan from a dry run")
    return Request(model, start, end, chosen, mode, order, champion, dict(override))


def _require_request(digest: str, saved: Request, given: Request) -> None:
    """Refuse a parameter that differs both from the saved plan and from the form's default."""
    defaults = asdict(Request(saved.model, saved.start, saved.end, tuple(STEPS_BY_CHOICE)))
    in_plan = asdict(saved)
    for name, value in asdict(given).items():
        if value not in (defaults[name], in_plan[name]):
            raise PlanChanged(
                f"plan {digest!r} was made for {name} {in_plan[name]!r}, not {value!r}; leave {name} out, or make a new plan with dry_run"
            )


def plan_path(digest: str, model: str) -> Path:
    """Return where a plan is saved. The file exists only if it was.

    Raises:
        UnknownPlan: it is not a digest, such as a path to another file.
    """
    if not re.fullmatch(r"\w+", digest):
        raise UnknownPlan(
            f"{digest!r} is not the digest of a plan; copy the 12 characters from the page of the dry run"
        )
    settings = load_settings()
    return settings.path(settings.home) / "plans" / f"{model}-{digest}.json"


def _read_plan(path: Path) -> tuple[dict[str, Any], dict[str, str], datetime]:
    """A saved plan, the `state_digests` of that time, and when it was saved, by the clock."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return content, content.pop("world"), datetime.fromisoformat(content.pop("made_at"))


def save_plan(plan: Plan, res: Resources) -> Path:
    """Write a plan to its file, so that it can be submitted by its digest, and return the file's path."""
    path = plan_path(plan.digest, res.config.name)
    digests = state_digests(res, last_moment(plan, res))
    content = _PLAN.dump_python(plan, mode="json") | {"world": digests, "made_at": datetime.now(UTC).isoformat()}
    with replacing(path) as draft:
        draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path


def require_plan(digest: str, plan: Plan, res: Resources) -> datetime | None:
    """Require that today's plan does nothing else than the plan with this digest.

    Work that an earlier run of that plan has finished, before it was killed or cancelled, is not a change.

    Args:
        digest: Digest of the plan to follow.
        plan: Today's plan for the same request.
        res: The model's resources.

    Returns:
        When the plan was saved, by the clock; None if it has no file and today's plan has the same digest.

    Raises:
        UnknownPlan: there is no file of this plan.
        PlanChanged: the plans differ; the message says in what.
    """
    path = plan_path(digest, res.config.name)
    if not path.is_file():
        if plan.digest == digest:
            return None
        raise UnknownPlan(
            f"there is no plan {digest!r} of {res.config.name} ({path}); this request has the plan {plan.digest!r}. "
            f"Run with dry_run to make a plan, and read it first"
        )
    content, digests, saved_at = _read_plan(path)
    if differences := list(changes(_PLAN.validate_python(content), digests, plan, res)):
        raise PlanChanged(
            f"plan {digest!r} no longer applies: {'; '.join(differences)}. Run with dry_run again; today's plan is {plan.digest!r}"
        )
    return saved_at


def changes(saved: Plan, digests: Mapping[str, str], plan: Plan, res: Resources) -> Iterator[str]:
    """Yield each difference between today's plan and a saved one as text; of the steps only the first five.

    Args:
        saved: The saved plan.
        digests: The `state_digests` of the time when it was saved.
        plan: Today's plan.
        res: The model's resources.
    """
    before, after = (json.loads(json.dumps(asdict(p.request))) for p in (saved, plan))
    for name, value in before.items():
        if after[name] != value:
            yield f"it was made for {name} {value!r}, not {after[name]!r}"
    for name, digest in state_digests(res, last_moment(plan, res)).items():
        if digests.get(name) != digest:
            yield f"{name} has changed"
    changed = []
    for key in dict.fromkeys([*saved.cells, *plan.cells]):
        old, new = ({c.verb: c for c in p.cells.get(key, ())} for p in (saved, plan))
        pairs = ((verb, old.get(verb), new.get(verb)) for verb in dict.fromkeys([*old, *new]))
        changed += [f"{key} {verb} {text}" for verb, one, two in pairs if (text := _change(one, two))]
    yield from changed[:5]
    if len(changed) > 5:
        yield f"{len(changed) - 5} more steps"


def _change(old: Cell | None, new: Cell | None) -> str:
    """How a cell of today's plan differs from the saved one; empty if it is the same, or done already."""
    if old is None or new is None:
        return "is in only one of the plans"
    reason = f" ({new.why})" if new.why else ""
    done = old.action in RUN_ACTIONS and (new.action == "keep" or new.why.startswith("blocked"))
    if done or old.action == new.action or (old.action in RUN_ACTIONS and new.action in RUN_ACTIONS):
        same = old.inputs in ("", new.inputs) or old.action == "wait"
        return "" if same else f"has changed inputs{reason}"
    return f"was {ACTION_TEXT[old.action]} and now is {ACTION_TEXT[new.action]}{reason}"
