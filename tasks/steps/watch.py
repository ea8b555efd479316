"""Compare a scored partition with what its champion knows. Writes what it found, never starts a training."""

from dataclasses import asdict, replace

from configs.monitoring import Monitoring
from tasks.contracts import ColumnDrift, Drift, PartitionRef, Stage
from tasks.drift.alarms import MISSING, NEW, OUTSIDE, Alarm, Check, check, uncalibrated
from tasks.drift.columns import PREDICTION, methods, texts
from tasks.drift.multivariate import multivariate_drift
from tasks.drift.reference import Reference
from tasks.drift.report import show
from tasks.drift.sketches import Sketch, sketch
from tasks.resources import Resources
from tasks.steps.drift_reference import (
    a_year_before,
    before,
    feature_importances,
    keys_between,
    partition_sample,
    reference_sample,
    references,
)
from tasks.steps.score import champion_of, model_input
from tasks.steps.sketch import read_sketches
from tasks.steps.step import Step, StepOutput, upstream_record
from tasks.storage.blocks import block_categories
from tasks.storage.files import digest_json

VERSION = 4


def watch(ref: PartitionRef, res: Resources) -> StepOutput:
    """Judge every column of a partition, and show the same on Evidently's page.

    Raises:
        RegistryUnavailable: MLflow does not answer and the champion was never fetched before.
    """
    champion = champion_of(ref, res)
    current = sketch_current(ref, res)
    against = references(ref, current, champion, res)
    drift = judge(current, against, feature_importances(champion, res), res)
    if rules := res.config.monitoring.multivariate:
        rows = reference_sample(champion, rules.rows, res), partition_sample(ref, rules.rows, res)
        drift = with_all_features(drift, multivariate_drift(*rows, champion.version, rules, res.config))
    if res.pages:
        drift = show(ref, drift, against, champion, res)
    return StepOutput(rows=drift.rows, data={"version": champion.version, **asdict(drift)})


def sketch_current(ref: PartitionRef, res: Resources) -> Sketch:
    """The partition's features as they were sketched, and its predictions beside them."""
    config = res.config
    features = read_sketches([ref.key], res)
    scored = res.lake.read(Stage.PREDICTIONS, ref.key, [config.time, PREDICTION])
    blocks = block_categories(scored[config.time], config.monitoring.block, config.partition.timezone)
    said = sketch(scored, blocks, (PREDICTION,), texts(config))
    return Sketch(features.blocks, features.rows, {**features.columns, **said.columns})


def judge(current: Sketch, against: list[Reference], importance: dict[str, float], res: Resources) -> Drift:
    """The verdict. Each reference's columns are one check; those that can be judged share `alpha` out by their numbers of columns."""
    config, rules = res.config, res.config.monitoring
    shares = shared_out(against, len(current.blocks), rules.alpha)
    columns: list[ColumnDrift] = []
    notes = []
    for at, reference in enumerate(against):
        found = check(
            reference.sketch,
            current.of(reference.columns),
            {name: method for name, method in methods(config).items() if name in reference.columns},
            {MISSING: rules.missing, NEW: rules.new_categories, OUTSIDE: rules.outside},
            alpha=shares.get(at, rules.alpha),
            resamples=rules.resamples,
            seed=config.training.seed,
        )
        columns += [column_drift(alarm, reference, found, importance, rules) for alarm in found.alarms]
        if why := reference.gap or found.note:
            notes.append(f"{', '.join(reference.columns[:3])}{' ...' if len(reference.columns) > 3 else ''}: {why}")
    shown = tuple(sorted((c for c in columns if is_reportable(c)), key=rank))
    share = len({c.column for c in columns if c.drifted}) / len(methods(config))
    return Drift(
        columns=shown,
        share=share,
        threshold=rules.share,
        detected=share > 0 and share >= rules.share,
        rows=int(current.rows.sum()),
        alpha=rules.alpha,
        blocks=len(current.blocks),
        references={", ".join(r.columns): r.told for r in against},
        note="; ".join(notes),
    )


def shared_out(against: list[Reference], blocks: int, alpha: float) -> dict[int, float]:
    """The share of `alpha` of each reference that can be judged with it, by position; by their numbers of columns.

    A reference that is too short for its share gives it to the others.
    """
    usable = [at for at, r in enumerate(against) if not r.gap]
    while usable:
        counted = sum(len(against[at].columns) for at in usable)
        shares = {at: alpha * len(against[at].columns) / counted for at in usable}
        able = [at for at in usable if not uncalibrated(len(against[at].sketch.blocks), blocks, shares[at])]
        if able == usable:
            return shares
        usable = able
    return {}


def with_all_features(drift: Drift, found: ColumnDrift) -> Drift:
    """The verdict with the signal of all features together; it detects by itself, and does not count as a column."""
    columns = (found, *drift.columns) if found.drifted else (*drift.columns, found)
    note = "; ".join(n for n in (drift.note, found.note and f"{found.column}: {found.note}") if n)
    return replace(drift, columns=columns, detected=drift.detected or found.drifted, note=note)


def column_drift(
    alarm: Alarm, reference: Reference, found: Check, importance: dict[str, float], rules: Monitoring
) -> ColumnDrift:
    """An alarm for the record, which has no NaN."""
    score, threshold, p_value = (None if x != x else x for x in (alarm.score, alarm.threshold, alarm.p_value))
    counts = not reference.gap and threshold is not None
    return ColumnDrift(
        column=alarm.column,
        method=alarm.kind,
        score=score,
        threshold=threshold if counts else None,
        drifted=alarm.drifted and counts,
        effect=alarm.effect,
        p_value=p_value if counts else None,
        importance=importance.get(alarm.column),
        reference=reference.told,
        note=reference.gap or found.note or ("" if score is not None else "a side has no value"),
    )


def is_reportable(c: ColumnDrift) -> bool:
    """Every score, and of the other signals those that moved by half of what matters."""
    return c.drifted or c.method not in (MISSING, NEW, OUTSIDE) or (c.score or 0.0) >= c.effect / 2


def rank(c: ColumnDrift) -> tuple[bool, float, str]:
    """What drifted first; among those, importance in the champion times drift. The prediction weighs like the whole model."""
    weight = 1.0 if c.column == PREDICTION else (c.importance or 0.0)
    distance = (c.score or 0.0) / (c.threshold or c.effect)
    return not c.drifted, -weight * distance, c.column


def inputs(ref: PartitionRef, res: Resources) -> dict[str, str]:
    scored, rules = upstream_record(ref, res, Stage.PREDICTIONS), res.config.monitoring
    wanted = {
        "predictions": scored.digest,
        "sketches": upstream_record(ref, res, Stage.SKETCHES).digest,
        "model": model_input(champion_of(ref, res)),
        "config": digest_json(rules.model_dump(exclude={"decay"})),
    }
    others = before(ref, res) if rules.reference == "trailing" else []
    if rules.seasonal or rules.reference == "season":
        others = [*others, *keys_between(*a_year_before(ref), res, whole=False)]
    if others:
        wanted["reference"] = digest_json([[k, res.lake.done(Stage.VALID, k).digest] for k in others])
    return wanted


WATCH = Step("watch", Stage.MONITORING, VERSION, inputs, watch)
