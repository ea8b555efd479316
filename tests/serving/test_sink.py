"""What was answered gets into the lake, once each, whatever happens to the process or the disk; and `process` takes it from there."""

import errno
import os
import threading
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from configs.load import load_model
from configs.settings import ROOT, load_settings
from serving import sink as sinks
from serving.contract import Given
from serving.journal import Answered, Call, Journal, by_partition, line
from serving.problems import Problem
from serving.sink import Sink
from tasks.errors import MissingSource
from tasks.storage.answer_log import (
    CANARY,
    CHAMPION,
    SHADOW,
    newest_rows,
    segments,
    served_folder,
    served_partitions,
    served_rows,
)
from tasks.storage.files import open_root
from tests.serving.conftest import rows_of, served
from tests.serving.test_following import until

PATH = "/models/tiny/invocations"
AT = datetime(2024, 3, 10, 12, tzinfo=UTC)


def answered(keys, role=CHAMPION, at=AT, request="r1", version="1", p=0.25, times=None) -> Answered:
    count = len(keys)
    values = {
        "weight": np.arange(count, dtype="float64"),
        "distance": np.full(count, np.nan),
        "city": (["Bonn", None] * count)[:count],
    }
    given = Given(values, count, list(keys), times or [None] * count)
    said = np.column_stack([np.full(count, 1 - p), np.full(count, p)])
    return Answered("tiny", version, AT, role, given, said, Call(request, "", at))


def made(world, **more) -> Sink:
    configs = {"tiny": world.config}
    return Sink(
        world.folder / ".evergreen" / "serving" / "journals", open_root(load_settings().lake, ROOT), configs, **more
    )


def wrote(sink: Sink, *some: Answered) -> None:
    for one in some:
        sink.put(one)
    sink._write_once(last=True)
    sink._send_once()


def test_what_clients_were_answered_is_in_the_partition_of_its_time(world):
    with served(world) as client:
        first = client.post(PATH, json={"instances": rows_of(9, 3)}, headers={"X-Request-ID": "one"}).json()
        client.post(PATH, json={"instances": rows_of(10, 2)})
    assert served_partitions("tiny") == ["2024-03-10", "2024-03-11"]
    rows = served_rows(load_model("tiny"), "2024-03-10").to_pandas()
    assert rows["parcel"].tolist() == ["09-000", "09-001", "09-002"]
    assert rows["prediction"].tolist() == [two[1] for two in first["predictions"]]
    assert rows["weight"].tolist() == [row["weight"] for row in rows_of(9, 3)]
    assert set(rows["model_version"]) == {"1"}
    assert rows["request_row"].tolist() == [0, 1, 2]
    assert set(rows["client_id"]) == {"one"}
    assert set(rows["request_id"]) == {first["request_id"]}
    assert list((world.folder / ".evergreen" / "serving" / "journals" / "tiny").iterdir()) == []


def test_a_row_without_key_or_time_gets_the_requests(world):
    sink = made(world)
    wrote(sink, answered([None, "k"]))
    rows = newest_rows(load_model("tiny"), "2024-03-10").to_pandas()
    assert rows["parcel"].tolist() == ["r1-0", "k"]
    assert (rows["sent"] == AT).all()


def test_requests_that_a_client_calls_the_same_are_not_one(world):
    with served(world) as client:
        for at in range(5):
            row = rows_of(9, 1)[0] | {"parcel": f"p{at}"}
            client.post(PATH, json={"instances": [row]}, headers={"X-Request-ID": "trace"})
    assert sorted(newest_rows(load_model("tiny"), "2024-03-10").to_pandas()["parcel"]) == [f"p{at}" for at in range(5)]


def test_a_row_that_was_asked_about_twice_is_one_row_with_the_last_answer(world):
    sink = made(world)
    wrote(sink, answered(["k", "m"], request="r2", p=0.5, at=AT + timedelta(hours=1)), answered(["k"], p=0.25))
    rows = newest_rows(load_model("tiny"), "2024-03-10").to_pandas()
    assert sorted(zip(rows["parcel"], rows["prediction"], strict=True)) == [("k", 0.5), ("m", 0.5)]
    assert len(served_rows(load_model("tiny"), "2024-03-10")) == 3


