"""Measured effect of promotions: each champion is compared with the previous champion on the same matured rows.

The previous champion keeps scoring in shadow mode until the effect is known.
"""

from datetime import datetime
from math import isfinite
from typing import Literal

from tasks.contracts import AUTOMATION, Hindsight, Interval, PartitionRef, Promotion, Stage
from tasks.errors import EvergreenError
from tasks.ledger.history import champion_periods
from tasks.lifecycle.promotion import roll_back
from tasks.lifecycle.shadow import is_matured
from tasks.models.bootstrap import paired_gain
from tasks.models.metrics import row_loss
from tasks.models.targets import outcomes, prediction_array
from tasks.orchestration.events import emit_hindsight
from tasks.orchestration.prefect_tasks import as_task, run_log
from tasks.resources import Resources
from tasks.steps.collect import labelled_rows
from tasks.steps.step import done_record, scoring_moment
from tasks.storage.blocks import labelled_blocks
from tasks.storage.frames import concatenate


@as_task("measure effect of promotions")
def judge_promotions(res: Resources, as_of: datetime) -> list[Hindsight]:
    """Measure the effect of every promotion that has enough matured partitions as of a moment. Record and emit the verdicts.

    The comparison uses the matured rows of the first `hindsight.partitions` partitions that the champion scored, or fewer if it
    was replaced before. A promotion is judged only once. If it hurt and model.yaml allows it, it is rolled back.

    Returns:
        The new verdicts.
    """
    if not res.config.retraining.hindsight.partitions:
        return []
    periods = [row for row in champion_periods(res.ledger.promotions()) if row.as_of <= as_of]
    judged = {h.sequence for h in res.ledger.hindsights()}
    new = []
    for index, row in enumerate(periods):
        if row.action in ("promote", "adopt") and row.previous and row.sequence not in judged:
            following = periods[index + 1] if index + 1 < len(periods) else None
            if (effect := _judge(row, following, as_of, res)) and res.ledger.record_hindsight(effect):
                emit_hindsight(effect, res.ledger.chained("hindsight", str(effect.sequence)))
                run_log().info("%s: %s", res.config.name, verdict_text(effect))
                new.append(effect)
    roll_back_hurt(res, as_of)
    return new


def _judge(row: Promotion, following: Promotion | None, as_of: datetime, res: Resources) -> Hindsight | None:
    """Return the measured effect of one promotion, None while labels are missing. `following` began the next champion period."""
    rules = res.config.retraining.hindsight
    scored = [ref for ref in scored_partitions(row, following, res) if ref.complete <= as_of]
    refs = [ref for ref in scored if following is None or not is_lost(ref, res)]
    due = (ref for ref in refs if ref.matured <= as_of)
    matured = [ref for ref in due if is_matured(ref, row.version, Stage.FORMER, row.previous, res)][: rules.partitions]
    complete = len(matured) >= rules.partitions
    if not complete and (following is None or len(matured) < len(refs)):
        return None
    note = "" if complete else f"replaced after {len(matured)} of {rules.partitions} partitions"
    moment = max([ref.matured for ref in matured], default=following.as_of if following else row.as_of)
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
    """Return `helped` if the gain's lower bound is above 0, `hurt` if its upper bound is below 0, else `neutral`."""
    if gain is not None and gain.lower > 0:
        return "helped"
    return "hurt" if gain is not None and gain.upper < 0 else "neutral"


def scored_partitions(row: Promotion, following: Promotion | None, res: Resources) -> list[PartitionRef]:
    """Return the validated partitions that the row's version scores as champion, oldest first."""
    refs = (res.ref(key) for key in res.lake.keys(Stage.VALID))
    until = following.as_of if following else None
    moments = ((ref, scoring_moment(ref, res)) for ref in refs)
    scored = (ref for ref, moment in moments if moment > row.as_of and (until is None or moment <= until))
    return [r for r in scored if done_record(Stage.VALID, r, res)]


def is_lost(ref: PartitionRef, res: Resources) -> bool:
    """Return whether a partition cannot be compared: it will have no outcome, or the previous champion failed to score it."""
    labels = res.lake.record(Stage.LABELS, ref.key)
    blocked = labels and labels.status == "blocked"
    none = labels and not labels.data.get("mature") and labels.data.get("pending") == 0
    return bool(blocked or none) or bool(res.lake.failure(Stage.FORMER, ref.key))


def compare_with_previous(row: Promotion, refs: list[PartitionRef], res: Resources) -> tuple[Interval, int]:
    """Return the gain over the previous champion on the labelled rows of some partitions, and the number of rows.

    Rows from the champion's training window are left out.
    """
    config, rules = res.config, res.config.retraining.hindsight
    champion, previous = (
        concatenate([labelled_rows(ref.key, refs[-1].matured, res, stage) for ref in refs], ())
        for stage in (Stage.PREDICTIONS, Stage.FORMER)
    )
    champion = champion[champion[config.time] >= row.window_end].reset_index(drop=True)
    if champion.empty:
        return Interval(float("nan"), float("nan"), float("nan")), 0
    names = [config.key, config.time]  # a key may occur in several partitions
    previous = champion[names].merge(previous, on=names, how="left", validate="one_to_one")
    losses = [
        row_loss(outcomes(champion, config.target), prediction_array(predictions, config.target), config.target)
        for predictions in (previous, champion)
    ]
    settings = rules.confidence, config.gate.gain.resamples, config.training.seed
    return paired_gain(losses[0], losses[1], labelled_blocks(champion, config), *settings), len(champion)


def roll_back_hurt(res: Resources, as_of: datetime) -> None:
    """Roll back from the champion if its promotion hurt, as measured by `as_of`, and model.yaml allows it.

    An error is logged, and the next run tries again.
    """
    periods = champion_periods(res.ledger.promotions())
    champion = periods[-1] if periods else None
    effect = res.ledger.hindsight(champion.sequence) if champion else None
    if champion is None or effect is None or effect.verdict != "hurt" or effect.as_of > as_of:
        return
    if not res.config.retraining.hindsight.rollback:
        return
    try:
        roll_back(effect.previous, AUTOMATION, verdict_text(effect), max(effect.as_of, champion.as_of), res)
    except EvergreenError as error:
        text, about = (
            "version %s hurt, but the rollback failed; the next run tries again: %s",
            {"version": effect.version},
        )
        run_log().error(text, effect.version, error, extra=about)


def verdict_text(effect: Hindsight) -> str:
    """Return the measured effect of a promotion in one sentence."""
    text = f"version {effect.version} {effect.verdict if effect.verdict != 'neutral' else 'made no clear difference'}"
    if effect.gain is not None:
        gain = effect.gain
        text += f": gain {gain.value:+.4f} ({gain.lower:+.4f} to {gain.upper:+.4f}) over version {effect.previous}"
        text += f" on {', '.join(effect.partitions)}"
    return f"{text}; {effect.note}" if effect.note else text
