"""The policies that a replay tries: those that every model has, those of model.yaml, and those that a person gives."""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from configs.errors import ConfigError
from configs.retraining import Drifted, Hindsight, Retraining, Signals, Trusted
from configs.schema import ModelConfig

LIVE, NEVER, EVERY, ORACLE = "live", "never", "every", "oracle"
"""Names that a report leans on. The oracle is no policy: it knows the future."""


def plain(**signals: Any) -> Retraining:
    """A policy that acts on these signals alone: no cool-down, no budget, no looking back."""
    said = {"drift": None, "decay": False} | signals
    return Retraining(signals=Signals(**said), hindsight=Hindsight(partitions=0))


BUILT_IN: Mapping[str, Retraining] = {
    NEVER: plain(),
    EVERY: plain(partitions=1),
    "every_2nd": plain(partitions=2),
    "every_3rd": plain(partitions=3),
    "drift": plain(drift=Drifted()),
    "drift_twice": plain(drift=Drifted(times=2, of=3)),
    "decay": plain(decay=True),
    "estimate": plain(estimate=Trusted()),
}


def policies(
    config: ModelConfig, names: Sequence[str], given: Mapping[str, Mapping[str, Any]]
) -> dict[str, Retraining]:
    """The policies by name, in the order of the report: those that were asked for, or all of them; the live one is always among them.

    Raises:
        ConfigError: a name is not known, or what was given is no policy.
    """
    for name in given:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):
            raise ConfigError(f"policy {name!r}: a name has small letters, digits and _, and begins with a letter")
    mine = {name: _parse(name, content) for name, content in given.items()}
    known = {LIVE: config.retraining, **BUILT_IN, **config.replay.policies, **mine}
    if twice := sorted(
        ({LIVE, ORACLE, *BUILT_IN} & {*config.replay.policies, *mine}) | (mine.keys() & config.replay.policies)
    ):
        raise ConfigError(f"{config.name}: a policy has the name {', '.join(twice)} already; choose another")
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
            raise ConfigError(f"{config.name}: no policy {name!r}; {hint}")
    chosen = {LIVE, *(names or known), *mine}
    return {name: rules for name, rules in known.items() if name in chosen}


def _parse(name: str, content: Mapping[str, Any]) -> Retraining:
    try:
        return Retraining.model_validate(content)
    except ValidationError as error:
        found = [
            f"{'.'.join(map(str, e['loc'])) or 'the whole'}: {e['msg']} (it says {e.get('input')!r})"
            for e in error.errors()
        ]
        raise ConfigError(f"policy {name!r}: {'; '.join(found)}") from None
