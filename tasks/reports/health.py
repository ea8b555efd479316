"""What a model needs of people, and what they can do about it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from tasks.contracts import Promotion, Stage
from tasks.contracts.words import first_line
from tasks.ledger.history import was_requested
from tasks.orchestration.schedules import Schedule
from tasks.resources import Resources
from tasks.steps.decay import decay_at
from tasks.steps.serving_skew import differing

Weight = Literal[3, 2, 1]
WORDS = {3: "broken", 2: "asks for you", 1: "worth a look", 0: "good"}
"""What a model's heaviest need makes of it."""
RECENT = 3
"""The newest partitions, whose failures are told; older ones are in the grid."""


@dataclass(frozen=True)
class Alert:
    """Something that a person should know of: 3 keeps the model from its work, 2 waits for a person, 1 is worth a look."""

    weight: Weight
    told: str
    do: str = ""
    """A command, or what to read; empty where nothing need be done."""


def alerts(res: Resources, schedules: Iterable[Schedule] | None = None) -> list[Alert]:
    """Everything that a model needs, the heaviest first. `schedules` are the active ones of its deployments, None if not known."""
    found = [
        *schedule_alerts(schedules or ()),
        *_of_partitions(res),
        *_of_serving(res),
        *_of_stages(res),
        *_of_decisions(res),
        *_of_performance(res),
    ]
    return sorted(found, key=lambda need: -need.weight)


def schedule_alerts(schedules: Iterable[Schedule]) -> list[Alert]:
    """Return an alert for each active schedule that will start no run."""
    return [
        Alert(
            3,
            f"{s.deployment} is scheduled ({s.rule} {s.timezone}), but Prefect has planned no run of it",
            "read the log of Prefect's server, then restart it (`make down up`)",
        )
        for s in schedules
        if s.is_missing()
    ]


def state(found: list[Alert]) -> str:
    """One of `WORDS`."""
    return WORDS[max((need.weight for need in found), default=0)]


def _of_partitions(res: Resources) -> Iterator[Alert]:
    """Blocked data and failed steps among the newest partitions."""
    name = res.config.name
    stages = (Stage.RAW, Stage.VALID)
    known = sorted({key for stage in stages for key in (*res.lake.keys(stage), *res.lake.failed(stage))})
    if not known:
        yield Alert(2, "no partition was processed yet", f"prefect deployment run process/{name}")
    for key in known[-RECENT:]:
        for stage in Stage:
            record = res.lake.record(stage, key)
            if record and record.status == "blocked":
                told = f"{key} is blocked at {stage}: {first_line(record.reason)}"
                yield Alert(3, told, "mend the source: the next run tries again")
            if failure := res.lake.failure(stage, key):
                again = (
                    f"prefect deployment run backfill/manual -p model={name} -p start={key} -p end={key} -p mode=failed"
                )
                yield Alert(3, f"{stage} of {key} failed: {first_line(failure)}", again)


def _of_serving(res: Resources) -> Iterator[Alert]:
    """Answers of serving that batch does not give."""
    for key in res.lake.keys(Stage.PREDICTIONS)[-RECENT:]:
        if odd := differing([res.lake.record(Stage.PREDICTIONS, key)]):
            told = f"serving said something else than batch about {odd} rows of {key}"
            yield Alert(2, told, "compare `load(stage='predictions')` with the served rows, see docs/serving.md")


def _of_stages(res: Resources) -> Iterator[Alert]:
    """A champion that is missing, a challenger that waits, a promotion that made it worse, an alias that was moved."""
    name, ledger = res.config.name, res.ledger
    champion, challenger, rows = ledger.champion(), ledger.challenger(), ledger.promotions()
    if champion is None and res.lake.keys(Stage.VALID):
        yield Alert(2, "it has no champion yet", f"prefect deployment run train/{name}")
    if challenger and was_requested(challenger.version, champion, rows):
        approve = f'prefect deployment run promote/manual -p model={name} -p by=YOU -p reason="..."'
        yield Alert(2, f"version {challenger.version} passed the gate and waits for your approval", approve)
    judged = ledger.hindsight(champion.sequence) if champion else None
    if champion and judged and judged.verdict == "hurt":
        back = f'prefect deployment run rollback/manual -p model={name} -p by=YOU -p reason="..."'
        yield Alert(2, f"version {champion.version} is worse than version {judged.previous}, which it replaced", back)
    if moved := _moved_alias(champion, res):
        yield Alert(2, moved, f"prefect deployment run promote/manual -p model={name} -p action=restore (or adopt) ...")
    if ledger.undelivered():
        yield Alert(
            1, "alias or events do not follow the ledger yet", "the next `process`, `assess` or `remind` sees to it"
        )


def _moved_alias(champion: Promotion | None, res: Resources) -> str:
    """That somebody moved the alias by hand, as it was last seen; empty when the ledger has another champion since."""
    seen = [f for f in res.ledger.facts() if f.kind == "alias"]
    if not (champion and seen and seen[-1].recorded_at and champion.recorded_at):
        return ""
    later = [r for r in res.ledger.promotions() if r.recorded_at and r.recorded_at > seen[-1].recorded_at]
    if any(r.to_stage == "champion" for r in later):
        return ""
    where = f"version {seen[-1].payload['alias']}" if seen[-1].payload["alias"] else "no version"
    return (
        f"the alias `champion` was moved to {where} by hand; the ledger's version {champion.version} goes on deciding"
    )


def _of_decisions(res: Resources) -> Iterator[Alert]:
    """Retrainings that failed, and facts that nobody has decided about."""
    tried = [d for d in res.ledger.decisions() if d.action == "retrain" and d.outcome]
    if tried and tried[-1].outcome == "failed":
        yield Alert(
            3,
            f"the last retraining failed: {first_line(tried[-1].detail)}",
            f"prefect deployment run train/{res.config.name}",
        )
    for fact in res.ledger.undecided():
        yield Alert(1, f"{fact.kind} in {fact.partition} has no decision yet", "`remind/all` sends it again every hour")


def _of_performance(res: Resources) -> Iterator[Alert]:
    """Decay and drift in the newest partition that tells of them."""
    champion = res.ledger.champion()
    for stage in (Stage.PERFORMANCE, Stage.MONITORING):
        done = [r for key in res.lake.keys(stage)[-1:] if (r := res.lake.record(stage, key)) and r.status == "done"]
        if not done or champion is None or done[0].data["version"] != champion.version:
            continue  # another version is champion now
        key = done[0].partition
        if stage is Stage.MONITORING and done[0].data["detected"]:
            yield Alert(1, f"{key} has drifted from what version {champion.version} knows")
        loss = res.config.target.judged_by.replace("_", " ")
        if stage is Stage.PERFORMANCE and (decay := decay_at(res.ref(key), stage, res))["detected"]:
            told = f"{loss} was {decay['value']:.3f} in {key}, where the gate saw {decay['expected']:.3f}"
            yield Alert(1, told)
