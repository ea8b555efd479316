"""The demo's year of flights, lived through by the flows and played again: the replay of the live policy is what happened."""

import pytest

from tests.flows.test_flights_year import flights  # noqa: F401  (a fixture)
from tests.flows.test_replay import hold_to_life, live_through, play_again

pytestmark = pytest.mark.slow


def test_the_demos_year_is_played_as_it_was_lived(flights):  # noqa: F811
    live_through("flights", "2013-01", "2013-04", "2013-12")
    live, played = play_again(model="flights", start="2013-04", end="2013-12")
    assert len(played.steps) == 9
    hold_to_life(live, played)
    assert [row.to_stage for row in played.promotions].count("champion") > 1
    assert played.hindsights
