"""SQL of the views in which the SQL of a model sees its tables. A column has one type in all files of a table."""

import difflib
from collections.abc import Mapping, Sequence

from configs.flat import of_value, quoted, time_key_sql
from configs.schema import TIME_KEY, ModelConfig
from configs.source import Table
from tasks.errors import SourceMismatch
from tasks.source.files import folder_columns
from tasks.source.tables import Group
from tasks.source.values import (
    EMPTY,
    FILE,
    FLOATS,
    is_integer,
    is_local,
    is_number,
    is_zoned,
    number_sql,
    refuse_column_sql,
    stored_number_sql,
    table_integer_sql,
    table_time_sql,
    text_sql,
    time_sql,
    whole_sql,
)

STORED = "stored rows"
"""View of a flat file that refuses no value: numbers and texts as text, and the time, null if it cannot be read as one."""
TIME_TEXT = "time as text"
"""Column of this view with the time as it is stored. There is `FILE` too."""


def common_types(config: ModelConfig, groups: Sequence[Group]) -> dict[str, tuple[str, str]]:
    """The type of each column in all files of a table, and why some of them cannot be read as it; names are in lower case."""
    names = dict.fromkeys(name.lower() for group in groups for name in group.types)
    return {name: _common_type(config, groups, name) for name in names}


def table_view(table: Table, groups: Sequence[Group], common: Mapping[str, tuple[str, str]]) -> str:
    """SQL of a table that the model's SQL reads. A column that has no common type is an error where the SQL uses it."""
    selects = []
    for group in groups:
        own = {name.lower(): name for name in group.types}
        columns = [f"{_as_type(table, group, own.get(n, n), *common[n])} AS {quoted(own.get(n, n))}" for n in common]
        unchanged = len(groups) == 1 and columns == [f"{quoted(name)} AS {quoted(name)}" for name in group.types]
        reader = group.columns.reader(group.files) if unchanged else group.reader()
        selects.append(f"SELECT {'*' if unchanged else ', '.join(columns)} FROM {reader}")  # noqa: S608
    return " UNION ALL ".join(selects)


def _common_type(config: ModelConfig, groups: Sequence[Group], name: str) -> tuple[str, str]:
    """The type of a column in all files, and why some cannot be read as it; `name` is in lower case."""
    files = {kind: group.files[0] for group in groups if (kind := _kind(group, name)) not in ("", EMPTY)}
    missing = [group.files[0] for group in groups if not _kind(group, name)]
    common = _promoted(list(files), is_key=name == config.key.lower(), as_text=name in text_columns(config))
    checked = {column.lower() for column in (config.time, *config.features.numeric)}  # they must be of their type
    texts = name not in checked and all(group.is_csv or not _kind(group, name) for group in groups)
    if not common and (texts or all(name in folder_columns(group.files) for group in groups)):
        common = "VARCHAR"
    if common and not missing:
        return common, ""
    own = next(other for group in groups for other in group.types if other.lower() == name)
    types = " and ".join(f"{kind} in {file}" for kind, file in files.items())
    problem = f"{missing[0]} has no column {own!r}, but others have it" if missing else f"column {own!r} is {types}"
    return common or list(files)[-1], f"{problem}. Write these files again, with the same columns and types"


def text_columns(config: ModelConfig) -> set[str]:
    """The columns of model.yaml that are read as text, in lower case."""
    return {
        column.lower()
        for column in (config.key, *config.features.categorical, *config.groups, *_column_of_values(config))
    }


def _kind(group: Group, name: str) -> str:
    """The type of a column whatever its upper and lower case, empty if there is none."""
    return next((kind for other, kind in group.types.items() if other.lower() == name), "")


def _promoted(kinds: Sequence[str], is_key: bool, as_text: bool) -> str:
    """The type that has the values of all these types, empty if there is none. Whole numbers of a key stay whole numbers."""
    numbers = all(map(is_number, kinds))
    if is_key and numbers and FLOATS.keys() & set(kinds):
        return "BIGINT"
    if len(kinds) < 2:
        return next(iter(kinds), EMPTY)
    if all(map(is_integer, kinds)):
        return "HUGEINT" if {"UBIGINT", "HUGEINT", "UHUGEINT"} & set(kinds) else "BIGINT"
    if numbers and not as_text:
        return "DOUBLE"
    if all(map(is_zoned, kinds)):
        return "TIMESTAMP WITH TIME ZONE"
    if all(map(is_local, kinds)):
        return "TIMESTAMP"
    return "VARCHAR" if all(kind == "VARCHAR" or "ENUM" in kind for kind in kinds) else ""


