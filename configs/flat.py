"""Generated SQL for a model whose source is one flat file."""

from datetime import timedelta

from configs.schema import ModelConfig
from configs.source import FLAT

OFFSET = r"\d:\d.*(Z|[+-]\d\d(:?\d\d)?)$"
"""Pattern of a time zone offset at the end of a time that is text."""


def flat_sql(config: ModelConfig) -> tuple[str, str]:
    """Return the texts of source.sql and labels.sql: the declared columns, with outcomes known after the label delay.

    Keys, categories and groups are cast to text.
    """
    time, within = time_sql(config), f"{time_sql(config)} >= $start AND {time_sql(config)} < $end"
    text = [
        f"CAST({quoted(name)} AS VARCHAR) AS {quoted(name)}" for name in (*config.features.categorical, *config.groups)
    ]
    key = f"CAST({quoted(config.key)} AS VARCHAR) AS {quoted(config.key)}"
    columns = [key, f"{time} AS {quoted(config.time)}", *map(quoted, config.features.numeric), *text]
    outcome, delay = quoted(config.target.column), config.target.delay // timedelta(microseconds=1)
    known_at = f"{time} + to_microseconds({delay}) AS known_at"
    return (
        f"SELECT {', '.join(columns)} FROM {FLAT} WHERE {within}",  # noqa: S608  (from model.yaml)
        f"SELECT {key}, {outcome}, {known_at} FROM {FLAT} WHERE {within} AND {outcome} IS NOT NULL",  # noqa: S608
    )


def time_sql(config: ModelConfig) -> str:
    """Return SQL for a row's time with time zone. A time without a zone is in the partitions' zone."""
    time, zone = quoted(config.time), config.partition.timezone
    local = f"timezone('{zone}', CAST({time} AS TIMESTAMP))"
    named = f"typeof({time}) = 'TIMESTAMP WITH TIME ZONE' OR regexp_matches(CAST({time} AS VARCHAR), '{OFFSET}')"
    return f"CASE WHEN {named} THEN CAST({time} AS TIMESTAMPTZ) ELSE {local} END"


def quoted(name: str) -> str:
    """Return a column's name quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'
