"""Sketch the features of a validated partition, and read the sketches of several partitions as one."""

from collections.abc import Sequence

from configs.schema import ModelConfig
from tasks.contracts import PartitionRef, Stage
from tasks.drift.sketch_file import from_frame, to_frame
from tasks.drift.sketches import Sketch, sketch, union
from tasks.resources import Resources
from tasks.steps.step import Step, StepOutput, advance, upstream_record
from tasks.storage.blocks import block_categories
from tasks.storage.files import digest_json
from tasks.storage.personal import hash_inputs, hide_categories

VERSION = 2


def sketch_partition(ref: PartitionRef, res: Resources) -> StepOutput:
    """Sketch every feature that the partition has, by block of time."""
    config = res.config
    frame = res.lake.read(Stage.VALID, ref.key, [config.time, *config.features.all])
    blocks = block_categories(frame[config.time], config.monitoring.block, config.partition.timezone)
    names = [name for name in config.features.all if name in frame]
    features = sketch(hide_categories(config, frame), blocks, names, config.features.categorical)
    digest = res.lake.write_frame(Stage.SKETCHES, ref.key, to_frame(features))
    return StepOutput(len(frame), digest, {"blocks": len(features.blocks)})


def read_sketches(keys: Sequence[str], res: Resources) -> Sketch:
    """The union of the sketches of validated partitions, with the features that all of them have. Missing sketches are made first.

    Raises:
        MissingPartition: a partition was never validated; run `backfill`.
    """
    parts = []
    for key in keys:
        advance(SKETCH, res.ref(key), res)
        parts.append(from_frame(res.lake.read(Stage.SKETCHES, key)))
    return union(parts) if parts else empty_sketch(res.config)


def empty_sketch(config: ModelConfig) -> Sketch:
    """A sketch of no rows."""
    import pandas as pd

    frame = pd.DataFrame({name: [] for name in config.features.all})
    return sketch(frame, frame.index.to_numpy(), config.features.all, config.features.categorical)


def inputs(ref: PartitionRef, res: Resources) -> dict[str, str]:
    """Return the digests of the valid rows, and of columns and blocks in the config."""
    config = res.config
    rules = [
        config.features.columns,
        config.monitoring.block,
        config.partition.timezone,
        config.time,
        *hash_inputs(config),
    ]
    return {"valid": upstream_record(ref, res, Stage.VALID).digest, "config": digest_json(rules)}


SKETCH = Step("sketch", Stage.SKETCHES, VERSION, inputs, sketch_partition)
