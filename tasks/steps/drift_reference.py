"""References of the drift test: the champion's training window, trailing partitions, the season a year earlier, holdout predictions.

No reference has blocks of the partition itself, or any later ones.
"""

import io
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from upath import UPath

from configs.schema import ModelConfig
from tasks.contracts import PartitionRef, Promotion, Stage, Version
from tasks.drift.columns import PREDICTION, methods, text_columns
from tasks.drift.reference import Reference, sample_evenly
from tasks.drift.sketch_file import from_frame, to_frame
from tasks.drift.sketches import Sketch, sketch
from tasks.errors import UnknownVersion
from tasks.models.importance import importances
from tasks.resources import Resources
from tasks.steps.holdout import empty_holdout, holdout_rows, judged_version, labelled_holdout, validated_keys
from tasks.steps.score import champion_of
from tasks.steps.set_aside import split_by_counting
from tasks.steps.sketch import empty_sketch, read_sketches
from tasks.steps.step import NotDue
from tasks.storage.blocks import block_categories
from tasks.storage.files import digest_json, replacing
from tasks.storage.partitions import floor, format_key
from tasks.storage.personal import hash_inputs

if TYPE_CHECKING:
    import pandas as pd

MAX_BLOCKS = 400
"""Maximum blocks of a reference. Of a longer window, evenly spaced blocks are used: more than about a year of days adds no power."""
SEASON_PADDING = timedelta(days=15)
"""How far the season a year earlier extends beyond the same days, on either side."""
NO_EARLIER_YEAR = "no partition of a year earlier to compare with"
NO_COLUMN = "the reference does not have this column yet"


def references(ref: PartitionRef, current: Sketch, champion: Promotion, res: Resources) -> list[Reference]:
    """The references of a partition. Each compared column is in one of them.

    A column that cannot be tested is in a reference with a `missing_reason`.

    Args:
        ref: The partition.
        current: Its sketch; its blocks are excluded from the references.
        champion: The promotion of the champion.
        res: The model's resources.

    Raises:
        MissingPartition: a partition of the training window no longer exists.
        RegistryUnavailable: MLflow does not answer, and there is no local copy of the champion.
    """
    rules, version = res.config.monitoring, res.registry.cached_version(champion.version)
    seasonal = tuple(c for c in methods(res.config) if c in rules.seasonal and c != PREDICTION)
    other = tuple(c for c in methods(res.config) if c not in seasonal and c != PREDICTION)
    default = {"training": _training, "trailing": _trailing, "season": _season}[rules.reference]
    chosen = [default(other, ref, version, champion, res)] if other else []
    if seasonal:
        yearly = _season(seasonal, ref, version, champion, res)
        if yearly.missing_reason and rules.reference != "season":
            yearly = replace(default(seasonal, ref, version, champion, res), missing_reason=NO_EARLIER_YEAR)
        chosen.append(yearly)
    chosen.append(_predictions(ref, version, champion, res))
    split = [part for reference in chosen for part in _split_by_available(reference, res.config)]
    others = [replace(r, sketch=exclude_blocks(r.sketch.select_columns(r.columns), current)) for r in split]
    return [part for reference in others for part in split_by_counting(reference, current, res.config)]


def _split_by_available(reference: Reference, config: ModelConfig) -> list[Reference]:
    """Split a reference by whether its rows have the column: a feature may be newer than they are."""
    absent = tuple(c for c in reference.columns if c not in reference.sketch.columns)
    if not absent:
        return [reference]
    missing = Reference(
        absent, NO_COLUMN, empty_sketch(config).select_columns(absent), lambda: empty_holdout(config), NO_COLUMN
    )
    present = tuple(c for c in reference.columns if c not in absent)
    return [replace(reference, columns=present), missing] if present else [missing]


