"""The SQL of a model whose source is one flat file: nobody has to write it."""

from datetime import timedelta

from configs.schema import ModelConfig
from configs.source import FLAT

OFFSET = r"\d:\d.*(Z|[+-]\d\d(:?\d\d)?)$"
"""How a time of day that is text names its zone."""


def flat_sql(config: ModelConfig) -> tuple[str, str]:
    """What source.sql and labels.sql would be: the declared columns as they are, an outcome known after the label delay.

    A key or category of another type is read as text.
    """
    time, within = moment(config), f"{moment(config)} >= $start AND {moment(config)} < $end"
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


def moment(config: ModelConfig) -> str:
    """SQL for a row's time with its zone; one that has none is local to the partitions' zone."""
    time, zone = quoted(config.time), config.partition.timezone
    local = f"timezone('{zone}', CAST({time} AS TIMESTAMP))"
    named = f"typeof({time}) = 'TIMESTAMP WITH TIME ZONE' OR regexp_matches(CAST({time} AS VARCHAR), '{OFFSET}')"
    return f"CASE WHEN {named} THEN CAST({time} AS TIMESTAMPTZ) ELSE {local} END"


def quoted(name: str) -> str:
    """A column's name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'
