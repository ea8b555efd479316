"""Which changes of a published contract break what a reader relies on. docs/concepts.md has the table."""

from collections.abc import Iterator, Mapping
from typing import Any

from configs.base import span_text
from tasks.contracts.published import BreakingChange, Promise, PublishedColumn, PublishedContract

NO_MEANING = ("meta", "notes", "description")
"""Arguments of an expectation that do not change what it checks."""
LARGER_SET = ("to_contain_set", "to_not_be_in_set")
"""Ends of the names of expectations that promise more with a larger set of values. The others promise more with a smaller one."""
ORDER = ("warning", "critical")
"""Severities, the stronger promise last."""
REMOVED = "removed"


def breaking_changes(old: PublishedContract, new: PublishedContract) -> Iterator[BreakingChange]:
    """Yield the differences that break what a reader of the old contract relies on."""
    for name, column in old.columns.items():
        yield from _column_changes(name, column, new.columns.get(name))
    yield from _setting_changes(old, new)
    for promise in old.promises:
        if set(promise.columns) <= new.columns.keys() and not any(implies(p, promise) for p in new.promises):
            alike = next((p for p in new.promises if (p.type, p.columns) == (promise.type, promise.columns)), None)
            yield BreakingChange("expectations", str(promise), str(alike) if alike else REMOVED)


def _column_changes(name: str, old: PublishedColumn, new: PublishedColumn | None) -> Iterator[BreakingChange]:
    """Yield what breaks about one column. That it may be null now follows from an expectation that was removed."""
    key = f"column {name}"
    if new is None:
        yield BreakingChange(key, f"{old.role}, {old.type}", REMOVED)
        return
    if new.role != old.role:
        yield BreakingChange(f"{key}, role", old.role, new.role)
    if new.type != old.type:
        yield BreakingChange(f"{key}, type", old.type, new.type)
    if new.personal != old.personal:
        words = {True: "personal", False: "not personal"}
        yield BreakingChange(f"personal: {name}", words[old.personal], words[new.personal])


def _setting_changes(old: PublishedContract, new: PublishedContract) -> Iterator[BreakingChange]:
    """Yield what breaks about partitions, target and the meaning of the key."""
    pairs = (
        ("partition.every", old.every, new.every),
        ("partition.timezone", old.timezone, new.timezone),
        ("target.kind", old.target_kind, new.target_kind),
        ("target.classes", ", ".join(old.classes), ", ".join(new.classes)),
        ("dictionary, meaning of the key", old.key_meaning, new.key_meaning),
    )
    for key, before, after in pairs:
        if before != after and (before or key == "target.classes"):
            yield BreakingChange(key, before or "none", after or REMOVED)
    for key, earlier, later in (("partition.grace", old.grace, new.grace), ("target.delay", old.delay, new.delay)):
        if later > earlier:
            yield BreakingChange(key, span_text(earlier), span_text(later))


def implies(new: Promise, old: Promise) -> bool:
    """Whether all rows and partitions that keep one promise keep another one of the same check too."""
    if (new.type, new.columns) != (old.type, old.columns) or ORDER.index(new.severity) < ORDER.index(old.severity):
        return False
    names = (old.arguments.keys() | new.arguments.keys()) - {*NO_MEANING}
    try:
        return all(_at_least(name, old.type, old.arguments, new.arguments) for name in names)
    except TypeError:  # values that cannot be compared, such as a number and a text
        return False


def _at_least(name: str, kind: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether an argument of a check is at least as strict as before. Arguments that cannot be compared must be the same."""
    before, after = old.get(name), new.get(name)
    if before == after:
        return True
    if name in ("min_value", "max_value"):
        stricter = after is not None and (before is None or (after > before) == (name == "min_value"))
        return bool(stricter)
    if name == "mostly":
        return bool(new.get(name, 1) >= old.get(name, 1))
    if name in ("strict_min", "strict_max"):
        return not before
    if name == "value_set" and isinstance(before, list) and isinstance(after, list):
        kept, added = all(v in after for v in before), all(v in before for v in after)
        return kept and added if kind.endswith("to_equal_set") else kept if kind.endswith(LARGER_SET) else added
    return False
