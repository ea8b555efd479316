"""Great Expectations' owner: holds a frame to its expectations and says which rows break what.

Rows that break a critical or warning check are quarantined, also those that `mostly` tolerates.
One check is about the column and not about rows: not-null with `mostly` below 1 allows nulls.
"""

import difflib
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from configs.errors import ConfigError
from configs.schema import Expectation, ModelConfig
from configs.settings import silence_vendors
from tasks.contracts import Finding, Validation
from tasks.validation.reasons import ABOUT_NULLS, BETWEEN, FINITE, NOT_NULL, UNIQUE, Check, reason, text

if TYPE_CHECKING:
    import pandas as pd


def structural(config: ModelConfig) -> tuple[Expectation, ...]:
    """The checks that every model has: rows at all, a key that names them, a time, finite numbers."""
    finite = Expectation(type=BETWEEN, severity="warning", columns=config.features.numeric, kwargs=FINITE)
    return (
        Expectation(type="expect_table_row_count_to_be_between", kwargs={"min_value": 1}),
        Expectation(type=NOT_NULL, columns=(config.key, config.time)),
        Expectation(type=UNIQUE, columns=(config.key,)),
        *((finite,) if config.features.numeric else ()),
    )


def check(frame: "pd.DataFrame", expectations: Sequence[Expectation], key: str) -> Validation:
    """Hold every row of the frame to the expectations; `key` only names rows in the findings.

    Great Expectations counts first; the rows are asked for only where a check has any. A check
    that cannot be made (a missing column, a wrong type) has `broke` set. A check of a column
    that is null throughout has seen nothing, and so has not passed.

    Raises:
        ConfigError: an expectation is unknown to Great Expectations, or its arguments are wrong.
    """
    checks = list(_each(expectations))
    if not checks:
        return Validation((), {})
    frame = frame.reset_index(drop=True)
    batch = _batch(frame)
    results = _run(batch, frame, checks, "BASIC")
    breaking = [number for number, one in enumerate(checks) if _quarantines(one, results[number])]
    complete = _run(batch, frame, [checks[n] for n in breaking], "COMPLETE") if breaking else []
    positions = {n: r.result.get("unexpected_index_list") or [] for n, r in zip(breaking, complete, strict=True)}
    findings = [_finding(one, results[n], _names(frame, key, positions.get(n, []))) for n, one in enumerate(checks)]
    return Validation(tuple(findings), _bad_rows(frame, {n: checks[n] for n in breaking}, positions))


def check_names(config: ModelConfig) -> None:
    """See whether Great Expectations knows the config's expectations and accepts their arguments.

    Raises:
        ConfigError: naming the model, the entry, what is wrong and the nearest right name.
    """
    for one in _each(config.expectations, f"model {config.name}: "):
        _build(one, 0)


def rows(validation: Validation) -> list[dict[str, Any]]:
    """The findings as a table: what could not be checked, what failed, what passed; critical before info."""
    order = {"critical": 0, "warning": 1, "info": 2}
    findings = sorted(validation.findings, key=lambda f: (f.passed, not f.broke, f.rows == 0, order[f.severity]))
    return [
        {
            "expectation": f.expectation.removeprefix("expect_"),
            "column": f.column,
            "severity": f.severity,
            "result": "passed" if f.passed else "could not be checked" if f.broke else "FAILED",
            "rows": f.rows,
            "share": f"{f.share:.2%}" if f.rows else "",
            "seen": f.broke or f.observed,
        }
        for f in findings
    ]


def _each(expectations: Iterable[Expectation], prefix: str = "") -> Iterator[Check]:
    for i, expectation in enumerate(expectations):
        for kwargs in expectation.each():
            yield Check(f"{prefix}expectations[{i}]", expectation.type, expectation.severity, kwargs)


def _build(one: Check, number: int) -> Any:
    """Great Expectations' own object; `number` finds its result again, whose order is not kept."""
    silence_vendors()
    import great_expectations.expectations.registry as registry
    from great_expectations.exceptions import ExpectationNotFoundError

    try:
        kind = registry.get_expectation_impl(one.type)
    except ExpectationNotFoundError:
        hint = _nearest(one.type, registry.list_registered_expectation_implementations())
        raise ConfigError(f"{one.where}.type: Great Expectations has no {one.type!r}{hint}") from None
    try:
        return kind(**one.kwargs, severity=one.severity, meta={"number": number})
    except ValueError as error:
        raise ConfigError("\n".join(_explain(one, kind, e) for e in _details(error))) from None


def _details(error: ValueError) -> list[dict[str, Any]]:
    """Pydantic's errors, one for each argument: the first reason is enough."""
    found = error.errors() if hasattr(error, "errors") else [{"loc": ("__root__",), "msg": str(error)}]
    first = {e["loc"][0]: e for e in reversed(found)}
    named = {k: e for k, e in first.items() if k != "__root__"}
    return list((named or first).values())


