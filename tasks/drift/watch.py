"""Compare a scored partition with what its champion learned from. Writes facts, never starts a training."""

from dataclasses import asdict

from tasks.contracts import PartitionRef, Stage
from tasks.drift.reference import reference
from tasks.drift.report import compare
from tasks.lake import digest_json
from tasks.resources import Resources
from tasks.scoring import champion_of, model_input
from tasks.stages import Made, Step, made_from

VERSION = 1


def watch(ref: PartitionRef, res: Resources) -> Made:
    """Write the Evidently report of a partition, and the verdict that the report shows.

    Raises:
        RegistryUnavailable: MLflow does not answer and the champion was never fetched before.
    """
    config, champion = res.config, champion_of(ref, res)
    valid, scored = res.lake.read(Stage.VALID, ref.key), res.lake.read(Stage.PREDICTIONS, ref.key)
    current = valid.set_index(config.key)[list(config.features.all)].assign(prediction=scored["prediction"].to_numpy())
    drift = compare(
        current,
        reference(champion, res),
        config,
        title=f"{ref} against the training data of version {champion.version}",
        html=res.lake.path(Stage.MONITORING, ref.key, "html"),
        workspace=res.settings.evidently_workspace,
        metadata={
            "model": ref.model,
            "partition": ref.key,
            "version": champion.version,
            "as_of": ref.as_of.isoformat(),
        },
        at=ref.start,
    )
    return Made(rows=len(current), data={"version": champion.version, **asdict(drift)})


def inputs(ref: PartitionRef, res: Resources) -> dict[str, str]:
    scored = made_from(ref, res, Stage.PREDICTIONS)
    rules = digest_json(res.config.monitoring.model_dump())
    return {"predictions": scored.digest, "model": model_input(champion_of(ref, res)), "config": rules}


WATCH = Step("watch", Stage.MONITORING, VERSION, inputs, watch)