def test_roles_are_kept_apart(world):
    sink = made(world)
    wrote(
        sink,
        answered(["k"]),
        answered(["k"], role=SHADOW, version="2", p=0.75),
        answered(["m"], role=CANARY, request="r2", version="2"),
    )
    model = load_model("tiny")
    assert sorted(newest_rows(model, "2024-03-10").to_pandas()["model_version"]) == ["1", "2"]
    shadow = served_rows(model, "2024-03-10", (SHADOW,)).to_pandas()
    assert shadow[["parcel", "prediction", "model_version"]].to_numpy().tolist() == [["k", 0.75, "2"]]


def test_what_a_killed_process_left_in_a_journal_is_not_lost_and_not_there_twice(world):
    folder = world.folder / ".evergreen" / "serving" / "journals" / "tiny"
    journal = Journal(folder / "left.jsonl")
    content = line(answered(["k", "m"]), world.config)
    journal.write(content + content[: len(content) // 2])  # killed in the middle of a line
    journal.close()
    first = made(world)
    first.start()
    first.stop()
    model = load_model("tiny")
    assert sorted(newest_rows(model, "2024-03-10").to_pandas()["parcel"]) == ["k", "m"]
    # Killed between the segment and the removal of the journal: made again, under the same name.
    journal = Journal(folder / "left.jsonl")
    journal.write(content)
    journal.close()
    second = made(world)
    second.start()
    second.stop()
    assert len(segments(served_folder("tiny") / "2024-03-10")) == 1
    assert len(served_rows(model, "2024-03-10")) == 2


def test_what_a_process_leaves_while_another_runs_is_taken_too(world, monkeypatch):
    monkeypatch.setattr(sinks, "SEARCH", 0.2)
    folder = world.folder / ".evergreen" / "serving" / "journals" / "tiny"
    journal = Journal(folder / "other.jsonl")
    journal.write(line(answered(["k"]), world.config))
    sink = made(world)
    sink.start()
    assert journal.path.is_file()
    journal.close()  # the other process has ended
    until(lambda: not journal.path.exists())
    sink.stop()
    assert newest_rows(load_model("tiny"), "2024-03-10").to_pandas()["parcel"].tolist() == ["k"]


def test_a_living_process_keeps_its_journal(world):
    journal = Journal(world.folder / ".evergreen" / "serving" / "journals" / "tiny" / "alive.jsonl")
    journal.write(line(answered(["k"]), world.config))
    other = made(world)
    other.start()
    other.stop()
    assert journal.path.is_file()
    assert served_partitions("tiny") == []


def test_a_full_disk_loses_nothing_and_ends_answers_when_memory_is_full(world, monkeypatch):
    sink, real = made(world, most=5), os.write

    def full(file, content):
        real(file, bytes(content)[:10])  # as a disk that is full takes some of it
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    sink.put(answered(["a", "b"]))
    sink._write_once()
    assert "No space left" in sink.problem
    sink.put(answered(["c", "d", "e"], request="r2"))
    sink._write_once()
    with pytest.raises(Problem, match=r"5 answers wait to be written .*No space left") as refused:
        sink.room(1)
    assert refused.value.status == 503
    monkeypatch.setattr(os, "write", real)
    wrote(sink)
    assert (sink.problem, sink.rows) == ("", 0)
    sink.room(5)
    assert sorted(newest_rows(load_model("tiny"), "2024-03-10").to_pandas()["parcel"]) == list("abcde")


def test_a_lake_that_is_away_keeps_the_journals(world, monkeypatch):
    sink = made(world)

    class EndpointConnectionError(Exception):
        """As botocore's is: no OSError."""

    def away(*_):
        raise EndpointConnectionError("lake is away")

    monkeypatch.setattr(sinks, "write_segment", away)
    wrote(sink, answered(["a"]))
    assert sink.problem == "EndpointConnectionError"
    assert sink.rows == 0  # it is on this machine's disk
    monkeypatch.undo()
    sink._send_once()
    assert sink.problem == ""
    assert len(segments(world.folder / "lake" / "tiny" / "served" / "2024-03-10")) == 1


def test_a_slow_lake_does_not_keep_rows_in_memory(world, monkeypatch):
    """The journal is written by a thread of its own, so that the lake's slowness is no reason to lose anything."""
    slow, real = threading.Event(), sinks.write_segment

    def waiting(*given):
        slow.wait(30)
        real(*given)

    monkeypatch.setattr(sinks, "write_segment", waiting)
    monkeypatch.setattr("serving.journal.AGE", 0.0)
    sink = made(world)
    sink.start()
    for at in range(5):
        sink.put(answered([f"k{at}"], request=f"r{at}"))
        until(lambda: sink.rows == 0)
    slow.set()
    sink.stop()
    assert len(newest_rows(load_model("tiny"), "2024-03-10")) == 5


def test_a_journal_that_cannot_be_read_holds_up_no_other(world):
    folder = world.folder / ".evergreen" / "serving" / "journals" / "tiny"
    journal = Journal(folder / "0-odd.jsonl")
    odd = answered(["k"], request="odd")
    odd.given.values["weight"] = ["no number"]  # as where a column has become another type since
    journal.write(line(odd, world.config))
    journal.close()
    sink = made(world)
    sink.start()
    sink.put(answered(["m"]))
    sink.stop()
    assert newest_rows(load_model("tiny"), "2024-03-10").to_pandas()["parcel"].tolist() == ["m"]
    assert [path.name for path in folder.iterdir()] == ["0-odd.unreadable"]
    assert sink.problem.startswith("1 journals cannot be read, see *.unreadable in ")


def test_an_answer_that_cannot_be_written_takes_no_other_with_it(world):
    sink = made(world)
    wrote(sink, answered(["\ud800"], request="odd"), answered(["m"]))
    assert (sink.rows, sink.problem) == (0, "")
    assert newest_rows(load_model("tiny"), "2024-03-10").to_pandas()["parcel"].tolist() == ["m"]


def test_many_small_segments_are_put_together(world, monkeypatch):
    monkeypatch.setattr(sinks, "MANY", 4)
    sink = made(world)
    for at in range(6):
        wrote(sink, answered([f"k{at}"], request=f"r{at}"))
    assert len(segments(served_folder("tiny") / "2024-03-10")) == 3
    assert len(newest_rows(load_model("tiny"), "2024-03-10")) == 6


def test_a_clock_that_goes_back_harms_no_row(world):
    """Of two answers the one with the later clock counts, and no file is overwritten."""
    sink = made(world)
    wrote(sink, answered(["k"], at=AT, p=0.25))
    wrote(sink, answered(["k"], at=AT - timedelta(hours=2), request="r2", p=0.5))
    rows = served_rows(load_model("tiny"), "2024-03-10").to_pandas()
    assert rows["prediction"].tolist() == [0.5, 0.25]


def test_journals_hold_rows_of_many_partitions(world):
    journal = Journal(world.folder / "j.jsonl")
    times = [AT, AT + timedelta(days=1), AT - timedelta(days=1), AT]
    journal.write(line(answered(list("abcd"), times=times), world.config))
    found = by_partition(journal.path, world.config)
    assert {key: columns["parcel"] for key, columns in found.items()} == {
        "2024-03-10": ["a", "d"],
        "2024-03-11": ["b"],
        "2024-03-09": ["c"],
    }
    journal.close()


def test_key_and_time_are_the_models_own_whatever_they_are_called(world):
    """An answer's own columns have names that no model may use; a journal of before keeps key and time all the same."""
    journal = Journal(world.folder / "j.jsonl")
    journal.write(line(answered(["a", "b"]), world.config))
    journal.close()
    renamed = world.config.model_copy(update={"key": "request_id"})
    found = by_partition(journal.path, renamed)
    assert found["2024-03-10"]["request_id"] == ["a", "b"]


def test_an_answer_whose_columns_are_of_other_lengths_takes_no_other_with_it(world):
    sink, odd = made(world), answered(["k"], request="odd")
    odd.given.values["city"].append("Ulm")
    wrote(sink, odd, answered(["m"]))
    assert newest_rows(load_model("tiny"), "2024-03-10").to_pandas()["parcel"].tolist() == ["m"]


def test_rows_are_on_disk_within_a_second(world):
    with served(world) as client:
        client.post(PATH, json={"instances": rows_of(9, 3)})
        folder = world.folder / ".evergreen" / "serving" / "journals" / "tiny"
        until(lambda: client.service.sink.rows == 0)
        (journal,) = folder.iterdir()
        assert by_partition(journal, world.config)["2024-03-10"]["parcel"] == [f"09-00{at}" for at in range(3)]


def test_many_threads_lose_no_count(world):
    sink = made(world)

    def puts(number: int):
        for at in range(200):
            sink.put(answered(["k"], request=f"{number}-{at}"))

    threads = [threading.Thread(target=puts, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        sink._write_once()
    wrote(sink)
    assert sink.rows == 0
    assert len(served_rows(load_model("tiny"), "2024-03-10")) == 800


def test_nothing_served_is_told_as_that(world):
    with pytest.raises(MissingSource, match="serving was asked nothing about it"):
        served_rows(load_model("tiny"), "2024-03-10")
    assert served_partitions("tiny") == []
