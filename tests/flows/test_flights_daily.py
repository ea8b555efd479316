"""Daily flights: a backfill that is killed at random moments and resumed leaves the same files as an uninterrupted one."""

import random
import shutil
import time

import pytest
import yaml

from configs.settings import ROOT
from flows.backfill import backfill
from flows.train import train
from tasks.contracts import Stage
from tasks.resources import Variant, open_resources
from tests.flows.test_backfill import contents, final_state, start, wait_until
from tests.flows.test_flights_year import flights  # noqa: F401  (a fixture)

pytestmark = pytest.mark.slow
FIRST, LAST, DAYS = "2013-03-25", "2013-04-05", 12
SEEDS = range(10)


def daily_override() -> dict:
    """Return the override for daily partitions: their length, and the number of rows of one."""
    rules = yaml.safe_load((ROOT / "configs" / "flights" / "model.yaml").read_text())["expectations"]
    rules[0] = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 300, "max_value": 2000}}
    return {"partition": {"every": "D"}, "expectations": rules}


def test_a_backfill_that_is_killed_at_ten_random_moments_ends_with_the_same_bytes(flights):  # noqa: F811
    """The champion was trained on the months January to March. The last days of the range are scored and checked for drift."""
    backfill(model="flights", start="2013-01", end="2013-03")
    train(model="flights", reason="first champion")
    options = {"model": "flights", "start": FIRST, "end": LAST, "override": daily_override()}
    lake = open_resources("flights", variant=Variant(options["override"])).lake
    began = time.monotonic()
    assert final_state(start(**options)).startswith("COMPLETED: ")
    took, whole = time.monotonic() - began, contents(lake)
    assert len(lake.keys(Stage.VALID)) == DAYS
    assert lake.keys(Stage.MONITORING), "some days are after the champion's promotion"
    killed = []
    for seed in SEEDS:
        shutil.rmtree(lake.root)
        process = start(**options)
        wait_until(lambda: (lake.root / "raw").is_dir(), 120)
        time.sleep(0.6 * took * random.Random(seed).random())
        killed.append(process.poll() is None)
        process.kill()
        process.wait()
        assert final_state(start(**options)).startswith("COMPLETED"), seed
        assert contents(lake) == whole, seed
    assert sum(killed) >= 6, "most of them were killed before they ended"
