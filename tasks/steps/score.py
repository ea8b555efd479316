"""Score a partition with the version that was champion at its as-of, and in its shadow with the challenger and the champion before."""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tasks.contracts import PartitionRef, Promotion, Stage
from tasks.ledger.history import champion_periods
from tasks.models.fast_predict import NoPlan, plan_of
from tasks.models.features import inputs_wanted, predict
from tasks.models.targets import prediction_columns
from tasks.resources import Resources
from tasks.steps.serving_skew import with_served
from tasks.steps.step import NotDue, Step, StepOutput, upstream_record

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 1


def score(ref: PartitionRef, res: Resources) -> StepOutput:
    """Write key, time, prediction, model version and as-of of every valid row. `tasks/models/targets.py` tells what a prediction is.

    Raises:
        RegistryUnavailable: MLflow does not answer and this version was never fetched before.
    """
    return _score(Stage.PREDICTIONS, champion_of(ref, res), ref, res)


def score_shadow(ref: PartitionRef, res: Resources) -> StepOutput:
    """The same by the challenger, kept apart: nobody acts on these, they are evidence for its promotion."""
    return _score(Stage.SHADOW, challenger_of(ref, res), ref, res)


def score_previous(ref: PartitionRef, res: Resources) -> StepOutput:
    """The same by the version that the champion replaced, until it is known whether that helped."""
    return _score(Stage.FORMER, previous_champion_of(ref, res), ref, res)


def _score(stage: Stage, by: Promotion, ref: PartitionRef, res: Resources) -> StepOutput:
    model = res.load(by.version)
    if not res.shares_models:  # a booster that is being set cannot predict
        with suppress(NoPlan):
            plan_of(model).limit(res.threads)
    columns = [res.config.key, res.config.time, *inputs_wanted(model, res.config).all]
    tables = (scored(batch, model, by, ref, res) for batch in res.lake.batches(Stage.VALID, ref.key, columns))
    rows, digest = res.lake.write_batches(stage, ref.key, tables)
    told = with_served(stage, by, ref, res)
    return StepOutput(rows, digest, {"version": by.version, "trained_on_it": by.window_end > ref.start, **told})


def scored(batch: "pa.Table", model: Any, by: Promotion, ref: PartitionRef, res: Resources) -> "pa.Table":
    """Some rows with what the model says of them."""
    import pyarrow as pa

    config, frame = res.config, batch.to_pandas()
    said = prediction_columns(predict(model, frame, config), config.target)
    found = frame[[config.key, config.time]].assign(**said, model_version=by.version, as_of=ref.as_of)
    if res.variant.name:
        found["variant"] = res.variant.name
    return pa.Table.from_pandas(found, preserve_index=False)


def champion_of(ref: PartitionRef, res: Resources) -> Promotion:
    """The promotion in force at the partition's as-of, or the one of the version by which a variant scores.

    Raises:
        NotDue: there was no champion yet.
    """
    if res.variant.champion:
        return next(row for row in res.ledger.champions() if row.version == res.variant.champion)
    champion = res.ledger.champion(ref.as_of)
    if champion is None:
        raise NotDue(f"no champion before {ref.as_of.isoformat()}; run `train` for an earlier moment to score {ref}")
    return champion


def scored_by(ref: PartitionRef, res: Resources) -> Promotion:
    """The promotion of the version whose predictions of a partition are there, whatever is champion at the ref's moment.

    Raises:
        NotDue: it was not scored.
    """
    return champion_of(res.ref(ref.key, upstream_record(ref, res, Stage.PREDICTIONS).as_of), res)


def challenger_of(ref: PartitionRef, res: Resources) -> Promotion:
    """The row that staged the challenger in force at the partition's as-of.

    Raises:
        NotDue: there was none, or the model has no shadow stage.
    """
    shadow = res.config.promotion.shadow.partitions and not res.variant.champion
    challenger = res.ledger.challenger(ref.as_of) if shadow else None
    if challenger is None:
        raise NotDue("no challenger")
    return challenger


def previous_champion_of(ref: PartitionRef, res: Resources) -> Promotion:
    """The row that had made the champion before the one in force at the partition's as-of.

    Raises:
        NotDue: there was none, or it is known whether the replacement helped.
    """
    if res.variant.champion:
        raise NotDue("no version was replaced")
    made = [row for row in champion_periods(res.ledger.promotions()) if row.as_of < ref.as_of]
    champion = made[-1] if made else None
    promoted = champion is not None and champion.action in ("promote", "adopt") and champion.against
    if champion is None or not promoted or not res.config.retraining.hindsight.partitions:
        raise NotDue("no version was replaced")
    judged = res.ledger.hindsight(champion.sequence)
    if judged and judged.as_of < ref.as_of:
        raise NotDue(f"it is known since {judged.as_of:%Y-%m-%d} whether version {champion.version} helped")
    return next(row for row in res.ledger.champions() if row.sequence == champion.against)


def model_input(promotion: Promotion) -> str:
    """A version by number and content, so that a new registry's version 1 is not taken for the old one's."""
    return f"{promotion.version}:{promotion.evidence.get('digest', '')}"


def inputs(ref: PartitionRef, res: Resources) -> dict[str, str]:
    return _inputs(champion_of(ref, res), ref, res)


def shadow_inputs(ref: PartitionRef, res: Resources) -> dict[str, str]:
    return _inputs(challenger_of(ref, res), ref, res)


def previous_inputs(ref: PartitionRef, res: Resources) -> dict[str, str]:
    return _inputs(previous_champion_of(ref, res), ref, res)


def _inputs(by: Promotion, ref: PartitionRef, res: Resources) -> dict[str, str]:
    return {"valid": upstream_record(ref, res, Stage.VALID).digest, "model": model_input(by)}


SCORE = Step("score", Stage.PREDICTIONS, VERSION, inputs, score)
SHADOW = Step("shadow", Stage.SHADOW, VERSION, shadow_inputs, score_shadow)
FORMER = Step("former", Stage.FORMER, VERSION, previous_inputs, score_previous)
