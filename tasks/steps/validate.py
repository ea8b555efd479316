"""Validate a partition: accept valid rows, quarantine invalid ones with their reasons, or block the partition."""

from dataclasses import asdict

from tasks.contracts import PartitionRef, Stage
from tasks.resources import Resources
from tasks.steps.step import Step, StepOutput, upstream_record
from tasks.storage.files import digest_json
from tasks.storage.personal import hash_inputs, hider
from tasks.validation.expectations import ROW_COUNTS, structural_expectations, validate_frame

VERSION = 1


def validate(ref: PartitionRef, res: Resources) -> StepOutput:
    """Split raw rows into valid and quarantined ones by the model's expectations.

    The partition is blocked if a critical expectation fails, or if a check raises an error. Then its invalid rows are quarantined
    too, but no rows are written as valid. A partition without rows is not blocked, unless model.yaml has an expectation of the number
    of rows: the other expectations are about rows or columns and are not checked then.
    """
    frame = res.lake.read(Stage.RAW, ref.key)
    expectations = structural_expectations(res.config) + res.config.expectations
    if frame.empty:
        expectations = tuple(e for e in expectations if e.type in ROW_COUNTS)
    personal = res.config.personal
    result = validate_frame(frame, expectations, res.config.key, personal, hider(res.config))
    bad = frame.iloc[sorted(result.bad)].assign(reasons=["; ".join(result.bad[i]) for i in sorted(result.bad)])
    quarantine = res.lake.path(Stage.QUARANTINE, ref.key)
    files = (str(quarantine.relative_to(res.lake.root)),) if len(bad) else ()
    if len(bad):
        res.lake.write_frame(Stage.QUARANTINE, ref.key, bad)
    else:
        quarantine.unlink(missing_ok=True)
    data = {
        "quarantined": len(bad),
        "reasons": bad["reasons"].value_counts().head(20).to_dict(),
        "findings": [asdict(f) for f in result.findings],
        **({"empty": True} if frame.empty else {}),
    }
    if result.blocking:
        return StepOutput(data=data, blocked="; ".join(f.message for f in result.blocking), files=files)
    good = frame.drop(index=frame.index[sorted(result.bad)])
    digest = res.lake.write_frame(Stage.VALID, ref.key, good)
    return StepOutput(rows=len(good), digest=digest, data=data, files=files)


def inputs(ref: PartitionRef, res: Resources) -> dict[str, str]:
    """Return the digests of the raw rows and of the expectations.

    Without rows there is one more input, so that a partition that was blocked for that by an earlier version is validated again.
    """
    raw, rules = upstream_record(ref, res, Stage.RAW), [e.model_dump() for e in res.config.expectations]
    rules += hash_inputs(res.config)
    inputs = {"raw": raw.digest, "expectations": digest_json(rules)}
    return inputs if raw.rows else inputs | {"rows": "0"}


VALIDATE = Step("validate", Stage.VALID, VERSION, inputs, validate)
