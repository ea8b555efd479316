"""The policies of a replay: built-in ones, those of model.yaml, and those of the flow's parameter `given`."""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from configs.errors import ConfigError
from configs.retraining import DriftSignal, EstimateSignal, ExpectedGain, Hindsight, Retraining, Signals
from configs.schema import ModelConfig

LIVE, NEVER, EVERY, ORACLE, EXPECTED_GAIN = "live", "never", "every", "oracle", "expected_gain"
"""Names with a special meaning in reports. The oracle is not a policy, since it uses outcomes of the future."""


def policy_on(**signals: Any) -> Retraining:
    """Return a policy with these signals only: no cool-down, no budget, and promotions are not measured in hindsight."""
    return Retraining(signals=Signals(**({"drift": None, "decay": False} | signals)), hindsight=Hindsight(partitions=0))


BUILT_IN: Mapping[str, Retraining] = {
    NEVER: policy_on(),
    EVERY: policy_on(partitions=1),
    "every_2nd": policy_on(partitions=2),
    "every_3rd": policy_on(partitions=3),
    "drift": policy_on(drift=DriftSignal()),
    "drift_twice": policy_on(drift=DriftSignal(times=2, of=3)),
    "decay": policy_on(decay=True),
    "estimate": policy_on(estimate=EstimateSignal()),
    "always": policy_on(partitions=1),
    "always_2nd": policy_on(partitions=2),
    "always_3rd": policy_on(partitions=3),
}
UNGATED = frozenset(name for name in BUILT_IN if name.startswith("always"))
"""Policies whose every new version becomes champion, whatever the gate says. The difference to `every` is what the gate costs or saves."""


def policies(
    config: ModelConfig, names: Sequence[str], given: Mapping[str, Mapping[str, Any]], cost: float | None = None
) -> dict[str, Retraining]:
    """Return the selected policies by name, in the report's order.

    Args:
        cost: Cost of one retraining in the replay, by default `retraining.cost`. With it, there is also the policy `expected_gain`.
        names: Policies to select, by default all. The live policy and those of `given` are always selected.
        given: More policies by name, each as `retraining:` in model.yaml.

    Raises:
        ConfigError: A name is unknown or not allowed, or a policy of `given` is invalid.
    """
    for name in given:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):
            raise ConfigError(f"policy {name!r}: a name has small letters, digits and _, and begins with a letter")
    parsed = {name: _parse(name, content) for name, content in given.items()}
    priced = priced_policy(config, cost)
    available = {LIVE: config.retraining, **BUILT_IN, **priced, **config.replay.policies, **parsed}
    if duplicates := sorted(
        ({LIVE, ORACLE, EXPECTED_GAIN, *BUILT_IN} & {*config.replay.policies, *parsed})
        | (parsed.keys() & config.replay.policies)
    ):
        raise ConfigError(
            f"{config.name}: there is already a policy with the name {', '.join(duplicates)}; choose another name"
        )
    for name in names:
        if name not in available:
            similar = difflib.get_close_matches(name, available, n=1)
            hint = f"did you mean {similar[0]!r}?" if similar else f"there are: {', '.join(available)}"
            raise ConfigError(f"{config.name}: no policy {name!r}; {hint}")
    selected = {LIVE, *(names or available), *parsed}
    return {name: policy for name, policy in available.items() if name in selected}


def priced_policy(config: ModelConfig, cost: float | None = None) -> dict[str, Retraining]:
    """Return the policy `expected_gain` at a cost, by default `retraining.cost`; nothing without one, or if it is the live policy."""
    cost, live = cost or config.retraining.cost, config.retraining
    if not cost or (live.signals.expected_gain and live.cost == cost):
        return {}
    rule = live.signals.expected_gain or ExpectedGain()
    return {EXPECTED_GAIN: policy_on(expected_gain=rule).model_copy(update={"cost": cost})}


def _parse(name: str, content: Mapping[str, Any]) -> Retraining:
    try:
        return Retraining.model_validate(content)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, e['loc'])) or 'the policy'}: {e['msg']} (got {e.get('input')!r})"
            for e in error.errors()
        ]
        raise ConfigError(f"policy {name!r}: {'; '.join(problems)}") from None
