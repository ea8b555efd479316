"""Measure how stale the champion is: its loss on a matured partition, compared with a new fit of its recipe.

The new fit has the window that a training just before the partition would have had. It is not registered and never scores for users. It
costs one fit per matured partition: no search, no gate, no person.
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from tasks.contracts import PartitionRef, Promotion, Recipe, Record, Stage, Window
from tasks.errors import EvergreenError
from tasks.ledger.history import champion_periods
from tasks.lifecycle.expected_gain import Staleness
from tasks.models.bootstrap import mean_bounds
from tasks.models.features import predict
from tasks.models.metrics import LEVEL, finite, row_loss
from tasks.models.targets import outcomes
from tasks.orchestration.prefect_tasks import as_task, run_log
from tasks.resources import Resources
from tasks.steps.collect import labelled_rows
from tasks.steps.decay import losses_by_block
from tasks.steps.run import collect_labels
from tasks.steps.score import scored_by
from tasks.steps.step import VALUE_ERRORS, NotDue, Step, StepOutput, advance, done_record, upstream_record
from tasks.storage.blocks import labelled_blocks
from tasks.storage.files import digest_json
from tasks.storage.partitions import containing
from tasks.training.fit import fit_recipe, training_ends
from tasks.training.shortage import require_enough_rows
from tasks.training.window import locate_window, rows_to_fit, training_inputs

VERSION = 1
Blocks = Sequence[Sequence[float]]
"""Losses as in a performance record: block, rows, sum of their losses."""


def window_before(ref: PartitionRef, res: Resources) -> Window:
    """Return the window of a training as of the moment at which the partition before `ref` was complete.

    Raises:
        NotEnoughData, MissingPartition: See `locate_window`.
    """
    return locate_window(res, containing(res.config, ref.start - timedelta(microseconds=1)).complete)


def measure_staleness(ref: PartitionRef, res: Resources) -> StepOutput:
    """Return the champion's loss minus that of the new fit, with its 95 % interval, and the difference of their ages in partitions.

    If the champion's window is as new as that of the fit, nothing is fitted, and the previous champion is compared with the champion.
    """
    assessed, champion = upstream_record(ref, res, Stage.PERFORMANCE), scored_by(ref, res)
    if champion.window_end > ref.start:
        return StepOutput(
            data={"version": champion.version, "gain": None, "note": "the champion learned from this partition"}
        )
    window, own = window_before(ref, res), assessed.data["blocks"]
    until, end = training_ends(_role(res), window, res)
    at = ref.at(assessed.as_of)
    if end > champion.window_end:
        recipe = res.registry.cached_version(champion.version).recipe
        key = [
            "staleness",
            VERSION,
            *_fit_inputs(recipe, window, res),
            ref.key,
            at.as_of,
            assessed.inputs[Stage.LABELS],
        ]
        losses = res.cache.result(
            list[list[float]], lambda: key, lambda: _losses(_new_fit(recipe, window, until, res), at, res)
        )
        return _measurement(champion.version, (end - champion.window_end) / (ref.end - ref.start), own, losses, res)
    earlier = previous_champion(champion, res)
    if earlier is None or earlier.window_end >= champion.window_end:
        return StepOutput(data={"version": champion.version, "gain": None, "note": "no older champion to compare with"})
    losses = _losses(res.load(earlier.version), at, res)
    return _measurement(
        earlier.version, (champion.window_end - earlier.window_end) / (ref.end - ref.start), losses, own, res
    )


def previous_champion(champion: Promotion, res: Resources) -> Promotion | None:
    """Return the row of the champion before this one."""
    periods = [row for row in champion_periods(res.ledger.promotions()) if row.sequence < champion.sequence]
    return periods[-1] if periods else None


def _role(res: Resources) -> str:
    return "refit" if res.config.training.refit == "window" else "challenger"


def _measurement(version: str, age: float, old: Blocks, new: Blocks, res: Resources) -> StepOutput:
    """Return the mean difference of two losses of the same rows by block, and its interval; without it if they are not the same rows."""
    data: dict[str, Any] = {"version": version, "age": age, "gain": None, "note": ""}
    if not new or [block[:2] for block in new] != [block[:2] for block in old]:
        note = "a loss is not finite, or the labels have changed since the partition was assessed"
        return StepOutput(data=data | {"note": note})
    rows = np.array([block[1] for block in old], dtype="float64")
    sums = np.array([a[2] - b[2] for a, b in zip(old, new, strict=True)])
    gain = mean_bounds(sums, rows, LEVEL, res.config.gate.gain.resamples, res.config.training.seed)
    return StepOutput(
        rows=int(rows.sum()), data=data | finite({"gain": gain.value, "lower": gain.lower, "upper": gain.upper})
    )


def _new_fit(recipe: Recipe, window: Window, until: datetime, res: Resources) -> Any:
    """Fit the recipe on the window's rows before `until`."""
    rows = rows_to_fit(res, window, until)
    require_enough_rows(res.config, rows, f"from {window.start:%Y-%m-%dT%H:%M%z} to {until:%Y-%m-%dT%H:%M%z}")
    return fit_recipe(recipe, rows, until, res)


