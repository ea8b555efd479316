"""Look at data, and decide what the model.yaml of a new model has: the result is a `Plan`, which other modules write down."""

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from configs.base import parse_duration
from configs.flat import quoted
from configs.schema import RESERVED_COLUMNS, TIME_KEY
from ops.profiling.column_types import ISO, read_types
from ops.profiling.data import differing_types, find_data, open_rows
from ops.profiling.database import with_time
from ops.profiling.dated import with_dates
from ops.profiling.describe import describe
from ops.profiling.distributions import Distributions, read_distributions
from ops.profiling.expectations import Check, expectations, seasonal
from ops.profiling.features import Features, choose_features
from ops.profiling.limits import loss_of_prior
from ops.profiling.periods import Span, choose_every, choose_periods, label_delay, read_span
from ops.profiling.roles import choose_key, choose_label_time, choose_time, require_column, target_name
from ops.profiling.target import choose_kind
from ops.profiling.values import Choice, Column, Data, KeyChoice, Periods, TargetChoice, UnusableData

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Options:
    """What a person has given beside NAME. Empty: to be inferred. `ask` asks a person at a terminal."""

    source: str
    time: str = ""
    key: str = ""
    target: str = ""
    by: str = ""
    delay: str = ""
    ask: Callable[[str], str] | None = None


@dataclass(frozen=True)
class Plan:
    """Everything that was inferred from the data.

    Attributes:
        names: Name in model.yaml of each column in the files.
        sql_reasons: Why the model needs SQL; empty if a flat file is enough.
        floor: Highest loss of the gate, and the worst partition's loss by a constant prediction.
        distributions: What the profile page draws.
    """

    data: Data
    columns: Mapping[str, Column]
    time: Choice
    key: KeyChoice
    target: TargetChoice
    label_time: Choice | None
    features: Features
    periods: Periods
    span: Span
    checks: list[Check]
    seasonal: Mapping[str, float]
    names: Mapping[str, str]
    sql_reasons: tuple[str, ...]
    floor: tuple[float, float]
    distributions: Distributions


def make_plan(options: Options, now: datetime | None = None) -> Plan:
    """Look at the data and return the plan of a model.

    Raises:
        UnusableData: No model can be made from them.
    """
    data = find_data(options.source, options.time)
    with tempfile.TemporaryDirectory() as folder:
        con = open_rows(data, folder)
        try:
            return _plan(con, data, options, now or datetime.now(UTC))
        finally:
            con.close()


def _plan(con: "duckdb.DuckDBPyConnection", data: Data, options: Options, now: datetime) -> Plan:
    differing = differing_types(con, data)
    columns = {column.name: column for column in describe(con, read_types(con, data))}
    if not columns or next(iter(columns.values())).rows == 0:
        raise UnusableData(f"FROM={data.path}: the files have no rows")
    for option, name in (("TIME", options.time), ("KEY", options.key), ("TARGET", options.target)):
        if name:
            require_column(columns, option, name)
    time = choose_time(con, columns, options.time)
    data, columns[time.name] = with_time(data, columns[time.name])
    target, label_time, key = _roles(con, columns, time, options)
    span = read_span(con, time.name, target.name, columns[time.name].zone or "UTC")
    every = choose_every(span, options.by, None, columns[time.name].zone or "UTC")
    zone = "UTC" if every[0] == "H" else columns[time.name].zone or "UTC"
    data = with_dates(con, data, time.name, zone)
    every = choose_every(span, options.by, data.every, zone)
    delay = _delay(con, options, time, label_time, span)
    periods = choose_periods(con, time.name, target, span, every, zone, delay, now)
    parts = key.columns if len(key.columns) == 1 else ()  # parts of a longer key may be features
    taken = {time.name, target.name, *parts, *([label_time.name] if label_time else [])}
    outcome = outcome_value(target)
    differing |= dict.fromkeys(re.findall(r"(\w+)=%", data.path), "a part of the date in the names of folders")
    features = choose_features(con, list(columns.values()), taken, target, outcome, differing)
    if not features.all:
        raise UnusableData(
            f"no column can be a feature: {'; '.join(f'{n}: {r}' for n, r in features.excluded.items())}"
        )
    names = model_names(columns, target)
    checks = expectations(con, features, time.name, periods, names)
    found = seasonal(con, features, time.name, periods, span.length / timedelta(days=1))
    reasons = sql_reasons(data, columns, time.name, key, target, label_time, features, names)
    floor = loss_of_prior(con, time.name, target, outcome, periods)
    drawn = read_distributions(con, columns.values(), time.name, target, outcome, periods)
    return Plan(
        data,
        columns,
        time,
        key,
        target,
        label_time,
        features,
        periods,
        span,
        checks,
        found,
        names,
        reasons,
        floor,
        drawn,
    )


