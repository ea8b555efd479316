"""The measured effect of a promotion: rows are matched within their partition, and partitions without outcomes are left out."""

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from tasks.contracts import Promotion, Stage
from tasks.lifecycle.hindsight import compare_with_previous, is_lost
from tasks.lifecycle.shadow import is_matured
from tasks.resources import Resources, open_resources
from tests.conftest import parcels

DAYS = ("2024-03-01", "2024-03-02")


def write(res: Resources, key: str, stage: Stage, frame: pd.DataFrame, **data: object) -> None:
    digest = res.lake.write_frame(stage, key, frame)
    res.lake.write_record(res.ref(key), stage, version=1, inputs={}, rows=len(frame), digest=digest, data=data)


def test_keys_that_repeat_across_partitions_are_matched_within_each(tiny):
    res, losses = open_resources("tiny"), []
    for day, key in enumerate(DAYS):
        rows = parcels(day).assign(parcel=[f"{i:03d}" for i in range(150)])
        champion, previous = (rows[["parcel", "sent"]].assign(prediction=p) for p in (0.2 + 0.1 * day, 0.5 - 0.2 * day))
        outcomes = rows[["parcel", "late"]].assign(known_at=rows["sent"] + timedelta(days=1))
        for stage, frame in ((Stage.PREDICTIONS, champion), (Stage.FORMER, previous), (Stage.LABELS, outcomes)):
            write(res, key, stage, frame)
        late = rows["late"].dropna()
        chance = [
            np.where(late == 1, frame["prediction"].iloc[0], 1 - frame["prediction"].iloc[0])
            for frame in (previous, champion)
        ]
        losses.append(np.log(chance[1]) - np.log(chance[0]))
    refs = [res.ref(key) for key in DAYS]
    row = Promotion("tiny", 2, "promote", "2", "1", refs[0].start, refs[0].start, "a person", "a reason")
    gain, count = compare_with_previous(row, refs, res)
    assert count == 2 * 147
    assert gain.value == pytest.approx(np.concatenate(losses).mean())


def test_a_partition_that_will_have_no_outcome_does_not_delay_the_verdict(tiny):
    res = open_resources("tiny")
    counts = {"empty": (0, 0), "never known": (0, 0), "pending": (0, 150), "matured": (147, 0)}
    for day, (mature, pending) in enumerate(counts.values(), start=1):
        write(res, f"2024-03-0{day}", Stage.LABELS, pd.DataFrame({"parcel": ["a"]}), mature=mature, pending=pending)
    assert [is_lost(res.ref(f"2024-03-0{day}"), res) for day in range(1, 6)] == [True, True, False, False, False]


@pytest.mark.parametrize("stage", [Stage.FORMER, Stage.SHADOW])
@pytest.mark.parametrize(
    ("hours", "pending", "later", "matured"),
    [(0, 5, 0, True), (-1, 5, 0, False), (-1, 0, 1, False), (-1, 0, 0, True)],
    ids=["at its as-of", "rows wait for labels", "a correction comes", "all labels came early"],
)
def test_a_partition_has_matured_at_its_as_of_or_when_all_its_labels_are_known(
    tiny, stage, hours, pending, later, matured
):
    """Complete labels are not collected again, so their moment can stay before the partition's as-of."""
    res, key = open_resources("tiny"), DAYS[0]
    ref = res.ref(key)
    for name, version in ((Stage.PREDICTIONS, "2"), (stage, "1")):
        write(res, key, name, parcels(0)[["parcel"]].assign(prediction=float(version)), version=version)
    counts = {"mature": 140, "pending": pending, "later": later}
    collected = res.ref(key, ref.as_of + timedelta(hours=hours))
    res.lake.write_record(collected, Stage.LABELS, version=1, inputs={}, rows=140, digest="labels", data=counts)
    assessed = {Stage.PREDICTIONS: res.lake.done(Stage.PREDICTIONS, key).digest, Stage.LABELS: "labels"}
    res.lake.write_record(ref, Stage.PERFORMANCE, version=1, inputs=assessed, rows=140, digest=None, data={})
    assert is_matured(ref, "2", stage, "1", res) == matured
    assert not is_matured(ref, "3", stage, "1", res)
