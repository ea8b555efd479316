"""Watch: test a scored partition for drift against its champion's reference. It never starts a training."""

import json
from dataclasses import asdict, replace

from upath import UPath

from configs.monitoring import Monitoring
from tasks.contracts import ColumnDrift, Drift, PartitionRef, Stage
from tasks.drift.alarms import MISSING, NEW, OUTSIDE, Alarm, Check, check, uncalibrated_reason
from tasks.drift.columns import PREDICTION, methods, text_columns
from tasks.drift.distributions import distributions
from tasks.drift.multivariate import multivariate_drift
from tasks.drift.reference import Reference
from tasks.drift.report import write_drift_report
from tasks.drift.sketches import Sketch, sketch
from tasks.resources import Resources
from tasks.steps.drift_reference import (
    feature_importances,
    keys_between,
    partition_sample,
    reference_sample,
    references,
    season_range,
    trailing_keys,
)
from tasks.steps.explain import add_loss_changes
from tasks.steps.score import champion_of, model_input
from tasks.steps.set_aside import columns_set_aside
from tasks.steps.sketch import read_sketches
from tasks.steps.step import Step, StepOutput, upstream_record
from tasks.storage.blocks import block_categories
from tasks.storage.files import digest_json, replacing
from tasks.storage.personal import hash_inputs

VERSION = 6


def watch(ref: PartitionRef, res: Resources) -> StepOutput:
    """Test every column of a partition for drift, and write Evidently's report.

    Raises:
        NotDue: there was no champion yet.
        RegistryUnavailable: MLflow does not answer, and there is no local copy of the champion.
    """
    champion = champion_of(ref, res)
    if not upstream_record(ref, res, Stage.PREDICTIONS).rows:
        return StepOutput(data={"version": champion.version, **asdict(no_drift(res.config.monitoring))})
    current = sketch_current(ref, res)
    against = references(ref, current, champion, res)
    drift = detect_drift(current, against, feature_importances(champion, res), res)
    if rules := res.config.monitoring.multivariate:
        rows = reference_sample(champion, rules.rows, res), partition_sample(ref, rules.rows, res)
        left_out = columns_set_aside(against)
        drift = add_multivariate(drift, multivariate_drift(*rows, champion.version, rules, res.config, left_out))
    drift = add_loss_changes(drift, current, champion, res)
    if res.pages:
        drift = write_drift_report(ref, drift, against, champion, res)
    files = (drift.report, _write_distributions(ref, current, against, res)) if drift.report else ()
    return StepOutput(rows=drift.rows, data={"version": champion.version, **asdict(drift)}, files=files)


def _write_distributions(ref: PartitionRef, current: Sketch, against: list[Reference], res: Resources) -> str:
    """Write the distributions that the model's drift page shows, and return the file's path below the model's folder."""
    path = distributions_file(ref.key, res)
    content = distributions(current, against, res.config.personal)
    with replacing(path) as draft:
        draft.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
    return str(path.relative_to(res.lake.root))


def distributions_file(key: str, res: Resources) -> UPath:
    """Return the file with the distributions of a partition's columns and of their references."""
    return res.lake.path(Stage.MONITORING, key, "distributions")


def no_drift(rules: Monitoring) -> Drift:
    """The verdict for a partition without rows: nothing was tested."""
    return Drift((), 0.0, rules.share, False, 0, rules.alpha, note="the partition has no rows")


def sketch_current(ref: PartitionRef, res: Resources) -> Sketch:
    """The sketch of the partition's features and predictions."""
    config = res.config
    features = read_sketches([ref.key], res)
    scored = res.lake.read(Stage.PREDICTIONS, ref.key, [config.time, PREDICTION])
    blocks = block_categories(scored[config.time], config.monitoring.block, config.partition.timezone)
    predictions = sketch(scored, blocks, (PREDICTION,), text_columns(config))
    return Sketch(features.blocks, features.rows, {**features.columns, **predictions.columns})


