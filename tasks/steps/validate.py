"""Let a partition's good rows in, put the bad ones aside with their reasons, or block the whole of it."""

from dataclasses import asdict

from tasks.contracts import PartitionRef, Stage
from tasks.resources import Resources
from tasks.steps.step import Step, StepOutput, upstream_record
from tasks.storage.files import digest_json
from tasks.validation.expectations import check, structural

VERSION = 1


def validate(ref: PartitionRef, res: Resources) -> StepOutput:
    """Split raw rows into valid and quarantined ones by the model's expectations.

    The partition is blocked when a critical expectation fails as a whole or a check could not
    be made; its bad rows are in quarantine then too, but no row is valid.
    """
    frame = res.lake.read(Stage.RAW, ref.key)
    found = check(frame, structural(res.config) + res.config.expectations, res.config.key)
    bad = frame.iloc[sorted(found.bad)].assign(reasons=["; ".join(found.bad[i]) for i in sorted(found.bad)])
    if len(bad):
        res.lake.write_frame(Stage.QUARANTINE, ref.key, bad)
    else:
        res.lake.path(Stage.QUARANTINE, ref.key).unlink(missing_ok=True)
    data = {
        "quarantined": len(bad),
        "reasons": bad["reasons"].value_counts().head(20).to_dict(),
        "findings": [asdict(f) for f in found.findings],
    }
    if found.blocking:
        return StepOutput(data=data, blocked="; ".join(f.complaint for f in found.blocking))
    good = frame.drop(index=frame.index[sorted(found.bad)])
    return StepOutput(rows=len(good), digest=res.lake.write_frame(Stage.VALID, ref.key, good), data=data)


def inputs(ref: PartitionRef, res: Resources) -> dict[str, str]:
    rules = [e.model_dump() for e in res.config.expectations]
    return {"raw": upstream_record(ref, res, Stage.RAW).digest, "expectations": digest_json(rules)}


VALIDATE = Step("validate", Stage.VALID, VERSION, inputs, validate)
