"""Validation with Great Expectations: which rows fail which expectation.

Rows that fail a critical or warning check are quarantined, also those that `mostly` tolerates. One check concerns the column and not its
rows: not-null with `mostly` below 1 allows nulls.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from configs.errors import ConfigError
from configs.expectations import Expectation, unsatisfiable
from configs.nearest import hint
from configs.schema import ModelConfig
from configs.settings import disable_telemetry
from tasks.contracts import Finding, Validation
from tasks.validation.reasons import (
    ABOUT_NULLS,
    BETWEEN,
    FINITE,
    NOT_NULL,
    UNIQUE,
    Check,
    Show,
    format_value,
    reason,
    show_value,
)

if TYPE_CHECKING:
    import pandas as pd


NOT_ARGUMENTS = (
    *("id", "meta", "notes", "rendered_content", "batch_id", "description", "severity"),
    *("catch_exceptions", "result_format", "windows", "library_metadata"),
)
"""Fields of Great Expectations' classes that are no arguments of a check: `severity` is a key of the expectation."""
ROW_COUNTS = ("expect_table_row_count_to_be_between", "expect_table_row_count_to_equal")
"""Expectations of the number of rows, the only ones that apply to a partition without rows."""


def structural_expectations(config: ModelConfig) -> tuple[Expectation, ...]:
    """The expectations that every model has: a unique key, a time, finite numbers. An empty partition is only reported."""
    finite = Expectation(type=BETWEEN, severity="warning", columns=config.features.numeric, kwargs=FINITE)
    return (
        Expectation(type=ROW_COUNTS[0], kwargs={"min_value": 1}, severity="info"),
        Expectation(type=NOT_NULL, columns=(config.key, config.time)),
        Expectation(type=UNIQUE, columns=(config.key,)),
        *((finite,) if config.features.numeric else ()),
    )


def validate_frame(
    frame: "pd.DataFrame",
    expectations: Sequence[Expectation],
    key: str,
    personal: Sequence[str] = (),
    show: Show = show_value,
) -> Validation:
    """Check every row of the frame against the expectations.

    Great Expectations counts first. The positions of rows are requested only for checks that rows fail. A check that raised an error (a
    missing column, a wrong type) has `broke` set. A check of a column in which all values are null does not pass, because nothing was
    checked.

    Args:
        frame: The rows.
        expectations: The expectations.
        key: Column that identifies rows in the findings.
        personal: Columns whose values no finding may have.
        show: Returns what a finding or a reason shows of a column's value.

    Raises:
        ConfigError: the arguments of an expectation are wrong.
    """
    checks = list(_checks(expectations))
    if not checks:
        return Validation((), {})
    frame = frame.reset_index(drop=True)
    batch = _batch(frame)
    results = _run(batch, frame, checks, "BASIC")
    failed = [number for number, check in enumerate(checks) if _quarantines(check, results[number])]
    complete = _run(batch, frame, [checks[n] for n in failed], "COMPLETE") if failed else []
    positions = {n: r.result.get("unexpected_index_list") or [] for n, r in zip(failed, complete, strict=True)}
    findings = [
        _finding(check, results[n], _example_keys(frame, key, positions.get(n, []), show), personal, show)
        for n, check in enumerate(checks)
    ]
    return Validation(tuple(findings), _bad_rows(frame, {n: checks[n] for n in failed}, positions, show))


def check_arguments(config: ModelConfig) -> None:
    """Check that Great Expectations accepts the arguments of the config's expectations, and that a row can satisfy them.

    Raises:
        ConfigError: it does not. The message has the model, the entry, the error, and the most similar valid name.
    """
    for check in _checks(config.expectations, f"model {config.name}: "):
        _build(check, 0)
        if problem := unsatisfiable(check.kwargs):
            raise ConfigError(f"{check.where}.kwargs.{problem}")


def _checks(expectations: Iterable[Expectation], prefix: str = "") -> Iterator[Check]:
    for i, expectation in enumerate(expectations):
        for kwargs in expectation.checks():
            yield Check(f"{prefix}expectations[{i}]", expectation.type, expectation.severity, kwargs)


def _build(check: Check, number: int) -> Any:
    """Build the object of Great Expectations. Its results are not in order, and `number` identifies this one's."""
    kind = expectation_class(check.type)
    try:
        return kind(**check.kwargs, severity=check.severity, meta={"number": number})
    except ValueError as error:
        raise ConfigError("\n".join(_explain(check, kind, e) for e in _details(error))) from None


def _details(error: ValueError) -> list[dict[str, Any]]:
    """The first of Pydantic's errors for each argument."""
    errors = error.errors() if hasattr(error, "errors") else [{"loc": ("__root__",), "msg": str(error)}]
    first = {e["loc"][0]: e for e in reversed(errors)}
    by_argument = {k: e for k, e in first.items() if k != "__root__"}
    return list((by_argument or first).values())


def _explain(check: Check, kind: Any, error: Mapping[str, Any]) -> str:
    name = error["loc"][0]
    if name == "__root__":
        return f"{check.where}.kwargs: {check.type}: {error['msg']}"
    if "extra" in error["msg"]:
        return f"{check.where}.kwargs.{name}: {check.type} has no such argument; {hint(name, arguments_of(kind), 'it takes')}"
    value = f" (it is {check.kwargs[name]!r})" if name in check.kwargs else ""
    return f"{check.where}.kwargs.{name}: {error['msg']}{value}"


def expectation_class(name: str) -> Any:
    """Return the class of an expectation of Great Expectations."""
    disable_telemetry()
    import great_expectations.expectations.registry as registry

    return registry.get_expectation_impl(name)


