"""Policies by name, of model.yaml and given; wrong ones are refused with the way out."""

from datetime import timedelta

import pytest

from configs.errors import ConfigError
from configs.load import load_model
from tasks.replay.policies import BUILT_IN, EVERY, LIVE, NEVER, policies


@pytest.fixture
def config(tiny):
    return load_model("tiny", override={"replay": {"policies": {"calm": {"cool_down": "30D"}}}}).config


def test_all_that_are_known_are_played_and_live_is_the_models_own(config):
    found = policies(config, [], {})
    assert list(found) == [LIVE, *BUILT_IN, "calm"]
    assert found[LIVE] == config.retraining
    assert found["calm"].cool_down == timedelta(days=30)


def test_the_live_one_is_always_among_those_that_are_chosen(config):
    assert list(policies(config, [EVERY, NEVER], {"mine": {"budget": {"runs": 1}}})) == [LIVE, NEVER, EVERY, "mine"]


@pytest.mark.parametrize(
    ("names", "given", "told"),
    [
        (["evry"], {}, "no policy 'evry'; did you mean 'every'"),
        (["xyz"], {}, "no policy 'xyz'; there are: live, never"),
        ([], {"mine": {"cool_down": "-3D"}}, "policy 'mine': cool_down: .*'-3D' is no duration"),
        ([], {"mine": {"cool_down": -3}}, "policy 'mine': cool_down: .*greater than or equal to 0 seconds"),
        ([], {"mine": {"cooldown": "3D"}}, "policy 'mine': cooldown: Extra inputs"),
        ([], {"live": {}}, "has the name live already"),
        ([], {"100%": {}}, "policy '100%': a name has small letters"),
        ([], {"calm": {}}, "has the name calm already"),
    ],
)
def test_what_is_no_policy_is_refused(config, names, given, told):
    with pytest.raises(ConfigError, match=told):
        policies(config, names, given)
