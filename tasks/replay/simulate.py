"""Play one policy on history, partition by partition, with the code of the live flows: process, assess, decide.

    score ─ estimate ─ watch ─┬─> facts ─> policy ─ train ─ gate ─ promote
    collect ─ assess ─────────┘

Everything is as of the partition's moment. What a live run also measures (latency, size, load-and-query) is taken as held,
and a training costs the seconds that the live one took where there was one, else those when its models were first made.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from configs.retraining import Retraining
from tasks.contracts import Decision, PartitionRef, PartitionResult, PolicyRun, Stage
from tasks.errors import EvergreenError, NoChampion
from tasks.lifecycle.facts import assess_facts, process_facts
from tasks.lifecycle.partitions import assess_partition, follow_outcomes, process_partition
from tasks.lifecycle.retraining import JUDGED, close, closing, decide_retraining, follow_up
from tasks.lifecycle.train_and_judge import train_and_judge
from tasks.orchestration.events import emit_new
from tasks.orchestration.prefect_tasks import run_log, simulation
from tasks.replay.past_lake import PAST
from tasks.replay.past_resources import ReplayResources
from tasks.resources import Resources
from tasks.steps.order import PROCESS, steps_of
from tasks.steps.run_tasks import maturing_partitions


def simulate_policy(
    name: str,
    policy: Retraining,
    begin: datetime,
    refs: Sequence[PartitionRef],
    live: Resources,
    told: Callable[[PartitionRef], None] = lambda _: None,
) -> PolicyRun:
    """What a policy would have made of some partitions, oldest first, with a first champion trained as of `begin`.

    Raises:
        NotEnoughData, MissingPartition: the first window cannot be learned from.
        NoChampion: the gate lets no first champion through.
        FutureRead: something leaks.
    """
    res = ReplayResources(live, policy, begin)
    with simulation():
        start_with_champion(begin, res)
        for ref in refs:
            res.lake.now = ref.as_of
            process(ref, res)
            assess(ref.as_of, res)
            decide(res)
            told(ref)
        ledger = res.ledger
        return PolicyRun(
            policy=name,
            steps=tuple(step_of(ref, res) for ref in refs),
            facts=tuple(ledger.facts()),
            decisions=tuple(ledger.decisions()),
            promotions=tuple(ledger.promotions()),
            hindsights=tuple(ledger.hindsights()),
            told=policy.model_dump(mode="json", exclude_defaults=True),
        )


def start_with_champion(begin: datetime, res: ReplayResources) -> None:
    """Train the first champion; what no gate lets through cannot be played."""
    training = train_and_judge(begin, "first champion", res)
    if res.ledger.champion() is None:
        reasons = "; ".join(training.decision.reasons)
        raise NoChampion(f"{res.title}: no first champion as of {begin:%Y-%m-%d}: {reasons}; begin the range later")


def process(ref: PartitionRef, res: ReplayResources) -> None:
    """Score a partition and check it for drift; what no policy changes is read from production."""
    follow_up(res)
    steps = tuple(step for step in steps_of(res.config) if step in PROCESS and step.stage not in PAST)
    try:
        process_partition(ref, res, steps)
    except EvergreenError as error:
        run_log().error("%s: %s", ref, error)
        emit_new(process_facts(ref, res), res)


def assess(moment: datetime, res: ReplayResources) -> None:
    """Assess every partition by the outcomes that were known by now, oldest first, and what follows from them."""
    follow_up(res)
    changed = False
    for ref in maturing_partitions(res, None, moment):  # the facts of a partition depend on none after it
        try:
            changed = assess_partition(ref, res, unchanged=changed).had_work or changed
        except EvergreenError as error:
            run_log().error("%s: %s", ref, error)
            changed = True
            emit_new(assess_facts(ref, res), res)
    follow_outcomes(res)


def decide(res: ReplayResources) -> None:
    """Decide about every fact that waits, in order, and retrain where the policy says so; as `flows/retrain.py`."""
    while waiting := res.ledger.undecided():
        decision = decide_retraining(waiting[0].id, res)
        if decision.action == "retrain":
            retrain(decision, res)


def retrain(decision: Decision, res: ReplayResources) -> None:
    """Carry a decision out. A training that fails is noted with its error, and tried again as model.yaml says."""
    clock = Spent(decision.as_of, res)
    try:
        with closing(decision, res.ledger, clock):
            training = train_and_judge(decision.as_of, f"{decision.rule}: {decision.reason}", res)
    except EvergreenError as error:
        run_log().error("the retraining as of %s failed: %s", decision.as_of, error)
        return
    close(decision, training, clock.seconds, res.ledger)


class Spent:
    """What a retraining costs: what the live one took, else what its models took when they were made."""

    def __init__(self, as_of: datetime, res: ReplayResources) -> None:
        self.recorded, self.before, self.res = recorded_seconds(as_of, res), res.spent, res

    @property
    def seconds(self) -> float:
        return self.recorded or round(self.res.spent - self.before, 3)


def recorded_seconds(as_of: datetime, res: ReplayResources) -> float:
    """What the live retraining as of a moment took; nought where there was none, or this is a variant's past."""
    if res.variant.name:
        return 0.0
    found = [d.seconds for d in res.live.ledger.decisions() if d.as_of == as_of and d.outcome in JUDGED]
    return found[-1] if found else 0.0


def step_of(ref: PartitionRef, res: ReplayResources) -> PartitionResult:
    """What came of one partition."""
    valid, scored, assessed = (
        res.lake.record(stage, ref.key) for stage in (Stage.VALID, Stage.PREDICTIONS, Stage.PERFORMANCE)
    )
    if valid is None or valid.status == "blocked":
        raw = res.lake.record(Stage.RAW, ref.key)
        blocked = valid or (raw if raw and raw.status == "blocked" else None)
        return PartitionResult(ref.key, ref.as_of, note=f"blocked: {blocked.reason}" if blocked else "never validated")
    if scored is None:
        return PartitionResult(ref.key, ref.as_of, note=res.lake.failure(Stage.PREDICTIONS, ref.key) or "not scored")
    version = str(scored.data["version"])
    if assessed is None or assessed.status == "blocked":
        labels = res.lake.record(Stage.LABELS, ref.key)
        why = labels.reason if labels and labels.status == "blocked" else res.lake.failure(Stage.PERFORMANCE, ref.key)
        return PartitionResult(ref.key, ref.as_of, version, note=why or "no outcomes")
    data = assessed.data
    return PartitionResult(
        partition=ref.key,
        as_of=ref.as_of,
        version=version,
        rows=int(data["mature"]),
        metrics=data["metrics"],
        intervals={name: tuple(bounds) for name, bounds in data["intervals"].items()},
        blocks=tuple(tuple(block) for block in data["blocks"]),
        note="" if data["mature"] else "no outcomes",
    )