def detect_drift(current: Sketch, against: list[Reference], importance: dict[str, float], res: Resources) -> Drift:
    """Test the columns of each reference, and combine the results.

    The columns of one reference are one check. The checks that can be calibrated share `alpha`, see `split_alpha`.

    Args:
        current: Sketch of the partition's features and predictions.
        against: The references; each compared column is in one of them.
        importance: Each feature's share of the permutation importance in the champion.
        res: The model's resources.
    """
    config, rules = res.config, res.config.monitoring
    shares = split_alpha(against, len(current.blocks), rules.alpha)
    columns: list[ColumnDrift] = []
    notes = []
    for at, reference in enumerate(against):
        result = check(
            reference.sketch,
            current.select_columns(reference.columns),
            {name: method for name, method in methods(config).items() if name in reference.columns},
            {MISSING: rules.missing, NEW: rules.new_categories, OUTSIDE: rules.outside},
            alpha=shares.get(at, rules.alpha),
            resamples=rules.resamples,
            seed=config.training.seed,
        )
        columns += [column_drift(alarm, reference, result, importance) for alarm in result.alarms]
        if why := reference.missing_reason or result.note:
            notes.append(f"{', '.join(reference.columns[:3])}{' ...' if len(reference.columns) > 3 else ''}: {why}")
    shown = tuple(sorted((c for c in columns if is_reportable(c)), key=sort_key))
    share = len({c.column for c in columns if c.drifted}) / len(methods(config))
    return Drift(
        columns=shown,
        share=share,
        threshold=rules.share,
        detected=share > 0 and share >= rules.share,
        rows=int(current.rows.sum()),
        alpha=rules.alpha,
        blocks=len(current.blocks),
        references={", ".join(r.columns): r.description for r in against},
        note="; ".join(notes),
    )


def split_alpha(against: list[Reference], blocks: int, alpha: float) -> dict[int, float]:
    """Split `alpha` among the references in proportion to their numbers of columns.

    A reference with too few blocks for its share gets none, and the others share it.

    Returns:
        The share of each reference that has one, by its position in `against`.
    """
    usable = [at for at, r in enumerate(against) if not r.missing_reason]
    while usable:
        total = sum(len(against[at].columns) for at in usable)
        shares = {at: alpha * len(against[at].columns) / total for at in usable}
        calibrated = [
            at for at in usable if not uncalibrated_reason(len(against[at].sketch.blocks), blocks, shares[at])
        ]
        if calibrated == usable:
            return shares
        usable = calibrated
    return {}


def add_multivariate(drift: Drift, signal: ColumnDrift) -> Drift:
    """Add the signal of all features together. It can detect drift alone, and is not counted in the share of columns."""
    columns = (signal, *drift.columns) if signal.drifted else (*drift.columns, signal)
    note = "; ".join(n for n in (drift.note, signal.note and f"{signal.column}: {signal.note}") if n)
    return replace(drift, columns=columns, detected=drift.detected or signal.drifted, note=note)


def column_drift(alarm: Alarm, reference: Reference, result: Check, importance: dict[str, float]) -> ColumnDrift:
    """Convert an alarm for the record: NaN becomes None, and without a reference nothing counts as drifted."""
    score, threshold, p_value = (None if x != x else x for x in (alarm.score, alarm.threshold, alarm.p_value))
    counts = not reference.missing_reason and threshold is not None
    return ColumnDrift(
        column=alarm.column,
        method=alarm.kind,
        score=score,
        threshold=threshold if counts else None,
        drifted=alarm.drifted and counts,
        effect=alarm.effect,
        p_value=p_value if counts else None,
        importance=importance.get(alarm.column),
        reference=reference.description,
        note=reference.missing_reason or result.note or ("" if score is not None else "one side has no values"),
    )


def is_reportable(c: ColumnDrift) -> bool:
    """Whether a signal is in the record: every score, and other signals that drifted or reach half of their effect size."""
    return c.drifted or c.method not in (MISSING, NEW, OUTSIDE) or (c.score or 0.0) >= c.effect / 2


def sort_key(c: ColumnDrift) -> tuple[bool, float, str]:
    """Sort key: drifted columns first, then by importance times distance to the threshold. The prediction has importance 1."""
    weight = 1.0 if c.column == PREDICTION else (c.importance or 0.0)
    distance = (c.score or 0.0) / (c.threshold or c.effect)
    return not c.drifted, -weight * distance, c.column


def inputs(ref: PartitionRef, res: Resources) -> dict[str, str]:
    """Return the digests of predictions, sketches, champion, `monitoring`, and of the partitions of a trailing or seasonal reference."""
    scored, rules = upstream_record(ref, res, Stage.PREDICTIONS), res.config.monitoring
    hidden = hash_inputs(res.config)
    digests = {
        "predictions": scored.digest,
        "sketches": upstream_record(ref, res, Stage.SKETCHES).digest,
        "model": model_input(champion_of(ref, res)),
        "config": digest_json(
            [rules.model_dump(exclude={"decay"}), hidden] if hidden else rules.model_dump(exclude={"decay"})
        ),
    }
    others = trailing_keys(ref, res) if rules.reference == "trailing" else []
    if rules.seasonal or rules.reference == "season":
        others = [*others, *keys_between(*season_range(ref), res, whole=False)]
    if others:
        digests["reference"] = digest_json([[k, res.lake.done(Stage.VALID, k).digest] for k in others])
    return digests


WATCH = Step("watch", Stage.MONITORING, VERSION, inputs, watch)
