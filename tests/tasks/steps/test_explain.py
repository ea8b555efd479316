"""A message names the column that explains a change of the loss, and claims nothing within two standard errors."""

import pytest

from tasks.steps.explain import explanation


def column(name: str, change: float | None, error: float = 0.002) -> dict:
    return {"column": name, "loss_change": change, "loss_error": None if change is None else error}


@pytest.mark.parametrize(
    ("columns", "rise", "message"),
    [
        (
            [column("prediction", 0.018), column("carrier_late_7d", 0.012), column("dest", 0.005)],
            0.020,
            "carrier_late_7d explains 0.012 of the estimated loss rise of 0.020",
        ),
        ([column("dest", -0.012)], -0.020, "dest explains 0.012 of the estimated loss fall of 0.020"),
        (
            [column("dest", 0.03)],
            0.02,
            "dest alone would change the loss by +0.030, more than the estimated loss rise of 0.020",
        ),
        ([column("dest", 0.003)], 0.02, "no drifted column explains the estimated loss rise of 0.020"),
        ([column("dest", -0.03)], 0.02, "no drifted column explains the estimated loss rise of 0.020"),
        ([column("dest", None)], 0.02, ""),
        ([column("dest", 0.012)], None, ""),
        ([column("dest", -0.012)], -0.0004, ""),
    ],
    ids=["rise", "fall", "more than all", "noise", "other direction", "unknown effect", "unknown rise", "no change"],
)
def test_the_message_names_the_feature_that_explains_most(columns, rise, message):
    assert explanation(columns, rise, "estimated") == message
