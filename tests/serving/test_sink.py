"""Every served prediction gets into the lake exactly once, also after crashes and disk errors. `process` reads it from there."""

import errno
import os
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from configs.load import load_model
from configs.settings import ROOT, load_settings
from serving import sink as sink_module
from serving.contract import InputRows
from serving.journal import Call, Journal, ScoredRows, encode_line, rows_by_partition
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
from tests.serving.conftest import request_rows, running_client
from tests.serving.test_following import wait_until

pytestmark = pytest.mark.long

PATH = "/models/tiny/invocations"
AT = datetime(2024, 3, 10, 12, tzinfo=UTC)


def scored_rows(keys, role=CHAMPION, at=AT, request="r1", version="1", p=0.25, times=None) -> ScoredRows:
    count = len(keys)
    values: dict[str, Any] = {
        "weight": np.arange(count, dtype="float64"),
        "distance": np.full(count, np.nan),
        "city": (["Bonn", None] * count)[:count],
    }
    inputs = InputRows(values, count, list(keys), times or [None] * count)
    predictions = np.column_stack([np.full(count, 1 - p), np.full(count, p)])
    return ScoredRows("tiny", version, AT, role, inputs, predictions, Call(request, "", at))


def make_sink(env, **options) -> Sink:
    configs = {"tiny": env.config}
    return Sink(
        env.folder / ".evergreen" / "serving" / "journals", open_root(load_settings().lake, ROOT), configs, **options
    )


def write_all(sink: Sink, *items: ScoredRows) -> None:
    for item in items:
        sink.put(item)
    sink._write_once(final=True)
    sink._send_once()


def test_predictions_are_recorded_in_the_partition_of_their_time(env):
    with running_client(env) as client:
        first = client.post(PATH, json={"instances": request_rows(9, 3)}, headers={"X-Request-ID": "one"}).json()
        client.post(PATH, json={"instances": request_rows(10, 2)})
    assert served_partitions("tiny") == ["2024-03-10", "2024-03-11"]
    rows = served_rows(load_model("tiny"), "2024-03-10").to_pandas()
    assert rows["parcel"].tolist() == ["09-000", "09-001", "09-002"]
    assert rows["prediction"].tolist() == [probabilities[1] for probabilities in first["predictions"]]
    assert rows["weight"].tolist() == [row["weight"] for row in request_rows(9, 3)]
    assert set(rows["model_version"]) == {"1"}
    assert rows["request_row"].tolist() == [0, 1, 2]
    assert set(rows["client_id"]) == {"one"}
    assert set(rows["request_id"]) == {first["request_id"]}
    assert list((env.folder / ".evergreen" / "serving" / "journals" / "tiny").iterdir()) == []


def test_a_row_without_key_or_time_gets_those_of_the_request(env):
    sink = make_sink(env)
    write_all(sink, scored_rows([None, "k"]))
    rows = newest_rows(load_model("tiny"), "2024-03-10").to_pandas()
    assert rows["parcel"].tolist() == ["r1-0", "k"]
    assert (rows["sent"] == AT).all()


def test_requests_with_the_same_client_id_are_kept_separately(env):
    with running_client(env) as client:
        for at in range(5):
            row = request_rows(9, 1)[0] | {"parcel": f"p{at}"}
            client.post(PATH, json={"instances": [row]}, headers={"X-Request-ID": "trace"})
    assert sorted(newest_rows(load_model("tiny"), "2024-03-10").to_pandas()["parcel"]) == [f"p{at}" for at in range(5)]


def test_a_row_that_was_sent_twice_counts_once_with_its_last_prediction(env):
    sink = make_sink(env)
    write_all(
        sink, scored_rows(["k", "m"], request="r2", p=0.5, at=AT + timedelta(hours=1)), scored_rows(["k"], p=0.25)
    )
    rows = newest_rows(load_model("tiny"), "2024-03-10").to_pandas()
    assert sorted(zip(rows["parcel"], rows["prediction"], strict=True)) == [("k", 0.5), ("m", 0.5)]
    assert len(served_rows(load_model("tiny"), "2024-03-10")) == 3


def test_roles_are_read_separately(env):
    sink = make_sink(env)
    write_all(
        sink,
        scored_rows(["k"]),
        scored_rows(["k"], role=SHADOW, version="2", p=0.75),
        scored_rows(["m"], role=CANARY, request="r2", version="2"),
    )
    model = load_model("tiny")
    assert sorted(newest_rows(model, "2024-03-10").to_pandas()["model_version"]) == ["1", "2"]
    shadow = served_rows(model, "2024-03-10", (SHADOW,)).to_pandas()
    assert shadow[["parcel", "prediction", "model_version"]].to_numpy().tolist() == [["k", 0.75, "2"]]


