"""Generated SQL for a model whose source is one flat file."""

from datetime import timedelta

from configs.schema import TIME_KEY, ModelConfig
from configs.source import FLAT

OFFSET = r"\d:\d.*(Z|[+-]\d\d(:?\d\d)?)$"
"""Pattern of a time zone offset at the end of a time that is text."""


def flat_sql(config: ModelConfig) -> tuple[str, str]:
    """Return the texts of source.sql and labels.sql: the declared columns, with outcomes known after the label delay.

    Keys, categories and groups are cast to text. Outcomes are cast, and left out if they are null, when they are read.
    """
    time, within = (
        time_sql(config),
        f"{time_sql(config)} >= $start AND {time_sql(config)} < $end{of_value(config, ' AND ')}",
    )
    text = [
        f"CAST({quoted(name)} AS VARCHAR) AS {quoted(name)}" for name in (*config.features.categorical, *config.groups)
    ]
    key = f"CAST({quoted(config.key)} AS VARCHAR) AS {quoted(config.key)}"
    columns = [key, f"{time} AS {quoted(config.time)}", *map(quoted, config.features.numeric), *text]
    outcome = f"{quoted(config.target.column)} AS {quoted(config.target.column)}"  # with the letters of model.yaml
    known_at = f"{time} + to_microseconds({config.target.delay // timedelta(microseconds=1)}) AS known_at"
    return (
        f"SELECT {', '.join(columns)} FROM {FLAT} WHERE {within}",  # noqa: S608  (from model.yaml)
        f"SELECT {key}, {outcome}, {known_at} FROM {FLAT} WHERE {within}",  # noqa: S608
    )


def of_value(config: ModelConfig, before: str) -> str:
    """Return SQL, after `before`, that selects the rows of the model's value of `for_each`; empty if it has all rows of the file."""
    if config.for_each is None:
        return ""
    return f"{before}{quoted(config.for_each.column)} = {literal(str(config.for_each.values[0]))}"


def time_sql(config: ModelConfig) -> str:
    """Return SQL for a row's time with time zone. A time without a zone is in the partitions' zone.

    The view of a flat file has times with zone already. The text stays as it was, since records have its digest.
    """
    time, zone = quoted(config.time), config.partition.timezone
    local = f"timezone('{zone}', CAST({time} AS TIMESTAMP))"
    named = f"typeof({time}) = 'TIMESTAMP WITH TIME ZONE' OR regexp_matches(CAST({time} AS VARCHAR), '{OFFSET}')"
    return f"CASE WHEN {named} THEN CAST({time} AS TIMESTAMPTZ) ELSE {local} END"


def time_key_sql(config: ModelConfig) -> str:
    """Return SQL that adds the key to a flat file whose key is its time, else nothing.

    It is the date at midnight in the partitions' zone, and the time in UTC else, since a local hour can occur twice.
    """
    if config.key != TIME_KEY:
        return ""
    time, zone = time_sql(config), config.partition.timezone
    local = f"timezone('{zone}', {time})"
    text = f"CASE WHEN {local} = date_trunc('day', {local}) THEN strftime({local}, '%Y-%m-%d') ELSE CAST({time} AS VARCHAR) END"
    return f", {text} AS {quoted(TIME_KEY)}"


def quoted(name: str) -> str:
    """Return a column's name quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return text as a literal for SQL."""
    return "'" + text.replace("'", "''") + "'"
