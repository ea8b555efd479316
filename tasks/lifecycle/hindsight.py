"""Whether promotions helped: each champion against the version it replaced, which goes on scoring in the shadow until that is known."""

from math import isfinite
from typing import TYPE_CHECKING, Literal

from tasks.contracts import AUTOMATION, Hindsight, Interval, PartitionRef, Promotion, Stage
from tasks.errors import EvergreenError
from tasks.ledger.history import champion_periods
from tasks.lifecycle.promotion import roll_back
from tasks.models.bootstrap import paired_gain
from tasks.models.metrics import row_loss
from tasks.models.targets import outcomes, prediction_array
from tasks.orchestration.events import emit_hindsight
from tasks.orchestration.prefect_tasks import as_task, run_log
from tasks.resources import Resources
from tasks.steps.collect import join_outcomes, read_outcomes
from tasks.steps.step import done_record
from tasks.storage.blocks import labelled_blocks

if TYPE_CHECKING:
    import pandas as pd


@as_task("see whether promotions helped")
def judge_promotions(res: Resources) -> list[Hindsight]:
    """Judge every promotion whose time has come, write it down, tell of it; roll back from one that hurt where model.yaml allows.

    The comparison is on the matured rows of the first `hindsight.partitions` partitions that the champion scored, or of
    fewer where another was promoted before. An earlier judgement stands.
    """
    if not res.config.retraining.hindsight.partitions:
        return []
    made = champion_periods(res.ledger.promotions())
    known = {h.sequence for h in res.ledger.hindsights()}
    found = []
    for at, row in enumerate(made):
        if row.action in ("promote", "adopt") and row.previous and row.sequence not in known:
            following = made[at + 1] if at + 1 < len(made) else None
            if (judged := _judge(row, following, res)) and res.ledger.record_hindsight(judged):
                emit_hindsight(judged)
                run_log().info("%s: %s", res.config.name, verdict_text(judged))
                found.append(judged)
    roll_back_hurt(res)
    return found


def _judge(row: Promotion, following: Promotion | None, res: Resources) -> Hindsight | None:
    """The judgement of one promotion; None while it must wait for labels."""
    rules = res.config.retraining.hindsight
    refs = [ref for ref in scored_partitions(row, following, res) if following is None or not is_lost(ref, res)]
    matured = [ref for ref in refs if is_matured(ref, row, res)][: rules.partitions]
    complete = len(matured) >= rules.partitions
    if not complete and (following is None or len(matured) < len(refs)):
        return None
    note = "" if complete else f"replaced after {len(matured)} of {rules.partitions} partitions"
    moment = max([ref.as_of for ref in matured], default=following.as_of if following else row.as_of)
    gain, rows = compare_with_previous(row, matured, res) if matured else (None, 0)
    if gain is not None and not all(map(isfinite, (gain.value, gain.lower, gain.upper))):
        gain, note = None, "; ".join(n for n in (note, "too few blocks of time to judge the gain") if n)
    return Hindsight(
        model=row.model,
        sequence=row.sequence,
        version=row.version,
        previous=str(row.previous),
        as_of=moment,
        verdict=verdict(gain),
        gain=gain,
        partitions=tuple(ref.key for ref in matured),
        rows=rows,
        note=note,
        flow_run=res.flow_run,
    )


def verdict(gain: Interval | None) -> Literal["helped", "neutral", "hurt"]:
    """helped, when the gain's lower bound is above nought; hurt, when its upper bound is below; else neutral. Doubt is neutral."""
    if gain is not None and gain.lower > 0:
        return "helped"
    return "hurt" if gain is not None and gain.upper < 0 else "neutral"


def scored_partitions(row: Promotion, following: Promotion | None, res: Resources) -> list[PartitionRef]:
    """Validated partitions that the row's version scores as champion, oldest first."""
    refs = (res.ref(key) for key in res.lake.keys(Stage.VALID))
    until = following.as_of if following else None
    return [
        r
        for r in refs
        if r.as_of > row.as_of and (until is None or r.as_of <= until) and done_record(Stage.VALID, r, res)
    ]


