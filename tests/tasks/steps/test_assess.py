"""The performance of a partition as of a moment is that of the outcomes known by then, also if later ones were collected already."""

import pandas as pd
import pytest

from tasks.contracts import Stage
from tasks.lifecycle.facts import assess_facts
from tasks.lifecycle.train_and_judge import train_and_judge
from tasks.orchestration.prefect_tasks import simulation
from tasks.resources import open_resources
from tasks.steps.assess import ASSESS, measure_version
from tasks.steps.collect import COLLECT
from tasks.steps.order import PROCESS
from tasks.steps.run import run_steps
from tasks.steps.step import advance, freshness

DAY = "2024-03-11"
LATE = pd.Timestamp("2024-03-20", tz="UTC")


@pytest.mark.long
def test_an_assessment_uses_no_label_known_after_its_moment(tiny):
    """Every outcome is corrected two days later to its opposite, so a good champion looks bad with the corrections."""
    res = open_resources("tiny")
    with simulation():
        for day in range(1, 11):
            run_steps(res.ref(f"2024-03-{day:02d}"), PROCESS, res)
        train_and_judge(None, "first champion", res)
        run_steps(res.ref(DAY), PROCESS, res)
    path = tiny / "configs" / "tiny" / "labels.sql"
    sql = path.read_text()
    path.write_text(f"{sql} UNION ALL {sql.replace('late,', '1 - late AS late,').replace('1 DAY', '3 DAY')}")
    res = open_resources("tiny")
    ref, later = res.ref(DAY), res.ref(DAY, LATE)
    advance(COLLECT, ref, res)
    in_order = advance(ASSESS, ref, res)
    assert in_order.as_of == ref.as_of
    assert "as_of" not in in_order.inputs, "records of the usual order stay fresh"

    advance(COLLECT, later, res)
    again = advance(ASSESS, ref, res)
    for name in ("scored", "mature", "never", "pending", "metrics", "blocks", "target"):
        assert again.data[name] == in_order.data[name], name
    assert again.as_of == ref.as_of
    assert measure_version(in_order.data["version"], ref, res) == pytest.approx(in_order.data["metrics"], nan_ok=True)
    assert freshness(ASSESS, ref, res).state == "fresh"
    assert not [fact for fact in assess_facts(ref, res) if fact.kind == "decay"]

    corrected = advance(ASSESS, later, res)
    assert corrected.as_of == LATE
    assert corrected.data["metrics"]["log_loss"] > 1.2 * in_order.data["metrics"]["log_loss"]
    assert freshness(ASSESS, ref, res).state == "fresh", "the moment does not move back"
    assert res.lake.done(Stage.PERFORMANCE, DAY).as_of == LATE
