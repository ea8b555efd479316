"""Score a partition with the champion at its as-of, and in shadow mode with the challenger and the previous champion."""

from typing import TYPE_CHECKING, Any

from tasks.contracts import PartitionRef, Promotion, Stage
from tasks.ledger.history import champion_periods
from tasks.models.features import input_features, predict
from tasks.models.targets import prediction_columns
from tasks.resources import Resources
from tasks.steps.serving_skew import compare_with_served
from tasks.steps.step import NotDue, Step, StepOutput, upstream_record

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 1


def score(ref: PartitionRef, res: Resources) -> StepOutput:
    """Write key, time, prediction, model version and as-of of every valid row. `tasks/models/targets.py` defines the predictions.

    Raises:
        NotDue: there was no champion yet.
        RegistryUnavailable: MLflow does not answer, and there is no local copy of the version.
    """
    return _score(Stage.PREDICTIONS, champion_of(ref, res), ref, res)


def score_shadow(ref: PartitionRef, res: Resources) -> StepOutput:
    """Like `score`, by the challenger. These predictions are only used to decide on its promotion."""
    return _score(Stage.SHADOW, challenger_of(ref, res), ref, res)


def score_previous(ref: PartitionRef, res: Resources) -> StepOutput:
    """Like `score`, by the previous champion, until the effect of its replacement is measured."""
    return _score(Stage.FORMER, previous_champion_of(ref, res), ref, res)


def _score(stage: Stage, promotion: Promotion, ref: PartitionRef, res: Resources) -> StepOutput:
    model = res.load(promotion.version, res.threads)
    columns = [res.config.key, res.config.time, *input_features(model, res.config).all]
    tables = (
        score_batch(batch, model, promotion, ref, res) for batch in res.lake.batches(Stage.VALID, ref.key, columns)
    )
    rows, digest = res.lake.write_batches(stage, ref.key, tables)
    trained_on_it = promotion.window_end > ref.start
    served = compare_with_served(stage, promotion, ref, res)
    return StepOutput(rows, digest, {"version": promotion.version, "trained_on_it": trained_on_it, **served})


def score_batch(batch: "pa.Table", model: Any, promotion: Promotion, ref: PartitionRef, res: Resources) -> "pa.Table":
    """Key, time, predictions, version and as-of of some valid rows."""
    import pyarrow as pa

    config, frame = res.config, batch.to_pandas()
    predictions = prediction_columns(predict(model, frame, config), config.target)
    scored = frame[[config.key, config.time]].assign(**predictions, model_version=promotion.version, as_of=ref.as_of)
    if res.variant.name:
        scored["variant"] = res.variant.name
    return pa.Table.from_pandas(scored, preserve_index=False)


def champion_of(ref: PartitionRef, res: Resources) -> Promotion:
    """The promotion of the champion at the partition's as-of, or of the version with which a variant scores.

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
    """The promotion of the version that made a partition's predictions, whatever the ref's as-of.

    Raises:
        NotDue: the partition is not scored.
    """
    return champion_of(res.ref(ref.key, upstream_record(ref, res, Stage.PREDICTIONS).as_of), res)


def challenger_of(ref: PartitionRef, res: Resources) -> Promotion:
    """The promotion that made the challenger at the partition's as-of.

    Raises:
        NotDue: there was no challenger, or the model has no shadow stage.
    """
    shadow = res.config.promotion.shadow.partitions and not res.variant.champion
    challenger = res.ledger.challenger(ref.as_of) if shadow else None
    if challenger is None:
        raise NotDue("no challenger")
    return challenger


def previous_champion_of(ref: PartitionRef, res: Resources) -> Promotion:
    """The promotion of the champion before the one at the partition's as-of.

    Raises:
        NotDue: there was none, or the effect of the replacement is measured already.
    """
    if res.variant.champion:
        raise NotDue("no version was replaced")
    champions = [row for row in champion_periods(res.ledger.promotions()) if row.as_of < ref.as_of]
    champion = champions[-1] if champions else None
    replaced = champion is not None and champion.action in ("promote", "adopt") and champion.against
    if champion is None or not replaced or not res.config.retraining.hindsight.partitions:
        raise NotDue("no version was replaced")
    hindsight = res.ledger.hindsight(champion.sequence)
    if hindsight and hindsight.as_of < ref.as_of:
        raise NotDue(f"the effect of version {champion.version} was measured on {hindsight.as_of:%Y-%m-%d}")
    return next(row for row in res.ledger.champions() if row.sequence == champion.against)


def model_input(promotion: Promotion) -> str:
    """Version number and digest of the model, so that the same number in a new registry is another input."""
    return f"{promotion.version}:{promotion.evidence.get('digest', '')}"


def inputs(ref: PartitionRef, res: Resources) -> dict[str, str]:
    """Return the digests of the valid rows and of the champion."""
    return _inputs(champion_of(ref, res), ref, res)


def shadow_inputs(ref: PartitionRef, res: Resources) -> dict[str, str]:
    """Return the digests of the valid rows and of the challenger."""
    return _inputs(challenger_of(ref, res), ref, res)


def previous_inputs(ref: PartitionRef, res: Resources) -> dict[str, str]:
    """Return the digests of the valid rows and of the previous champion."""
    return _inputs(previous_champion_of(ref, res), ref, res)


def _inputs(promotion: Promotion, ref: PartitionRef, res: Resources) -> dict[str, str]:
    return {"valid": upstream_record(ref, res, Stage.VALID).digest, "model": model_input(promotion)}


SCORE = Step("score", Stage.PREDICTIONS, VERSION, inputs, score)
SHADOW = Step("shadow", Stage.SHADOW, VERSION, shadow_inputs, score_shadow)
PREVIOUS = Step("former", Stage.FORMER, VERSION, previous_inputs, score_previous)