def is_matured(ref: PartitionRef, row: Promotion, res: Resources) -> bool:
    """Whether both versions scored a partition, and it was assessed on the predictions and labels that are there."""
    stages = (Stage.PREDICTIONS, Stage.FORMER, Stage.LABELS, Stage.PERFORMANCE)
    scored, former, labels, assessed = (done_record(stage, ref, res) for stage in stages)
    return bool(
        scored
        and former
        and labels
        and assessed
        and (scored.data["version"], former.data["version"]) == (row.version, row.previous)
        and assessed.inputs.get(Stage.PREDICTIONS) == scored.digest
        and assessed.inputs.get(Stage.LABELS) == labels.digest
        and labels.as_of >= ref.as_of
        and labels.data["mature"]
    )


def is_lost(ref: PartitionRef, res: Resources) -> bool:
    """Whether a partition can tell nothing any more: its labels are blocked, or the version before could not score it."""
    labels = res.lake.record(Stage.LABELS, ref.key)
    return bool(labels and labels.status == "blocked") or bool(res.lake.failure(Stage.FORMER, ref.key))


def compare_with_previous(row: Promotion, refs: list[PartitionRef], res: Resources) -> tuple[Interval, int]:
    """The gain in loss over the version before on the labelled rows of some partitions, and how many rows that are.

    Rows that the champion had learned from do not count.
    """
    config, rules = res.config, res.config.retraining.hindsight
    mine, theirs = (labelled(stage, refs, res) for stage in (Stage.PREDICTIONS, Stage.FORMER))
    mine = mine[mine[config.time] >= row.window_end].reset_index(drop=True)
    if mine.empty:
        return Interval(float("nan"), float("nan"), float("nan")), 0
    theirs = mine[[config.key]].merge(theirs, on=config.key, how="left", validate="one_to_one")
    losses = [
        row_loss(outcomes(mine, config.target), prediction_array(said, config.target), config.target)
        for said in (theirs, mine)
    ]
    settings = rules.confidence, config.gate.gain.resamples, config.training.seed
    return paired_gain(losses[0], losses[1], labelled_blocks(mine, config), *settings), len(mine)


def labelled(stage: Stage, refs: list[PartitionRef], res: Resources) -> "pd.DataFrame":
    """A version's predictions of some partitions with the outcomes that were known as of the newest one's moment."""
    import pandas as pd

    frames = []
    for ref in refs:
        known = read_outcomes(res, ref.key, refs[-1].as_of)
        frames.append(join_outcomes(res.lake.read(stage, ref.key), known, res.config))
    return pd.concat(frames, ignore_index=True)


def roll_back_hurt(res: Resources) -> None:
    """Roll back from the champion if its promotion hurt and model.yaml allows it; a run that died before it did is made up for.

    What cannot be done now is logged, and tried again by the next run.
    """
    made = champion_periods(res.ledger.promotions())
    champion = made[-1] if made else None
    judged = res.ledger.hindsight(champion.sequence) if champion else None
    if champion is None or judged is None or judged.verdict != "hurt" or not res.config.retraining.hindsight.rollback:
        return
    try:
        roll_back(judged.previous, AUTOMATION, verdict_text(judged), max(judged.as_of, champion.as_of), res)
    except EvergreenError as error:
        run_log().error("version %s hurt, but could not be rolled back from: %s", judged.version, error)


def verdict_text(judged: Hindsight) -> str:
    """A judgement in a sentence."""
    text = f"version {judged.version} {judged.verdict if judged.verdict != 'neutral' else 'made no clear difference'}"
    if judged.gain is not None:
        gain = judged.gain
        text += f": gain {gain.value:+.4f} ({gain.lower:+.4f} to {gain.upper:+.4f}) over version {judged.previous}"
        text += f" on {', '.join(judged.partitions)}"
    return f"{text}; {judged.note}" if judged.note else text
