"""The demo's year of flights, run by the flows and then replayed: the replay of the live policy gives the same results."""

import pytest

from tests.flows.test_flights_year import flights  # noqa: F401  (a fixture)
from tests.flows.test_replay import assert_same_as_production, run_production, simulate

pytestmark = pytest.mark.slow


def test_the_replay_of_the_demos_year_is_the_same_as_production(flights):  # noqa: F811
    run_production("flights", "2013-01", "2013-04", "2013-12")
    live, replayed = simulate(model="flights", start="2013-04", end="2013-12")
    assert len(replayed.steps) == 9
    assert_same_as_production(live, replayed)
    assert [row.to_stage for row in replayed.promotions].count("champion") > 1
    assert replayed.hindsights
