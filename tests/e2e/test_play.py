"""`make play` on real servers: a first champion, partitions in order, a blocked one, a retraining, and a second run that continues."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import day_file
from tests.copies import Copy

pytestmark = [pytest.mark.e2e, pytest.mark.servers, pytest.mark.slow]
LEDGER = """
from tasks.resources import open_resources
res = open_resources("tiny")
for f in res.ledger.facts():
    d = res.ledger.decision(f.id)
    print(f.kind, f.partition, f.as_of == res.ref(f.partition).as_of, d.action, d.outcome or "-", d.as_of == f.as_of)
"""


@pytest.fixture(scope="module")
def copy(tiny_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    """A copy of the repository with the model tiny, in which a training is due every two days. Nothing runs yet."""
    copy = Copy(tmp_path_factory.mktemp("copy"))
    copy.add_tiny(tiny_source)
    path = copy.folder / "configs" / "tiny" / "model.yaml"
    due = "retraining: {signals: {drift: null, decay: false, partitions: 2}, cool_down: 1D}"
    path.write_text(
        path.read_text().replace("retraining: {signals: {drift: {times: 1, of: 1}, decay: true}, cool_down: 3D}", due)
    )
    day = day_file(copy.folder, 10)
    pd.read_parquet(day).assign(weight=99.0).to_parquet(day, index=False)
    try:
        yield copy
    finally:
        copy.run("python", "-m", "ops.stack", "down")  # the log has the error of the blocked day


def test_a_play_of_any_model_trains_plays_in_order_and_continues(copy: Copy) -> None:
    text = copy.run("python", "-m", "ops.play", "tiny", "2024-03-01", "2024-03-12")
    assert "2024-03-09 is the first partition to score; those before it are for the training" in text
    days = [line.split()[0] for line in text.splitlines() if " of 4" in line]
    assert days == ["2024-03-09", "2024-03-10", "2024-03-11", "2024-03-12"]
    assert "2024-03-11 is blocked and left out: " in text
    facts = [line.split() for line in copy.run("python", "-c", LEDGER).splitlines()]
    assert facts
    assert all(on_time == same_moment == "True" for _, _, on_time, _, _, same_moment in facts)
    assert facts[0][:2] == ["due", "2024-03-10"], "two days after the first champion"
    assert facts[0][3] == "retrain"

    again = copy.run("python", "-m", "ops.play", "tiny", "2024-03-01", "2024-03-13")
    assert [line.split()[0] for line in again.splitlines() if " of 1" in line] == ["2024-03-13"]
    assert "Everything is fresh: 5 days of tiny" in copy.run(
        "python", "-m", "ops.play", "tiny", "2024-03-01", "2024-03-13"
    )
