"""Selection of policies by name; errors say how to fix them."""

from datetime import timedelta

import pytest

from configs.errors import ConfigError
from configs.load import load_model
from tasks.replay.policies import BUILT_IN, EVERY, LIVE, NEVER, policies


@pytest.fixture
def config(tiny):
    return load_model("tiny", override={"replay": {"policies": {"calm": {"cool_down": "30D"}}}}).config


def test_by_default_all_policies_are_selected_and_live_is_that_of_model_yaml(config):
    selected = policies(config, [], {})
    assert list(selected) == [LIVE, *BUILT_IN, "calm"]
    assert selected[LIVE] == config.retraining
    assert selected["calm"].cool_down == timedelta(days=30)


def test_the_live_policy_is_always_selected(config):
    assert list(policies(config, [EVERY, NEVER], {"mine": {"budget": {"runs": 1}}})) == [LIVE, NEVER, EVERY, "mine"]


@pytest.mark.parametrize(
    ("names", "given", "message"),
    [
        (["evry"], {}, "no policy 'evry'; did you mean 'every'"),
        (["xyz"], {}, "no policy 'xyz'; there are: live, never"),
        ([], {"mine": {"cool_down": "-3D"}}, "policy 'mine': cool_down: .*'-3D' is not a duration"),
        ([], {"mine": {"cool_down": -3}}, "policy 'mine': cool_down: .*greater than or equal to 0 seconds"),
        ([], {"mine": {"cooldown": "3D"}}, "policy 'mine': cooldown: Extra inputs"),
        ([], {"live": {}}, "already a policy with the name live"),
        ([], {"100%": {}}, "policy '100%': a name has small letters"),
        ([], {"calm": {}}, "already a policy with the name calm"),
    ],
)
def test_an_invalid_policy_is_refused(config, names, given, message):
    with pytest.raises(ConfigError, match=message):
        policies(config, names, given)