def _explain(one: Check, kind: Any, error: Mapping[str, Any]) -> str:
    name = error["loc"][0]
    if name == "__root__":
        return f"{one.where}.kwargs: {one.type}: {error['msg']}"
    if "extra" in error["msg"]:
        return f"{one.where}.kwargs.{name}: {one.type} has no such argument{_nearest(name, kind.__fields__)}"
    given = f" (it says {one.kwargs[name]!r})" if name in one.kwargs else ""
    return f"{one.where}.kwargs.{name}: {error['msg']}{given}"


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _batch(frame: "pd.DataFrame") -> Any:
    """The frame as Great Expectations sees it, in a context that lives in memory only."""
    silence_vendors()
    import great_expectations as gx
    from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults

    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
    memory = InMemoryStoreBackendDefaults(init_temp_docs_sites=False)  # its default leaves a folder in /tmp each time
    context = gx.get_context(mode="ephemeral", project_config=DataContextConfig(store_backend_defaults=memory))
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("frame").add_dataframe_asset("frame")
    return asset.add_batch_definition_whole_dataframe("frame").get_batch({"dataframe": frame})


def _run(batch: Any, frame: "pd.DataFrame", checks: Sequence[Check], result_format: str) -> list[Any]:
    """Great Expectations' results, in the order of the checks."""
    import great_expectations as gx

    built = [_build(_with_datetimes(one, frame), number) for number, one in enumerate(checks)]
    suite = gx.ExpectationSuite(name="checks", expectations=built)
    results = batch.validate(suite, result_format=result_format).results
    return sorted(results, key=lambda r: r.expectation_config.meta["number"])


def _with_datetimes(one: Check, frame: "pd.DataFrame") -> Check:
    """Bounds of a time column as datetimes: from YAML they come as text or dates, and would not compare."""
    import pandas as pd

    if not any(c in frame.columns and isinstance(frame[c].dtype, pd.DatetimeTZDtype) for c in one.columns):
        return one
    kwargs = {k: _utc(v) if k in ("min_value", "max_value") else v for k, v in one.kwargs.items()}
    return Check(one.where, one.type, one.severity, kwargs)


def _utc(value: Any) -> Any:
    import pandas as pd

    if not isinstance(value, str | date):
        return value
    moment = pd.Timestamp(value)
    return (moment.tz_localize("UTC") if moment.tz is None else moment.tz_convert("UTC")).to_pydatetime()


def _finding(one: Check, result: Any, names: str) -> Finding:
    details, broke = result.result or {}, _broke(result)
    unseen = _saw_nothing(one, details)
    return Finding(
        expectation=one.type,
        column=", ".join(one.columns),
        severity=one.severity,
        passed=bool(result.success) and not broke and not unseen,
        rows=int(details.get("unexpected_count") or 0),
        share=float(details.get("unexpected_percent") or 0) / 100,
        observed="no value to check: the column is null throughout" if unseen else _observed(details) + names,
        broke=broke,
    )


def _names(frame: "pd.DataFrame", key: str, positions: Sequence[int]) -> str:
    """The keys of the first rows that break a check, for a person who goes and looks."""
    if not positions or key not in frame.columns:
        return ""
    names = ", ".join(str(v) for v in frame[key].iloc[list(positions[:3])])
    return f" ({key} {names}{' ...' if len(positions) > 3 else ''})"


def _broke(result: Any) -> str:
    """Why the check could not be made; empty when it could. One exception, or one for each metric."""
    info = result.exception_info or {}
    each = [info] if "raised_exception" in info else [e for e in info.values() if isinstance(e, Mapping)]
    messages = [str(e.get("exception_message")) for e in each if e.get("raised_exception")]
    return " ".join(messages[0].split())[:300] if messages else ""


def _saw_nothing(one: Check, details: Mapping[str, Any]) -> bool:
    """Great Expectations leaves nulls out and passes what is left, even when that is nothing."""
    total = details.get("element_count", 0)
    return one.type not in ABOUT_NULLS and total > 0 and details.get("missing_count") == total


def _observed(details: Mapping[str, Any]) -> str:
    if "observed_value" in details:
        return text(details["observed_value"])
    return ", ".join(dict.fromkeys(text(v) for v in details.get("partial_unexpected_list", ())[:3]))


def _quarantines(one: Check, result: Any) -> bool:
    return one.severity != "info" and bool((result.result or {}).get("unexpected_count")) and not one.allows_nulls


def _bad_rows(
    frame: "pd.DataFrame", checks: Mapping[int, Check], positions: Mapping[int, Sequence[int]]
) -> dict[int, tuple[str, ...]]:
    bad: dict[int, list[str]] = defaultdict(list)
    for number, one in checks.items():
        values = zip(*(frame[c].iloc[list(positions[number])] for c in one.columns), strict=True)
        for position, value in zip(positions[number], values, strict=True):
            bad[int(position)].append(reason(one, value))
    return {position: tuple(dict.fromkeys(bad[position])) for position in sorted(bad)}