def _roles(
    con: "duckdb.DuckDBPyConnection", columns: Mapping[str, Column], time: Choice, options: Options
) -> tuple[TargetChoice, Choice | None, KeyChoice]:
    """Return the target, the time of the label and the key. If no target is given, the key cannot be it."""
    if options.target:
        choice = Choice(options.target, "given as TARGET")
    else:
        key = choose_key(con, columns, time.name, "", options.key)
        choice = target_name(columns, (time.name, *key.columns), options.ask)
    target = choose_kind(con, columns[choice.name], choice)
    label_time = choose_label_time(con, columns, time.name, target.name)
    return target, label_time, choose_key(con, columns, time.name, target.name, options.key)


def _delay(
    con: "duckdb.DuckDBPyConnection", options: Options, time: Choice, label_time: Choice | None, span: Span
) -> tuple[timedelta, str, bool]:
    given = options.delay
    inferred = label_delay(con, time.name, label_time.name if label_time else "", span)
    if not given and options.ask and not inferred[2]:
        given = options.ask(
            f"After what time is an outcome known, such as 30min, 6h or 14D? [{inferred[0]}: {inferred[1]}] "
        ).strip()
    if not given:
        return inferred
    try:
        parsed = parse_duration(given)
    except ValueError as error:
        raise UnusableData(f"DELAY={given}: {error}") from None
    if not isinstance(parsed, timedelta):
        raise UnusableData(f"DELAY={given}: is not a duration; write a number and min, h, D or W, such as 14D")
    return parsed, "given as DELAY" if options.delay else "answered at the terminal", True


def outcome_value(target: TargetChoice) -> str:
    """Return SQL for the outcome in the typed rows: 0 or 1, the text of a class, or a number."""
    name = quoted(target.name)
    text = rf"regexp_replace(CAST({name} AS VARCHAR), '^(-?\d+)\.0$', '\1')"
    if target.kind == "regression":
        return name
    if target.kind == "multiclass":
        return text
    positive = target.positive.replace("'", "''")
    return (
        f"CAST({text} = '{positive}' AS DOUBLE)"
        if target.positive
        else f"CAST(lower({text}) IN ('1', 'true') AS DOUBLE)"
    )


def model_names(columns: Mapping[str, Column], target: TargetChoice) -> dict[str, str]:
    """Return the name in model.yaml of each column: its own, if that is allowed."""
    reserved = (
        {name for names in RESERVED_COLUMNS.values() for name in names}
        | {f"p_{name}".lower() for name in target.classes}
        | {TIME_KEY}
    )
    names: dict[str, str] = {}
    for name in sorted(columns, key=lambda name: name != target.name):
        own = name
        if name == target.name and not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", own):
            own = re.sub(r"[^a-z0-9]+", "_", own.lower()).strip("_")[:38]
            own = own if re.match("[a-z]", own) else f"y_{own}"
        while own.lower() in reserved or own.lower() in {other.lower() for other in names.values()}:
            own += "_"
        names[name] = own
    return names


def sql_reasons(
    data: Data, columns: Mapping[str, Column], time: str, key: KeyChoice, target: TargetChoice, label_time: Choice | None,
    features: Features, names: Mapping[str, str],
) -> tuple[str, ...]:  # fmt: skip
    """Return why a flat file is not enough; empty if it is."""
    used = {time, target.name, *key.columns, *(column.name for column in features.all)}
    clock = columns[time]
    as_text = [c.name for c in features.numeric if c.stored == "VARCHAR" and (not data.is_csv or c.unreadable)]
    reasons = {
        "columns have other names here: " + ", ".join(sorted(n for n in used if names[n] != n)): any(
            names[n] != n for n in used
        ),
        f"{target.name} is converted to 0 and 1": bool(target.positive),
        f"{target.name} has text in a column of numbers": target.kind == "regression"
        and bool(columns[target.name].unreadable),
        f"outcomes are known at {label_time.name if label_time else ''}": label_time is not None,
        "the key is made of several columns": not key.columns or len(key.columns) > 1,
        "rows with the same key are left out": bool(key.duplicates),
        f"{clock.nulls:,} rows without a time are left out": bool(clock.nulls),
        f"{time} is converted to a time": bool(clock.formats) and (clock.stored != "VARCHAR" or len(clock.formats) > 1),
        f"text is converted to numbers in {', '.join(as_text)}": bool(as_text),
    }
    return tuple(reason for reason, applies in reasons.items() if applies)


def table_format(plan: Plan) -> str | None:
    """Return the `time_format` of the source, None if the times are timestamps or text in ISO 8601."""
    formats = plan.columns[plan.time.name].formats
    stored = plan.columns[plan.time.name].stored
    return formats[0] if stored == "VARCHAR" and len(formats) == 1 and formats[0] != ISO else None