def exclude_blocks(reference: Sketch, current: Sketch) -> Sketch:
    """A reference without the blocks of the current partition, thinned evenly to at most `MAX_BLOCKS`."""
    others = [i for i, block in enumerate(reference.blocks) if block not in set(current.blocks)]
    count = len(others)
    kept = others if count <= MAX_BLOCKS else [others[i * count // MAX_BLOCKS] for i in range(MAX_BLOCKS)]
    return reference.select_blocks(kept)


def _training(
    columns: tuple[str, ...], ref: PartitionRef, version: Version, champion: Promotion, res: Resources
) -> Reference:
    """The champion's training window. Its sketch is cached per champion."""
    keys = keys_between(version.window_start, version.window_end, res)

    def make() -> Sketch:
        window = read_sketches(keys, res)
        end = block_at(version.window_end, res.config)
        return window.select_blocks([i for i, block in enumerate(window.blocks) if block < end])

    count = f"{len(keys)} partition{'s' if len(keys) > 1 else ''}"
    description = f"training window of version {version.version}: {count} up to {keys[-1]}" if keys else "no partition"
    window = cached_sketch(cache_path(champion, res, f"window-{rows_digest(keys, Stage.VALID, res)}"), make)
    return Reference(columns, description, window, partial(sample_partitions, keys, version.window_end, res))


def _trailing(
    columns: tuple[str, ...], ref: PartitionRef, version: Version, champion: Promotion, res: Resources
) -> Reference:
    """The `monitoring.trailing` partitions before this one."""
    keys = trailing_keys(ref, res)
    description = f"the {len(keys)} partitions before it" if keys else "no partition before it"
    sample = partial(sample_partitions, keys, ref.start, res)
    return Reference(columns, description, read_sketches(keys, res), sample, "" if keys else description)


def _season(
    columns: tuple[str, ...], ref: PartitionRef, version: Version, champion: Promotion, res: Resources
) -> Reference:
    """The same days a year earlier, extended by `SEASON_PADDING`."""
    start, end = season_range(ref)
    keys = keys_between(start, end, res, whole=False)
    season, first, last = read_sketches(keys, res), block_at(start, res.config), block_at(end, res.config)
    season = season.select_blocks([i for i, block in enumerate(season.blocks) if first <= block < last])
    description = f"{start:%Y-%m-%d} to {end:%Y-%m-%d}, a year earlier" if keys else NO_EARLIER_YEAR
    sample = partial(sample_partitions, keys, end, res)
    return Reference(columns, description, season, sample, "" if keys else NO_EARLIER_YEAR)


def _predictions(ref: PartitionRef, version: Version, champion: Promotion, res: Resources) -> Reference:
    """Predictions of the judged version on its holdout, on which it was not fitted."""
    try:
        judged = judged_version(champion, res)
    except UnknownVersion as error:
        no_rows = _sketch_predictions(empty_holdout(res.config), res.config)
        return Reference((PREDICTION,), str(error), no_rows, partial(empty_holdout, res.config), str(error))
    make = partial(holdout_rows, champion, res)
    holdout = cached_sketch(cache_path(champion, res, "holdout"), lambda: _sketch_predictions(make(), res.config))
    description = f"predictions of version {judged.version} on its holdout"
    return Reference(
        (PREDICTION,), description, holdout, lambda: sample_evenly(make(), res.config.monitoring.sample_rows)
    )


def _sketch_predictions(rows: "pd.DataFrame", config: ModelConfig) -> Sketch:
    blocks = block_categories(rows[config.time], config.monitoring.block, config.partition.timezone)
    return sketch(rows, blocks, (PREDICTION,), text_columns(config))


def feature_importances(champion: Promotion, res: Resources) -> dict[str, float]:
    """Each feature's share of the permutation importance on the champion's holdout, with negative values as 0.

    Cached per champion. Empty, and not cached, if the holdout has no labels.
    """
    path = cache_path(champion, res, "importance").with_suffix(".json")
    if path.is_file():
        return {str(k): float(v) for k, v in json.loads(path.read_text()).items()}
    try:
        rows = labelled_holdout(champion, res)
    except UnknownVersion:
        return {}
    if rows.empty:
        return {}
    raw = importances(res.load(judged_version(champion, res).version), rows, res.config)
    positive = {name: max(value, 0.0) for name, value in raw.items()}
    total = sum(positive.values()) or 1.0
    shares = {name: value / total for name, value in positive.items()}
    with replacing(path) as draft:
        draft.write_text(json.dumps(shares))
    return shares


def cached_sketch(path: UPath, make: Callable[[], Sketch]) -> Sketch:
    """Read a sketch from a cache file. If the file is missing or unreadable, make the sketch and write the file."""
    import pandas as pd

    try:
        return from_frame(pd.read_parquet(io.BytesIO(path.read_bytes())))
    except (OSError, ValueError):
        frame = to_frame(make())
    with replacing(path) as draft:
        frame.to_parquet(draft, compression="zstd", index=False)
    return from_frame(pd.read_parquet(io.BytesIO(path.read_bytes())))


def cache_path(champion: Promotion, res: Resources, content: str) -> UPath:
    """Path of a cache file of a champion. Its name has the model's digest and a digest of the config that affects the content."""
    config = res.config
    rules = [
        config.features.columns,
        config.monitoring.block,
        config.partition.model_dump(),
        config.training.window.holdout,
        config.training.seed,
        champion.as_of,
        *hash_inputs(config),
    ]
    name = f"{champion.version}-{champion.evidence.get('digest', '')[:12]}-{content}-{digest_json(rules)[:8]}"
    return res.lake.root / "reference" / f"{name}.parquet"


def rows_digest(keys: Sequence[str], stage: Stage, res: Resources) -> str:
    """Digest of the rows of some partitions, for the name of a cache file: it changes if a missing partition is added."""
    return digest_json([[key, res.lake.done(stage, key).digest] for key in keys])[:12]


def reference_ranges(ref: PartitionRef, res: Resources) -> list[tuple[datetime, datetime]]:
    """The half-open time ranges of the other partitions that a partition's drift test reads."""
    ranges, rules = [], res.config.monitoring
    with suppress(NotDue, UnknownVersion):
        version = res.registry.cached_version(champion_of(ref, res).version)
        ranges.append((version.window_start, version.window_end))
    if rules.seasonal or rules.reference == "season":
        ranges.append(season_range(ref))
    if rules.reference == "trailing":
        ranges += [(r.start, r.end) for r in map(res.ref, trailing_keys(ref, res))]
    return ranges


def trailing_keys(ref: PartitionRef, res: Resources) -> list[str]:
    """The keys of the partitions for `reference: trailing`, oldest first."""
    ended = [key for key in validated_keys(res) if res.ref(key).end <= ref.start]
    return ended[-res.config.monitoring.trailing :]


def season_range(ref: PartitionRef) -> tuple[datetime, datetime]:
    """The season a year earlier: the same range extended by `SEASON_PADDING`, half-open."""
    import pandas as pd

    year = pd.DateOffset(years=1)
    start, end = ((pd.Timestamp(t) - year).to_pydatetime() for t in (ref.start, ref.end))
    return start - SEASON_PADDING, end + SEASON_PADDING


def keys_between(start: datetime, end: datetime, res: Resources, whole: bool = True) -> list[str]:
    """Keys of the validated partitions that begin in `[start, end)`, or with `whole=False` that overlap it, oldest first."""
    refs = [res.ref(key) for key in validated_keys(res)]
    return [r.key for r in refs if r.start < end and (r.start >= start if whole else r.end > start)]


def block_at(moment: datetime, config: ModelConfig) -> str:
    """The name of the block that contains an aware moment."""
    every = config.monitoring.block
    zone = ZoneInfo("UTC" if every == "H" else config.partition.timezone)
    return format_key(floor(moment.astimezone(zone).replace(tzinfo=None), every), every)


def sample_partitions(keys: Sequence[str], end: datetime, res: Resources) -> "pd.DataFrame":
    """About `monitoring.sample_rows` evenly spaced rows of validated partitions, from before `end`."""
    import pandas as pd

    config = res.config
    frames = [f[f[config.time] < end] for key in keys if len(f := res.lake.read(Stage.VALID, key))]
    return (
        sample_evenly(pd.concat(frames, ignore_index=True), config.monitoring.sample_rows) if frames else pd.DataFrame()
    )


def reference_sample(champion: Promotion, max_rows: int, res: Resources) -> "pd.DataFrame":
    """About `max_rows` evenly spaced rows of the champion's training window, cached per champion."""
    import pandas as pd

    path = cache_path(champion, res, f"sample-{max_rows}")
    if not path.is_file():
        config, version = res.config, res.registry.cached_version(champion.version)
        keys = keys_between(version.window_start, version.window_end, res)
        frames = [res.lake.read(Stage.VALID, key, [config.time, *config.features.all]) for key in keys]
        rows = pd.concat([f[f[config.time] < version.window_end] for f in frames], ignore_index=True)
        with replacing(path) as draft:
            sample_evenly(rows, max_rows).to_parquet(draft, compression="zstd", index=False)
    return pd.read_parquet(path)


def partition_sample(ref: PartitionRef, max_rows: int, res: Resources) -> "pd.DataFrame":
    """About `max_rows` evenly spaced valid rows of a partition: time and features."""
    config = res.config
    return sample_evenly(res.lake.read(Stage.VALID, ref.key, [config.time, *config.features.all]), max_rows)
