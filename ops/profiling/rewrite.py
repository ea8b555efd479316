"""Replace the learned expectations of a model.yaml. All other lines, comments and expectations of a person stay as they are."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from configs.content import Loader
from configs.errors import ConfigError
from ops.profiling.expectations import BETWEEN, COUNT, FAR_OUTSIDE, IN_SET, NOT_NULL, Check
from ops.profiling.write import expectation_line

LEARNED = re.compile(
    r"# (\d[\d,]* (month|week|day|hour)s had [\d,]+ to |had (no missing value|missing values); a |99\.8 % of the values are from |"
    r"no other value since the first half of the rows)"
)
"""Beginning of the comment of a line that was learned."""
ORDER = (COUNT, NOT_NULL, BETWEEN, IN_SET)


def rewritten(path: Path, checks: Sequence[Check], source: str) -> str:
    """Return the text of model.yaml with other learned expectations.

    A learned line is replaced by the check of its column, with the severity that a person gave it, or removed if nothing was learned.
    New checks come after the last line. A column that a person's expectation of the same type has gets no learned one.

    Args:
        path: The model.yaml.
        checks: The learned expectations.
        source: What they were learned from, for the comment of the list.

    Raises:
        ConfigError: The list is written in a form whose lines cannot be replaced.
    """
    text = path.read_text(encoding="utf-8")
    lines, node = text.splitlines(keepends=True), _list_node(text)
    if node is None or not node.value:
        start = next((at for at, line in enumerate(lines) if line.startswith("expectations:")), len(lines))
        lines = lines if text.endswith("\n") else [*lines[:-1], f"{lines[-1]}\n"]
        added = ["expectations:\n", *_lines(_without(checks, ()))]
        return "".join([*lines[:start], *added, *lines[start + 1 :]])
    if node.flow_style:
        raise ConfigError(
            f"{path}: expectations: the list is on one line in brackets; write each entry in a line that begins with `- `"
        )
    entries = [(item.start_mark.line, _value(text, item)) for item in node.value]
    learned = {
        at: entry | {"severity": _severity_of_a_person(entry, lines[at])}
        for at, entry in entries
        if LEARNED.search(lines[at]) and lines[at].lstrip().startswith("- {")
    }
    by_person = [entry for at, entry in entries if at not in learned]
    wanted = _without(checks, by_person)
    replaced = _replacements(learned, wanted)
    last = max(item.end_mark.line - (item.end_mark.column == 0) for item in node.value)
    while not lines[last].strip() or lines[last].lstrip().startswith("#"):
        last -= 1  # blank lines and comments after the list are not part of it
    new = [check for check in wanted if not any(check is own for group in replaced.values() for own, _ in group)]
    indent = lines[entries[0][0]].partition("-")[0]
    return "".join(_assembled(lines, replaced, last, new, source, indent))


def _assembled(
    lines: Sequence[str],
    replaced: Mapping[int, Sequence[tuple[Check, str]]],
    last: int,
    new: Sequence[Check],
    source: str,
    indent: str,
) -> Iterator[str]:
    for at, line in enumerate(lines):
        if at in replaced:
            yield from (f"{indent}- {expectation_line(check, severity)}\n" for check, severity in replaced[at])
        elif line.startswith("expectations:") and (replaced or new):
            yield re.sub(r"# (from all [\d,]+ rows|from [\d,]+ valid rows of .*)$", f"# from {source}", line)
        else:
            yield line
        if at == last:
            yield from _lines(new, indent)


def _severity_of_a_person(entry: Mapping[str, Any], line: str) -> str:
    """Return the severity of a learned line if a person has changed it, else nothing. Its comment has which one was learned."""
    usual = {BETWEEN: "info" if FAR_OUTSIDE in line else "warning", IN_SET: "info"}
    given = str(entry.get("severity", "critical"))
    return "" if given == usual.get(entry["type"], "critical") else given


def _lines(checks: Sequence[Check], indent: str = "  ") -> list[str]:
    return [f"{indent}- {expectation_line(check)}\n" for check in checks]


def _replacements(
    learned: Mapping[int, Mapping[str, Any]], wanted: Sequence[Check]
) -> dict[int, list[tuple[Check, str]]]:
    """Return for each learned line the checks that take its place, each with the severity of a person or none; no check if it goes."""
    replaced: dict[int, list[tuple[Check, str]]] = {}
    done: list[Check] = []
    for at, entry in learned.items():
        columns = _columns(entry)
        same = [check for check in wanted if check.type == entry["type"] and not any(check is own for own in done)]
        own = same if entry["type"] == NOT_NULL else [check for check in same if _columns_of(check) == columns]
        replaced[at] = [(check, entry["severity"]) for check in own]
        done += own
    return replaced


def _without(checks: Sequence[Check], by_person: Sequence[Mapping[str, Any]]) -> list[Check]:
    """Return the checks without the columns for which a person has written an expectation of the same type."""
    taken = {(entry["type"], column) for entry in by_person for column in _columns(entry) or ("",)}
    kept = []
    for check in sorted(checks, key=lambda check: ORDER.index(check.type)):
        free = tuple(column for column in _columns_of(check) or ("",) if (check.type, column) not in taken)
        if free:
            kept.append(check._replace(columns=free) if check.columns else check)
    return kept


def _columns_of(check: Check) -> tuple[str, ...]:
    return check.columns or ((str(check.kwargs["column"]),) if "column" in check.kwargs else ())


def _columns(entry: Mapping[str, Any]) -> tuple[str, ...]:
    kwargs = entry.get("kwargs") or {}
    return tuple(entry.get("columns") or ()) or ((str(kwargs["column"]),) if "column" in kwargs else ())


def _list_node(text: str) -> Any:
    """Return the YAML node of the list of expectations with the positions of its entries, None if there is none."""
    root = yaml.compose(text, Loader=Loader)
    nodes = {key.value: value for key, value in root.value} if isinstance(root, yaml.MappingNode) else {}
    node = nodes.get("expectations")
    return node if isinstance(node, yaml.SequenceNode) else None


def _value(text: str, node: Any) -> dict[str, Any]:
    value: dict[str, Any] = yaml.load(text[node.start_mark.index : node.end_mark.index], Loader)  # noqa: S506  (a safe loader)
    return value