def _as_type(table: Table, group: Group, name: str, kind: str, problem: str) -> str:
    """A column of a group of files as a type. With a `problem` it is an error where it is used."""
    if problem:
        return refuse_column_sql(problem, kind)
    own = group.types[name]
    if own == EMPTY:
        return "NULL" if kind == EMPTY else f"CAST(NULL AS {kind})"
    if name in dict(group.columns.values) and kind != "VARCHAR":
        if is_local(own) or is_zoned(own):
            return f"CAST({table_time_sql(name, own, table.time_format)} AS {kind})"
        if kind == "DOUBLE":
            return number_sql(name, "VARCHAR", from_text=True)
        if is_integer(own):
            return table_integer_sql(name, kind)
        return f"CAST({quoted(name)} AS {kind})"
    if own == kind:
        return quoted(name)
    if kind == "DOUBLE":
        return number_sql(name, own)
    return whole_sql(name, own) if kind == "BIGINT" and not is_integer(own) else f"CAST({quoted(name)} AS {kind})"


def flat_view(config: ModelConfig, table: Table, groups: Sequence[Group], stored: bool = False) -> str:
    """SQL of a flat file: the declared columns with the types of model.yaml.

    Args:
        config: The model's config.
        table: The file.
        groups: Its files.
        stored: Refuse nothing, and skip lines that are no rows: the view `STORED`.

    Raises:
        SourceMismatch: a file does not have a declared column, or its time cannot be one.
    """
    others = dict.fromkeys(groups[0].types) if table.known_at or table.outcomes_known_at else {}
    selects = []
    for group in groups:
        _require_columns(config, group)
        sql = {name: quoted(name) for name in others if all(name in other.types for other in groups)}
        sql |= _flat_columns(config, table, group, stored)
        columns = [f"{value} AS {quoted(name)}" for name, value in sql.items()]
        selects.append(f"SELECT {', '.join(columns)} FROM {group.reader(skip_bad_lines=stored)}")  # noqa: S608
    own = of_value(config, " WHERE ") if stored else ""  # the query of the rows has the condition itself
    return f"SELECT *{time_key_sql(config)} FROM ({' UNION ALL '.join(selects)}){own}"  # noqa: S608


def declared_columns(config: ModelConfig) -> tuple[str, ...]:
    """The columns that a flat file must have."""
    names = (*config.columns, config.target.column, *_column_of_values(config))
    return tuple(dict.fromkeys(name for name in names if name != TIME_KEY))


def _column_of_values(config: ModelConfig) -> tuple[str, ...]:
    """The column of `for_each`, which is read as text unless it is a numeric feature."""
    return (config.for_each.column,) if config.for_each else ()


def _flat_columns(config: ModelConfig, table: Table, group: Group, stored: bool) -> dict[str, str]:
    """SQL of each declared column of a flat file."""
    kinds, features, target = group.types, config.features, config.target
    texts = {*features.categorical, *config.groups, config.key, *_column_of_values(config)} - {*features.numeric}
    texts |= {target.column} if target.kind == "multiclass" else set()
    sql = {}
    for name in declared_columns(config):
        kind = kinds[name]
        if name == config.time:
            sql[name] = time_sql(name, kind, config.partition.timezone, table.time_format)
        elif name in texts:
            sql[name] = text_sql(name, kind, strict=not stored)
        elif stored:
            sql[name] = stored_number_sql(name, kind)
        elif name in features.numeric or is_number(kind) or kind == "VARCHAR":
            from_text = group.is_csv or name == target.column
            sql[name] = number_sql(name, kind, from_text=from_text, whole=name in features.whole)
        else:
            sql[name] = quoted(name)
    if stored and target.kind == "binary":  # so that 0 and 1 have the same digest as integers and in floating point
        sql[target.column] = rf"regexp_replace({sql[target.column]}, '\.0$', '')"
    more = {FILE: quoted(FILE), TIME_TEXT: f"CAST({quoted(config.time)} AS VARCHAR)"} if stored else {}
    return sql | more


def _require_columns(config: ModelConfig, group: Group) -> None:
    """Refuse a file without a declared column, or with a time that is none. The message has the most similar column."""
    kinds, file = group.types, group.files[0]
    for name in declared_columns(config):
        if name not in kinds:
            lower = {other.lower(): other for other in kinds}
            closest = difflib.get_close_matches(name.lower(), lower, n=1)
            hint = f"; did you mean {lower[closest[0]]!r}?" if closest else "."
            raise SourceMismatch(
                f"{file}, which now has {', '.join(f'{other} {kind}' for other, kind in kinds.items())}, has no column {name!r}, which "
                f"model.yaml declares{hint} Correct the name in model.yaml, or the file"
            )
    kind = kinds[config.time]
    if not (is_zoned(kind) or is_local(kind) or kind in ("VARCHAR", EMPTY)):
        raise SourceMismatch(
            f"{file}: column {config.time!r} is {kind}, but must be a time; store it as a timestamp, or as text such as "
            f"2024-03-31T15:00:00+02:00"
        )
