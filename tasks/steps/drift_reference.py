"""What a partition is compared with: sketches of the champion's window, of partitions before or a year ago, and of its own predictions.

No reference holds the partition's own blocks, nor anything after it.
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
from tasks.drift.columns import PREDICTION, methods, texts
from tasks.drift.reference import Reference, spaced
from tasks.drift.sketch_file import from_frame, to_frame
from tasks.drift.sketches import Sketch, sketch
from tasks.errors import UnknownVersion
from tasks.models.importance import importances
from tasks.resources import Resources
from tasks.steps.holdout import holdout_rows, judged_version, labelled_holdout, no_rows, validated
from tasks.steps.score import champion_of
from tasks.steps.sketch import empty, read_sketches
from tasks.steps.step import NotDue
from tasks.storage.blocks import block_categories
from tasks.storage.files import digest_json, replacing
from tasks.storage.partitions import floor, format_key

if TYPE_CHECKING:
    import pandas as pd

MOST = 400
"""Blocks that a reference keeps, evenly spaced ones of a longer window: days of more than a year tell a check no more."""
PAD = timedelta(days=15)
"""What the same season a year earlier takes on either side."""
NO_YEAR = "no partition of a year earlier to compare with"
TOO_YOUNG = "what it would be compared with does not have this column yet"


def references(ref: PartitionRef, current: Sketch, champion: Promotion, res: Resources) -> list[Reference]:
    """Every compared column in one reference or another; columns without one come with the usual one and a `gap`.

    Raises:
        MissingPartition: a partition of the training window is gone.
        RegistryUnavailable: MLflow does not answer and the champion was never fetched before.
    """
    rules, version = res.config.monitoring, res.registry.recall(champion.version)
    seasonal = tuple(c for c in methods(res.config) if c in rules.seasonal and c != PREDICTION)
    steady = tuple(c for c in methods(res.config) if c not in seasonal and c != PREDICTION)
    usual = {"training": _training, "trailing": _trailing, "season": _season}[rules.reference]
    found = [usual(steady, ref, version, champion, res)] if steady else []
    if seasonal:
        yearly = _season(seasonal, ref, version, champion, res)
        if yearly.gap and rules.reference != "season":
            yearly = replace(usual(seasonal, ref, version, champion, res), gap=NO_YEAR)
        found.append(yearly)
    found.append(_predictions(ref, version, champion, res))
    known = [part for reference in found for part in _split_by_available(reference, res.config)]
    return [replace(r, sketch=without(r.sketch.of(r.columns), current)) for r in known]


def _split_by_available(reference: Reference, config: ModelConfig) -> list[Reference]:
    """A reference, and apart from it the columns that its rows do not have: a feature may be younger than they are."""
    lacking = tuple(c for c in reference.columns if c not in reference.sketch.columns)
    if not lacking:
        return [reference]
    nothing = Reference(lacking, TOO_YOUNG, empty(config).of(lacking), lambda: no_rows(config), TOO_YOUNG)
    rest = tuple(c for c in reference.columns if c not in lacking)
    return [replace(reference, columns=rest), nothing] if rest else [nothing]


def without(found: Sketch, current: Sketch) -> Sketch:
    """A reference without the partition's own blocks, and with at most `MOST` of the others, evenly spaced."""
    others = [i for i, block in enumerate(found.blocks) if block not in set(current.blocks)]
    count = len(others)
    kept = others if count <= MOST else [others[i * count // MOST] for i in range(MOST)]
    return found.at(kept)


def _training(
    columns: tuple[str, ...], ref: PartitionRef, version: Version, champion: Promotion, res: Resources
) -> Reference:
    """The champion's window, kept once a champion."""
    keys = keys_between(version.window_start, version.window_end, res)

    def make() -> Sketch:
        whole = read_sketches(keys, res)
        last = block_at(version.window_end, res.config)
        return whole.at([i for i, block in enumerate(whole.blocks) if block < last])

    told = (
        f"{len(keys)} partitions to {keys[-1]}, which version {version.version} learned from"
        if keys
        else "no partition"
    )
    found = cached_sketch(home(champion, res, f"window-{rows_digest(keys, Stage.VALID, res)}"), make)
    return Reference(columns, told, found, partial(sample_of, keys, version.window_end, res))


def _trailing(
    columns: tuple[str, ...], ref: PartitionRef, version: Version, champion: Promotion, res: Resources
) -> Reference:
    """The partitions just before."""
    keys = before(ref, res)
    told = f"the {len(keys)} partitions before it" if keys else "no partition before it"
    return Reference(
        columns, told, read_sketches(keys, res), partial(sample_of, keys, ref.start, res), "" if keys else told
    )


def _season(
    columns: tuple[str, ...], ref: PartitionRef, version: Version, champion: Promotion, res: Resources
) -> Reference:
    """The same days a year earlier, and `PAD` around them."""
    start, end = a_year_before(ref)
    keys = keys_between(start, end, res, whole=False)
    found, low, high = read_sketches(keys, res), block_at(start, res.config), block_at(end, res.config)
    found = found.at([i for i, block in enumerate(found.blocks) if low <= block < high])
    told = f"{start:%Y-%m-%d} to {end:%Y-%m-%d}, a year earlier" if keys else NO_YEAR
    return Reference(columns, told, found, partial(sample_of, keys, end, res), "" if keys else NO_YEAR)


def _predictions(ref: PartitionRef, version: Version, champion: Promotion, res: Resources) -> Reference:
    """What the champion said of rows that it had not learned from: its judged version's holdout."""
    try:
        judged = judged_version(champion, res)
    except UnknownVersion as error:
        nothing = _sketch_predictions(no_rows(res.config), res.config)
        return Reference((PREDICTION,), str(error), nothing, partial(no_rows, res.config), str(error))
    make = partial(holdout_rows, champion, res)
    found = cached_sketch(home(champion, res, "holdout"), lambda: _sketch_predictions(make(), res.config))
    told = f"what version {judged.version} said of its holdout"
    return Reference((PREDICTION,), told, found, lambda: spaced(make(), res.config.monitoring.sample_rows))


def _sketch_predictions(rows: "pd.DataFrame", config: ModelConfig) -> Sketch:
    blocks = block_categories(rows[config.time], config.monitoring.block, config.partition.timezone)
    return sketch(rows, blocks, (PREDICTION,), texts(config))


def feature_importances(champion: Promotion, res: Resources) -> dict[str, float]:
    """Each feature's share of what the champion knows: permutation importance on its holdout, negatives as nought.

    Kept once a champion. Empty where the holdout has no labels here, and then made again.
    """
    path = home(champion, res, "importance").with_suffix(".json")
    if path.is_file():
        return {str(k): float(v) for k, v in json.loads(path.read_text()).items()}
    try:
        rows = labelled_holdout(champion, res)
    except UnknownVersion:
        return {}
    if rows.empty:
        return {}
    found = importances(res.load(judged_version(champion, res).version), rows, res.config)
    positive = {name: max(value, 0.0) for name, value in found.items()}
    whole = sum(positive.values()) or 1.0
    shares = {name: value / whole for name, value in positive.items()}
    with replacing(path) as draft:
        draft.write_text(json.dumps(shares))
    return shares


def cached_sketch(path: UPath, make: Callable[[], Sketch]) -> Sketch:
    """The sketch in a file, made when it is not there. A file that cannot be read is made again."""
    import pandas as pd

    try:
        return from_frame(pd.read_parquet(io.BytesIO(path.read_bytes())))
    except (OSError, ValueError):
        frame = to_frame(make())
    with replacing(path) as draft:
        frame.to_parquet(draft, compression="zstd", index=False)
    return from_frame(pd.read_parquet(io.BytesIO(path.read_bytes())))


def home(champion: Promotion, res: Resources, what: str) -> UPath:
    """Where something of a champion is kept: by its digest, and by what would make it another."""
    config = res.config
    rules = [
        config.features.columns,
        config.monitoring.block,
        config.partition.model_dump(),
        config.training.window.holdout,
        config.training.seed,
        champion.as_of,
    ]
    name = f"{champion.version}-{champion.evidence.get('digest', '')[:12]}-{what}-{digest_json(rules)[:8]}"
    return res.lake.root / "reference" / f"{name}.parquet"


def rows_digest(keys: Sequence[str], stage: Stage, res: Resources) -> str:
    """Digest of the rows of some partitions, to know a sketch of them by: one that was missing for a while makes another."""
    return digest_json([[key, res.lake.done(stage, key).digest] for key in keys])[:12]


def reference_ranges(ref: PartitionRef, res: Resources) -> list[tuple[datetime, datetime]]:
    """The ranges of time whose partitions a check of this one looks at, beside its own."""
    found, rules = [], res.config.monitoring
    with suppress(NotDue, UnknownVersion):
        version = res.registry.recall(champion_of(ref, res).version)
        found.append((version.window_start, version.window_end))
    if rules.seasonal or rules.reference == "season":
        found.append(a_year_before(ref))
    if rules.reference == "trailing":
        found += [(r.start, r.end) for r in map(res.ref, before(ref, res))]
    return found


def before(ref: PartitionRef, res: Resources) -> list[str]:
    """The partitions that `reference: trailing` takes."""
    over = [key for key in validated(res) if res.ref(key).end <= ref.start]
    return over[-res.config.monitoring.trailing :]


def a_year_before(ref: PartitionRef) -> tuple[datetime, datetime]:
    """The range that is the same season a year earlier."""
    import pandas as pd

    year = pd.DateOffset(years=1)
    start, end = ((pd.Timestamp(t) - year).to_pydatetime() for t in (ref.start, ref.end))
    return start - PAD, end + PAD


def keys_between(start: datetime, end: datetime, res: Resources, whole: bool = True) -> list[str]:
    """Validated partitions that begin in `[start, end)`, or with `whole=False` that overlap it, oldest first."""
    refs = [res.ref(key) for key in validated(res)]
    return [r.key for r in refs if r.start < end and (r.start >= start if whole else r.end > start)]


def block_at(moment: datetime, config: ModelConfig) -> str:
    """The name of the block that an aware moment lies in."""
    every = config.monitoring.block
    zone = ZoneInfo("UTC" if every == "H" else config.partition.timezone)
    return format_key(floor(moment.astimezone(zone).replace(tzinfo=None), every), every)


def sample_of(keys: Sequence[str], end: datetime, res: Resources) -> "pd.DataFrame":
    """Evenly spaced rows of some validated partitions from before `end`, so that every day has its share."""
    import pandas as pd

    config = res.config
    frames = [f[f[config.time] < end] for key in keys if len(f := res.lake.read(Stage.VALID, key))]
    return spaced(pd.concat(frames, ignore_index=True), config.monitoring.sample_rows) if frames else pd.DataFrame()


def reference_sample(champion: Promotion, most: int, res: Resources) -> "pd.DataFrame":
    """About `most` evenly spaced rows of the champion's window, kept once a champion."""
    import pandas as pd

    path = home(champion, res, f"sample-{most}")
    if not path.is_file():
        config, version = res.config, res.registry.recall(champion.version)
        keys = keys_between(version.window_start, version.window_end, res)
        frames = [res.lake.read(Stage.VALID, key, [config.time, *config.features.all]) for key in keys]
        rows = pd.concat([f[f[config.time] < version.window_end] for f in frames], ignore_index=True)
        with replacing(path) as draft:
            spaced(rows, most).to_parquet(draft, compression="zstd", index=False)
    return pd.read_parquet(path)


def partition_sample(ref: PartitionRef, most: int, res: Resources) -> "pd.DataFrame":
    """About `most` evenly spaced valid rows of a partition: its time column and features."""
    config = res.config
    return spaced(res.lake.read(Stage.VALID, ref.key, [config.time, *config.features.all]), most)