def _losses(model: Any, ref: PartitionRef, res: Resources) -> list[list[float]]:
    """Return a model's losses on a partition by block of time, by the outcomes that were known as of the ref's moment."""
    config, labelled = res.config, labelled_rows(ref.key, ref.as_of, res)
    losses = row_loss(outcomes(labelled, config.target), predict(model, labelled, config), config.target)
    return losses_by_block(losses, labelled_blocks(labelled, config))


def _fit_inputs(recipe: Recipe, window: Window, res: Resources) -> list[Any]:
    return [asdict(recipe), *training_inputs(window, res)]


def inputs(ref: PartitionRef, res: Resources) -> dict[str, str]:
    """Return the digests of the assessment, of the recipe and of the window that it is fitted on."""
    assessed, champion = upstream_record(ref, res, Stage.PERFORMANCE), scored_by(ref, res)
    recipe = res.registry.cached_version(champion.version).recipe
    return {
        "assessed": digest_json([assessed.version, assessed.inputs]),
        "champion": champion.version,
        "fit": digest_json(_fit_inputs(recipe, window_before(ref, res), res)),
    }


STALENESS = Step("measure staleness", Stage.STALENESS, VERSION, inputs, measure_staleness, moment="matured")


@as_task("measure staleness")
def update_staleness(res: Resources, as_of: datetime) -> Record | None:
    """Measure staleness on the newest partition that had matured and was assessed as of a moment. A failure is logged.

    Earlier partitions without a measurement, after a backfill, stay without one.

    Raises:
        FutureRead: A replay read data from after the simulated time.
    """
    newest = next((ref for ref in _matured(res, as_of) if done_record(Stage.PERFORMANCE, ref, res)), None)
    if newest is None:
        return None
    try:
        collect_labels(window_before(newest, res), res, lambda step, ref: advance(step, ref, res))
        return advance(STALENESS, newest, res)
    except (EvergreenError, NotDue, MemoryError, *VALUE_ERRORS) as error:
        run_log().warning("staleness on %s is not measured: %s", newest, error)
        return None


def _matured(res: Resources, as_of: datetime) -> list[PartitionRef]:
    """Return the assessed partitions that had matured as of a moment, newest first."""
    refs = (res.ref(key) for key in reversed(res.lake.keys(Stage.PERFORMANCE)))
    return [ref for ref in refs if ref.matured <= as_of]


def measured_staleness(res: Resources, as_of: datetime) -> list[Staleness]:
    """Return the measurements on partitions that had matured as of a moment, oldest first."""
    records = [record for ref in _matured(res, as_of)[::-1] if (record := done_record(Stage.STALENESS, ref, res))]
    return [
        Staleness(str(r.data["version"]), float(r.data["age"]), float(r.data["gain"]))
        for r in records
        if r.data["gain"] is not None
    ]
