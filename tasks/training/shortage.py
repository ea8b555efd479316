"""Why labelled rows are too few for a training, and which key of model.yaml to change. Each message is one line."""

from math import ceil
from typing import TYPE_CHECKING

from configs.base import span_text
from configs.schema import ModelConfig
from tasks.errors import NotEnoughData
from tasks.storage.partitions import containing

if TYPE_CHECKING:
    import pandas as pd


def require_enough_rows(config: ModelConfig, rows: "pd.DataFrame", span: str) -> None:
    """Require `training.window.min_rows` labelled rows and every class.

    Args:
        config: The model's config.
        rows: Labelled rows.
        span: The rows' period, for the message: `before 2024-03-03` or `from 2024-03-01 to 2024-03-03`.

    Raises:
        NotEnoughData: There are fewer rows, or a class has none.
    """
    if problem := shortage(config, rows, span):
        raise NotEnoughData(f"{config.name}: {problem}")


def shortage(config: ModelConfig, rows: "pd.DataFrame", span: str) -> str:
    """Return what is missing for a training and what to change, empty if nothing is. See `require_enough_rows`."""
    least, target = config.training.window.min_rows, config.target
    if rows.empty:
        return f"no labelled row {span}; {needed_time(config)}"
    if len(rows) < least:
        return (
            f"training.window.min_rows is {least}, but there are {len(rows)} labelled rows {span}; set it to at most {len(rows)}, or "
            f"{_wait(config, rows, least)}"
        )
    classes = set(rows[target.column].unique())
    if target.kind == "binary" and len(classes) < 2:
        value = "the same" if target.column in config.personal else f"{rows[target.column].iloc[0]:g}"
        return f"every outcome {span} is {value}, but a classifier needs both; check target.column ({target.column}), or {_longer(config)}"
    if missing := [name for name in target.classes if name not in classes]:
        return f"no row {span} has class {', '.join(missing)}; remove it from target.classes, or {_longer(config)}"
    return ""


def too_few_partitions(config: ModelConfig, count: int, as_of: str) -> str:
    """Return that the window has too few partitions, and what to change."""
    least, delay = config.training.window.min_partitions, span_text(config.target.delay)
    text = (
        f"training.window.min_partitions is {least}, but {count} validated partitions have matured labels as of {as_of}, without empty "
        f"ones (target.delay is {delay})"
    )
    lower = f"set it to at most {count}, " if count else ""
    missing = "1 more partition" if least - count == 1 else f"{least - count} more partitions"
    return f"{config.name}: {text}; {lower}run `backfill` for earlier ones, or wait for {missing}"


def no_split(config: ModelConfig, problem: str) -> str:
    """Return that no validation split can be made, why, and what to change."""
    holdout = span_text(config.training.window.holdout)
    return (
        f"{config.name}: the window is too short to choose a candidate on the {holdout} before its holdout: {problem}. "
        f"A shorter training.window.holdout ({holdout}) leaves more rows to fit on"
    )


def _wait(config: ModelConfig, rows: "pd.DataFrame", least: int) -> str:
    """Return how many more partitions give enough rows, by the mean of those that there are."""
    per_partition = len(rows) / len({containing(config, at).key for at in rows[config.time].dt.floor("h").unique()})
    more = ceil((least - len(rows)) / per_partition)
    if limit := config.training.window.partitions:
        return f"raise training.window.partitions ({limit}) by {more}"
    return f"wait for {more} more partition{'s' if more > 1 else ''}"


def needed_time(config: ModelConfig) -> str:
    """Return how much time a window needs before its first rows can be fitted on, and what to change if it is shorter."""
    window, delay = config.training.window, span_text(config.target.delay)
    needed = span_text(2 * (window.holdout + config.target.delay))
    first = (
        f"raise training.window.partitions ({window.partitions})" if window.partitions else "wait for more partitions"
    )
    return (
        f"the holdout, a validation split of the same length ({span_text(window.holdout)}), and target.delay ({delay}) before each need "
        f"{needed}: shorten training.window.holdout, or {first}"
    )


def _longer(config: ModelConfig) -> str:
    limit = config.training.window.partitions
    return f"raise training.window.partitions ({limit})" if limit else "wait for more partitions"
