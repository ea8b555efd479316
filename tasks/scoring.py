"""Score a partition with the version that was champion at its as-of."""

from tasks.contracts import PartitionRef, Promotion, Stage
from tasks.features import predict
from tasks.resources import Resources
from tasks.stages import Made, NotDue, Step, made_from

VERSION = 1


def score(ref: PartitionRef, res: Resources) -> Made:
    """Write key, time, prediction, model version and as-of of every valid row.

    The prediction is the probability of the positive class.

    Raises:
        RegistryUnavailable: MLflow does not answer and this version was never fetched before.
    """
    champion = champion_of(ref, res)
    frame = res.lake.read(Stage.VALID, ref.key)
    scored = frame[[res.config.key, res.config.time]].assign(
        prediction=predict(res.registry.load(champion.version), frame, res.config.features),
        model_version=champion.version,
        as_of=ref.as_of,
    )
    digest = res.lake.write_frame(Stage.PREDICTIONS, ref.key, scored)
    seen = champion.window_end > ref.start
    return Made(rows=len(scored), digest=digest, data={"version": champion.version, "trained_on_it": seen})


def champion_of(ref: PartitionRef, res: Resources) -> Promotion:
    """The promotion in force at the partition's as-of.

    Raises:
        NotDue: there was no champion yet.
    """
    champion = res.ledger.champion(ref.as_of)
    if champion is None:
        raise NotDue(f"no champion before {ref.as_of.isoformat()}; run `train` for an earlier moment to score {ref}")
    return champion


def model_input(promotion: Promotion) -> str:
    """A version by number and content, so that a new registry's version 1 is not taken for the old one's."""
    return f"{promotion.version}:{promotion.evidence.get('digest', '')}"


def inputs(ref: PartitionRef, res: Resources) -> dict[str, str]:
    return {"valid": made_from(ref, res, Stage.VALID).digest, "model": model_input(champion_of(ref, res))}


SCORE = Step("score", Stage.PREDICTIONS, VERSION, inputs, score)