def arguments_of(kind: Any) -> dict[str, bool]:
    """Return the arguments of an expectation of Great Expectations that a model.yaml may give, and whether each is required."""
    return {name: bool(field.required) for name, field in kind.__fields__.items() if name not in NOT_ARGUMENTS}


def _batch(frame: "pd.DataFrame") -> Any:
    """The frame as a batch of Great Expectations, in a context that exists only in memory."""
    disable_telemetry()
    import great_expectations as gx
    from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults

    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
    memory = InMemoryStoreBackendDefaults(init_temp_docs_sites=False)  # the default leaves a folder in /tmp each time
    context = gx.get_context(mode="ephemeral", project_config=DataContextConfig(store_backend_defaults=memory))
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("frame").add_dataframe_asset("frame")
    return asset.add_batch_definition_whole_dataframe("frame").get_batch({"dataframe": frame})


def _run(batch: Any, frame: "pd.DataFrame", checks: Sequence[Check], result_format: str | dict[str, Any]) -> list[Any]:
    """The results of Great Expectations, in the order of the checks."""
    import great_expectations as gx

    expectations = [_build(_with_datetimes(check, frame), number) for number, check in enumerate(checks)]
    suite = gx.ExpectationSuite(name="checks", expectations=expectations)
    results = batch.validate(suite, result_format=result_format).results
    return sorted(results, key=lambda r: r.expectation_config.meta["number"])


def _with_datetimes(check: Check, frame: "pd.DataFrame") -> Check:
    """Convert the values of checks of a time column to datetimes. YAML gives text or dates, which cannot be compared with times."""
    import pandas as pd

    if not any(c in frame.columns and isinstance(frame[c].dtype, pd.DatetimeTZDtype) for c in check.columns):
        return check
    kwargs = {k: _utc(v) if k in ("min_value", "max_value") else v for k, v in check.kwargs.items()}
    if isinstance(values := kwargs.get("value_set"), list | tuple):
        kwargs["value_set"] = [_utc(value) for value in values]
    return Check(check.where, check.type, check.severity, kwargs)


def _utc(value: Any) -> Any:
    import pandas as pd

    if not isinstance(value, str | date):
        return value
    time = pd.Timestamp(value)
    return (time.tz_localize("UTC") if time.tz is None else time.tz_convert("UTC")).to_pydatetime()


def _finding(check: Check, result: Any, example_keys: str, personal: Sequence[str], show: Show) -> Finding:
    details, broke = result.result or {}, _error_text(result)
    if broke and personal:  # the library's message may quote any value
        broke = "the check raised an error; its text is not shown, since the model has personal columns"
    all_null = _is_all_null(check, details)
    return Finding(
        expectation=check.type,
        column=", ".join(check.columns),
        severity=check.severity,
        passed=bool(result.success) and not broke and not all_null,
        rows=int(details.get("unexpected_count") or 0),
        share=float(details.get("unexpected_percent") or 0) / 100,
        observed="no value to check: all values are null"
        if all_null
        else _observed(check, details, personal, show) + example_keys,
        broke=broke,
    )


def _example_keys(frame: "pd.DataFrame", key: str, positions: Sequence[int], show: Show) -> str:
    """The keys of the first rows that fail a check."""
    if not positions or key not in frame.columns:
        return ""
    keys = ", ".join(str(show(key, v)) for v in frame[key].iloc[list(positions[:3])])
    return f" ({key} {keys}{' ...' if len(positions) > 3 else ''})"


def _error_text(result: Any) -> str:
    """The error that the check raised, empty if it raised none. A result has one exception, or one for each metric."""
    info = result.exception_info or {}
    exceptions = [info] if "raised_exception" in info else [e for e in info.values() if isinstance(e, Mapping)]
    messages = [str(e.get("exception_message")) for e in exceptions if e.get("raised_exception")]
    return " ".join(messages[0].split())[:300] if messages else ""


def _is_all_null(check: Check, details: Mapping[str, Any]) -> bool:
    """Whether the check had no value. Great Expectations ignores nulls, and then such a check passes."""
    total = details.get("element_count", 0)
    return check.type not in ABOUT_NULLS and total > 0 and details.get("missing_count") == total


def _observed(check: Check, details: Mapping[str, Any], personal: Sequence[str], show: Show) -> str:
    hidden = set(check.columns) & set(personal)
    if "observed_value" in details:
        return "not shown: personal data" if hidden else format_value(details["observed_value"])
    values = details.get("partial_unexpected_list", ())[:3]
    if hidden and len(check.columns) > 1:
        return "not shown: personal data"
    column = check.columns[0] if check.columns else ""
    return ", ".join(dict.fromkeys(format_value(show(column, v)) for v in values))


def _quarantines(check: Check, result: Any) -> bool:
    return check.severity != "info" and bool((result.result or {}).get("unexpected_count")) and not check.allows_nulls


def _bad_rows(
    frame: "pd.DataFrame", checks: Mapping[int, Check], positions: Mapping[int, Sequence[int]], show: Show
) -> dict[int, tuple[str, ...]]:
    """The reasons why rows are quarantined, by position of the row, ascending."""
    reasons: dict[int, list[str]] = defaultdict(list)
    for number, check in checks.items():
        values = zip(*(frame[c].iloc[list(positions[number])] for c in check.columns), strict=True)
        for position, value in zip(positions[number], values, strict=True):
            reasons[int(position)].append(reason(check, value, show))
    return {position: tuple(dict.fromkeys(reasons[position])) for position in sorted(reasons)}
