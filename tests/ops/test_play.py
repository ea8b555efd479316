"""Which partitions a play trains on, plays and skips."""

import json
from datetime import datetime
from pathlib import Path

import pytest
from rich.console import Console

from ops.errors import StackError
from ops.play import Play
from ops.play_range import is_complete, split_range, training_partitions, training_problem
from ops.runs import RunFailed
from tasks.contracts import Promotion, Stage
from tasks.reports.health import alerts
from tasks.resources import Resources, open_resources
from tasks.steps.collect import COLLECT
from tasks.steps.ingest import INGEST
from tasks.steps.step import advance
from tasks.steps.validate import VALIDATE
from tasks.storage.partitions import NoPartition
from tests.conftest import day_file, parcels

pytestmark = pytest.mark.long

DAYS = [f"2024-03-{day:02d}" for day in range(1, 27)]


def make_champion(as_of: datetime, res: Resources) -> None:
    """Append the row of a first champion to the ledger."""
    res.ledger.append(
        Promotion("tiny", 0, "promote", "1", None, as_of, as_of, "ann", "a test", {}, run_id="", flow_run="", against=0)
    )


def test_the_days_before_the_range_train_the_first_champion(tiny: Path) -> None:
    earlier, played = split_range("2024-03-11", "2024-03-14", open_resources("tiny"))
    assert (earlier, played) == (DAYS[:10], DAYS[10:14])


def test_the_beginning_of_the_range_trains_the_first_champion_if_nothing_is_before_it(tiny: Path) -> None:
    """Two days are for the gate, two for the validation split, one is the label delay before each, and one or more are to fit on."""
    res = open_resources("tiny")
    assert training_partitions(DAYS, res.config) == 7
    assert split_range("2024-03-01", "2024-03-08", res) == (DAYS[:7], DAYS[7:8])
    assert split_range("2024-02-20", "2024-03-08", res) == (DAYS[:7], DAYS[7:8]), "the source starts on March 1"
    with pytest.raises(StackError, match=r"2024-03-01 to 2024-03-07 the first champion needs all of them.*later TO"):
        split_range("2024-03-01", "2024-03-07", res)


def test_a_training_is_possible_once_there_are_enough_rows_to_fit_on(tiny: Path) -> None:
    """A day has 147 rows with an outcome. With two label delays of one day, 200 rows need two days before the two splits."""
    res = open_resources("tiny")
    for key in DAYS[:8]:
        for step in (INGEST, VALIDATE, COLLECT):
            advance(step, res.ref(key), res)
    assert (
        "training.window.min_rows is 200, but there are 147 labelled rows before 2024-03-03T00:00+0000; set it to at most 147, or wait "
        "for 1 more partition"
    ) in training_problem(DAYS[6], res)
    assert training_problem(DAYS[7], res) == ""


def test_days_up_to_the_moment_of_the_first_champion_are_not_played_again(tiny: Path) -> None:
    res = open_resources("tiny")
    make_champion(res.ref("2024-03-05").as_of, res)
    assert split_range("2024-03-01", "2024-03-08", res) == (DAYS[:5], DAYS[5:8])
    with pytest.raises(StackError, match=r"all are before the first champion; choose a later TO"):
        split_range("2024-03-01", "2024-03-04", res)


def test_days_without_a_file_and_days_that_are_not_due_are_left_out(tiny: Path) -> None:
    day_file(tiny, 12).unlink()
    _, played = split_range("2024-03-11", "2249-12-31", open_resources("tiny"))
    assert played == [*DAYS[10:12], *DAYS[13:]]


def test_a_range_outside_the_source_or_with_a_wrong_name_is_an_error(tiny: Path) -> None:
    res = open_resources("tiny")
    with pytest.raises(StackError, match=r"no due partition up to TO=2023-12-31: its first one is 2024-03-01"):
        split_range("2023-12-01", "2023-12-31", res)
    with pytest.raises(NoPartition, match="like '2013-05-14'"):
        split_range("2024-03", "2024-04", res)


def test_a_blocked_day_is_complete_and_a_day_that_was_only_ingested_is_not(tiny: Path) -> None:
    parcels(0).assign(weight=99.0).to_parquet(day_file(tiny, 0), index=False)
    res = open_resources("tiny")
    for key in DAYS[:2]:
        advance(INGEST, res.ref(key), res)
    assert not is_complete(res, DAYS[0])
    assert advance(VALIDATE, res.ref(DAYS[0]), res).status == "blocked"
    advance(COLLECT, res.ref(DAYS[0]), res)
    assert is_complete(res, DAYS[0])
    assert not is_complete(res, DAYS[1])


def test_a_play_that_cannot_train_records_what_to_change(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last line of the play and `make status` are the same."""
    res = open_resources("tiny")
    for key in DAYS[:7]:
        for step in (INGEST, VALIDATE, COLLECT):
            advance(step, res.ref(key), res)
    play = Play(res, Console())
    monkeypatch.setattr(play, "backfill", lambda keys: None)  # it is done already
    with pytest.raises(StackError) as error:
        play.prepare(DAYS[:7], DAYS[7:8])
    problem = str(error.value).removesuffix("; or choose a later TO")
    assert "training.window.min_rows is 200, but there are 147 labelled rows before 2024-03-03" in problem
    alert = next(alert for alert in alerts(res) if "no champion yet" in alert.message)
    assert alert.message == "it has no champion yet: the last training, as of 2024-03-09, failed"
    assert alert.action == f"{problem}. Then prefect deployment run train/tiny"


def test_a_failed_run_ends_with_the_reason_of_the_first_partition_that_failed(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    res = open_resources("tiny")
    play = Play(res, Console())

    def fail(*_: str, **__: str) -> None:
        path = res.lake.path(Stage.RAW, DAYS[1], "failure")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"error": "OSError: the disk is full\nmore"}))
        raise RunFailed("backfill/manual ended as Failed")

    monkeypatch.setattr(play, "run", fail)
    with pytest.raises(RunFailed, match=f"ended as Failed\n{DAYS[1]}: OSError: the disk is full$"):
        play.run_over(DAYS[:3], "backfill", "backfill/manual")