def test_rows_in_the_journal_of_a_killed_process_are_neither_lost_nor_duplicated(env):
    folder = env.folder / ".evergreen" / "serving" / "journals" / "tiny"
    journal = Journal(folder / "left.jsonl")
    content = encode_line(scored_rows(["k", "m"]), env.config)
    journal.write(content + content[: len(content) // 2])  # the process was killed while it wrote the second line
    journal.close()
    first = make_sink(env)
    first.start()
    first.stop()
    model = load_model("tiny")
    assert sorted(newest_rows(model, "2024-03-10").to_pandas()["parcel"]) == ["k", "m"]
    # Killed after writing the segment and before deleting the journal: the segment is written again under the same name.
    journal = Journal(folder / "left.jsonl")
    journal.write(content)
    journal.close()
    second = make_sink(env)
    second.start()
    second.stop()
    assert len(segments(served_folder("tiny") / "2024-03-10")) == 1
    assert len(served_rows(model, "2024-03-10")) == 2


def test_a_running_process_converts_the_journals_of_an_ended_one(env, monkeypatch):
    monkeypatch.setattr(sink_module, "SEARCH_INTERVAL", 0.2)
    folder = env.folder / ".evergreen" / "serving" / "journals" / "tiny"
    journal = Journal(folder / "other.jsonl")
    journal.write(encode_line(scored_rows(["k"]), env.config))
    sink = make_sink(env)
    sink.start()
    assert journal.path.is_file()
    journal.close()  # the other process has ended
    wait_until(lambda: not journal.path.exists())
    sink.stop()
    assert newest_rows(load_model("tiny"), "2024-03-10").to_pandas()["parcel"].tolist() == ["k"]


def test_the_journal_of_a_running_process_is_not_touched(env):
    journal = Journal(env.folder / ".evergreen" / "serving" / "journals" / "tiny" / "running.jsonl")
    journal.write(encode_line(scored_rows(["k"]), env.config))
    other = make_sink(env)
    other.start()
    other.stop()
    assert journal.path.is_file()
    assert served_partitions("tiny") == []


def test_a_full_disk_loses_no_rows_and_refuses_requests_at_the_memory_limit(env, monkeypatch):
    sink, real = make_sink(env, max_rows=5), os.write

    def full(file, content):
        real(file, bytes(content)[:10])  # a full disk writes a part
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    sink.put(scored_rows(["a", "b"]))
    sink._write_once()
    assert "No space left" in sink.problem
    sink.put(scored_rows(["c", "d", "e"], request="r2"))
    sink._write_once()
    with pytest.raises(Problem, match=r"5 predictions wait to be written .*No space left") as refused:
        sink.require_capacity(1)
    assert refused.value.status == 503
    monkeypatch.setattr(os, "write", real)
    write_all(sink)
    assert (sink.problem, sink.rows) == ("", 0)
    sink.require_capacity(5)
    assert sorted(newest_rows(load_model("tiny"), "2024-03-10").to_pandas()["parcel"]) == list("abcde")


def test_journals_stay_while_the_lake_is_unavailable(env, monkeypatch):
    sink = make_sink(env)

    class EndpointConnectionError(Exception):
        """Not an OSError, like the one of botocore."""

    def unavailable(*_):
        raise EndpointConnectionError("the lake is unavailable")

    monkeypatch.setattr(sink_module, "write_segment", unavailable)
    write_all(sink, scored_rows(["a"]))
    assert sink.problem == "EndpointConnectionError"
    assert sink.rows == 0  # the row is on the local disk
    monkeypatch.undo()
    sink._send_once()
    assert sink.problem == ""
    assert len(segments(env.folder / "lake" / "tiny" / "served" / "2024-03-10")) == 1


def test_a_slow_lake_does_not_delay_the_journal(env, monkeypatch):
    """A separate thread writes the journal, so that a slow lake does not keep rows in memory, where they could be lost."""
    slow, real = threading.Event(), sink_module.write_segment

    def waiting(*inputs):
        slow.wait(30)
        real(*inputs)

    monkeypatch.setattr(sink_module, "write_segment", waiting)
    monkeypatch.setattr("serving.journal.MAX_AGE", 0.0)
    sink = make_sink(env)
    sink.start()
    for at in range(5):
        sink.put(scored_rows([f"k{at}"], request=f"r{at}"))
        wait_until(lambda: sink.rows == 0)
    slow.set()
    sink.stop()
    assert len(newest_rows(load_model("tiny"), "2024-03-10")) == 5


def test_an_unreadable_journal_does_not_block_others(env):
    folder = env.folder / ".evergreen" / "serving" / "journals" / "tiny"
    journal = Journal(folder / "0-odd.jsonl")
    invalid = scored_rows(["k"], request="odd")
    invalid.inputs.values["weight"] = ["not a number"]  # as if the type of the column had changed
    journal.write(encode_line(invalid, env.config))
    journal.close()
    sink = make_sink(env)
    sink.start()
    sink.put(scored_rows(["m"]))
    sink.stop()
    assert newest_rows(load_model("tiny"), "2024-03-10").to_pandas()["parcel"].tolist() == ["m"]
    assert [path.name for path in folder.iterdir()] == ["0-odd.unreadable"]
    assert sink.problem.startswith("1 journal cannot be read, see *.unreadable in ")


def test_rows_that_cannot_be_encoded_do_not_affect_others(env):
    sink = make_sink(env)
    write_all(sink, scored_rows(["\ud800"], request="odd"), scored_rows(["m"]))
    assert (sink.rows, sink.problem) == (0, "")
    assert newest_rows(load_model("tiny"), "2024-03-10").to_pandas()["parcel"].tolist() == ["m"]


def test_many_small_segments_are_merged(env, monkeypatch):
    monkeypatch.setattr(sink_module, "MAX_SMALL_SEGMENTS", 4)
    sink = make_sink(env)
    for at in range(6):
        write_all(sink, scored_rows([f"k{at}"], request=f"r{at}"))
    assert len(segments(served_folder("tiny") / "2024-03-10")) == 3
    assert len(newest_rows(load_model("tiny"), "2024-03-10")) == 6


def test_a_clock_that_goes_back_loses_no_row(env):
    """The prediction with the later time counts, and no file is overwritten."""
    sink = make_sink(env)
    write_all(sink, scored_rows(["k"], at=AT, p=0.25))
    write_all(sink, scored_rows(["k"], at=AT - timedelta(hours=2), request="r2", p=0.5))
    rows = served_rows(load_model("tiny"), "2024-03-10").to_pandas()
    assert rows["prediction"].tolist() == [0.5, 0.25]


def test_a_journal_may_have_rows_of_several_partitions(env):
    journal = Journal(env.folder / "j.jsonl")
    times = [AT, AT + timedelta(days=1), AT - timedelta(days=1), AT]
    journal.write(encode_line(scored_rows(list("abcd"), times=times), env.config))
    by_key = rows_by_partition(journal.path, env.config)
    assert {key: columns["parcel"] for key, columns in by_key.items()} == {
        "2024-03-10": ["a", "d"],
        "2024-03-11": ["b"],
        "2024-03-09": ["c"],
    }
    journal.close()


def test_the_key_may_have_the_name_of_another_column_of_the_journal(env):
    """New models may not use the names of the other columns. Rows of older journals keep their key and time nevertheless."""
    journal = Journal(env.folder / "j.jsonl")
    journal.write(encode_line(scored_rows(["a", "b"]), env.config))
    journal.close()
    renamed = env.config.model_copy(update={"key": "request_id"})
    by_key = rows_by_partition(journal.path, renamed)
    assert by_key["2024-03-10"]["request_id"] == ["a", "b"]


def test_rows_with_columns_of_different_lengths_do_not_affect_others(env):
    sink, invalid = make_sink(env), scored_rows(["k"], request="odd")
    invalid.inputs.values["city"].append("Ulm")
    write_all(sink, invalid, scored_rows(["m"]))
    assert newest_rows(load_model("tiny"), "2024-03-10").to_pandas()["parcel"].tolist() == ["m"]


def test_rows_are_on_disk_within_a_second(env):
    with running_client(env) as client:
        client.post(PATH, json={"instances": request_rows(9, 3)})
        folder = env.folder / ".evergreen" / "serving" / "journals" / "tiny"
        wait_until(lambda: client.service.sink.rows == 0)
        (journal,) = folder.iterdir()
        assert rows_by_partition(journal, env.config)["2024-03-10"]["parcel"] == [f"09-00{at}" for at in range(3)]


def test_rows_of_concurrent_threads_are_counted_correctly(env):
    sink = make_sink(env)

    def puts(number: int):
        for at in range(200):
            sink.put(scored_rows(["k"], request=f"{number}-{at}"))

    threads = [threading.Thread(target=puts, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        sink._write_once()
    write_all(sink)
    assert sink.rows == 0
    assert len(served_rows(load_model("tiny"), "2024-03-10")) == 800


def test_a_partition_without_served_rows_raises_missing_source(env):
    with pytest.raises(MissingSource, match="no request was served for it"):
        served_rows(load_model("tiny"), "2024-03-10")
    assert served_partitions("tiny") == []
