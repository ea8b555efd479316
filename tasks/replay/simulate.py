"""Simulate one policy on history, moment by moment, with the functions of the live flows: process, assess, retrain.

    score ─ estimate ─ watch ─┬─> facts ─> policy ─ train ─ gate ─ promote
    collect ─ assess ─────────┘

A partition is processed as of when it is complete, and assessed as of when its labels have matured, often after later partitions were
processed. All of it is in one order of time. Latency, size and the load-and-query check count as passed unless a live training with the
same as-of has measured them. A training costs the seconds of the live training with the same as-of, by default those of the first
computation of its models.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from configs.retraining import Retraining
from tasks.contracts import Decision, PartitionRef, PartitionResult, PolicyRun, Stage
from tasks.errors import EvergreenError, NoChampion
from tasks.lifecycle.facts import assess_facts, process_facts
from tasks.lifecycle.partitions import assess_partition, follow_outcomes, process_partition
from tasks.lifecycle.policy_inputs import JUDGED
from tasks.lifecycle.retraining import decide_retraining, follow_up, record_failure, record_outcome
from tasks.lifecycle.train_and_judge import train_and_judge
from tasks.orchestration.events import emit_new
from tasks.orchestration.prefect_tasks import run_log, simulation
from tasks.replay.past_lake import SHARED_STAGES
from tasks.replay.past_resources import ReplayResources, replay_resources
from tasks.replay.policies import UNGATED
from tasks.resources import Resources
from tasks.steps.order import PROCESS, steps_of
from tasks.steps.run_tasks import maturing_partitions
from tasks.storage.partitions import in_order_of_time


def simulate_policy(
    name: str,
    policy: Retraining,
    begin: datetime,
    refs: Sequence[PartitionRef],
    live: Resources,
    on_partition: Callable[[PartitionRef], None] = lambda _: None,
    on_end: Callable[[ReplayResources], None] = lambda _: None,
) -> PolicyRun:
    """Simulate a policy on partitions.

    Args:
        name: The policy's name.
        begin: As-of of the first champion's training.
        refs: The partitions, oldest first.
        live: The model's production resources.
        on_partition: Called after each partition is processed.
        on_end: Called with the replay's resources after the last moment.

    Raises:
        NotEnoughData, MissingPartition: The first champion's training window is too short or incomplete.
        NoChampion: No first champion passes the gate.
        FutureRead: A step uses data from after the simulated time.
    """
    res = replay_resources(live, policy, begin, gated=name not in UNGATED)
    with simulation():
        start_with_champion(begin, res)
        for moment, completed, matured in events(refs, live):
            res.lake.now = moment
            for ref in completed:
                process(ref, res)
            if matured:
                assess(moment, res)
            decide(res)
            for ref in completed:
                on_partition(ref)
        on_end(res)
        ledger = res.ledger
        return PolicyRun(
            policy=name,
            steps=tuple(partition_result(ref, res) for ref in refs),
            facts=tuple(ledger.facts()),
            decisions=tuple(ledger.decisions()),
            promotions=tuple(ledger.promotions()),
            hindsights=tuple(ledger.hindsights()),
            told=policy.model_dump(mode="json", exclude_defaults=True),
        )


def events(
    refs: Sequence[PartitionRef], live: Resources
) -> list[tuple[datetime, list[PartitionRef], list[PartitionRef]]]:
    """The moments of a range, see `in_order_of_time`, with those of ingested partitions before it."""
    return in_order_of_time(refs, (live.ref(key) for key in live.lake.keys(Stage.RAW) if key < refs[0].key))


def start_with_champion(begin: datetime, res: ReplayResources) -> None:
    """Train the first champion.

    Raises:
        NoChampion: It does not pass the gate.
    """
    training = train_and_judge(begin, "first champion", res)
    if res.ledger.champion() is None:
        reasons = "; ".join(training.decision.reasons)
        raise NoChampion(f"{res.title}: no first champion as of {begin:%Y-%m-%d}: {reasons}; begin the range later")


def process(ref: PartitionRef, res: ReplayResources) -> None:
    """Score a partition and check it for drift. Outputs that do not depend on the policy are read from production."""
    follow_up(res)
    steps = tuple(step for step in steps_of(res.config) if step in PROCESS and step.stage not in SHARED_STAGES)
    try:
        process_partition(ref, res, steps)
    except EvergreenError as error:
        run_log().error("%s: %s", ref, error)
        emit_new(process_facts(ref, res), res)


def assess(moment: datetime, res: ReplayResources) -> None:
    """Assess every partition by the outcomes that were known at `moment`, oldest first, and update promotions and challengers."""
    follow_up(res)
    changed = False
    for ref in maturing_partitions(res, None, moment):  # the facts of a partition do not depend on later ones
        try:
            changed = assess_partition(ref, res, unchanged=changed).had_work or changed
        except EvergreenError as error:
            run_log().error("%s: %s", ref, error)
            changed = True
            emit_new(assess_facts(ref, res), res)
    follow_outcomes(res, moment)


def decide(res: ReplayResources) -> None:
    """Decide about every undecided fact, in order, and retrain if the policy requires it, as `flows/retrain.py` does."""
    while facts := res.ledger.undecided():
        decision = decide_retraining(facts[0].id, res)
        if decision.action == "retrain":
            retrain(decision, res)


def retrain(decision: Decision, res: ReplayResources) -> None:
    """Run the training of a decision. A failure is recorded and repeated as often as `retraining.attempts` allows."""
    clock = TrainingTime(decision.as_of, res)
    try:
        with record_failure(decision, res.ledger, clock):
            training = train_and_judge(decision.as_of, f"{decision.rule}: {decision.reason}", res)
    except EvergreenError as error:
        run_log().error("the retraining as of %s failed: %s", decision.as_of, error)
        return
    record_outcome(decision, training, clock.seconds, res.ledger)


class TrainingTime:
    """The seconds of a retraining: those of the live training with the same as-of, by default those of computing its models."""

    def __init__(self, as_of: datetime, res: ReplayResources) -> None:
        self.recorded, self.before, self.res = recorded_seconds(as_of, res), res.cache.seconds, res

    @property
    def seconds(self) -> float:
        """The live retraining's seconds if they are recorded, else the computing seconds since `before`."""
        return self.recorded or round(self.res.cache.seconds - self.before, 3)


def recorded_seconds(as_of: datetime, res: ReplayResources) -> float:
    """Return the seconds of the live retraining with this as-of; 0 if there was none, or for a variant."""
    if res.variant.name:
        return 0.0
    seconds = [d.seconds for d in res.live.ledger.decisions() if d.as_of == as_of and d.outcome in JUDGED]
    return seconds[-1] if seconds else 0.0


def partition_result(ref: PartitionRef, res: ReplayResources) -> PartitionResult:
    """Return the result of one partition from its records."""
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
        note = labels.reason if labels and labels.status == "blocked" else res.lake.failure(Stage.PERFORMANCE, ref.key)
        return PartitionResult(ref.key, ref.as_of, version, note=note or "no outcomes")
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
