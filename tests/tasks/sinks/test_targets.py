"""Each kind of target gets the same rows, once, whatever happens in between."""

from pathlib import Path

import pandas as pd
import pytest
from deltalake import DeltaTable

from tasks.errors import SinkMismatch
from tasks.sinks.records import failures, read_sent
from tasks.sinks.send import find_unsent
from tests.tasks.sinks.targets import DAY, NEXT, configure, predict, query, send_all
from tests.tasks.source.databases import ADDRESS, new_database, run

COLUMNS = "model, partition, as_of, model_version, parcel, sent, prediction"


class Place:
    """A target, the keys of `publish` for it, and its rows."""

    def __init__(self, kind: str, folder: Path, address: str) -> None:
        self.kind, self.folder, self.address = kind, folder, address
        self.keys = {
            "delta": {"delta": f"{folder}/out"},
            "files": {"path": f"{folder}/out/{{model}}/{{partition}}.parquet"},
        }.get(kind, {"connection": "warehouse", "table": "predictions"})

    def rows(self) -> pd.DataFrame:
        """All rows, with times as times."""
        if self.kind == "delta":
            frame = DeltaTable(f"{self.folder}/out").to_pandas()
        elif self.kind == "files":
            frame = pd.concat(map(pd.read_parquet, sorted((self.folder / "out" / "tiny").glob("*.parquet"))))
        else:
            frame = pd.DataFrame(query(self.address, f"SELECT {COLUMNS} FROM predictions"), columns=COLUMNS.split(", "))
        return frame.assign(
            as_of=pd.to_datetime(frame["as_of"], utc=True), sent=pd.to_datetime(frame["sent"], utc=True)
        )


@pytest.fixture(params=["sqlite", "postgresql", "delta", "files"])
def place(request, tmp_path, monkeypatch):
    if request.param in ("delta", "files"):
        yield Place(request.param, tmp_path, "")
        return
    with new_database(request.param, tmp_path) as address:
        monkeypatch.setenv(ADDRESS, address)
        yield Place(request.param, tmp_path, address)


@pytest.fixture
def res(tiny, place):
    return configure(tiny, publish={"out": place.keys})


def test_each_row_has_model_partition_version_and_moment(res, place):
    expected = predict(res, DAY, 300).assign(model="tiny", partition=DAY)
    (sent,) = send_all(res)
    assert (sent.rows, sent.sink, sent.output, sent.model_version) == (300, "out", "predictions", "1")
    assert sent.as_of == res.ref(DAY).as_of
    rows = place.rows().sort_values("prediction")
    assert list(rows) == COLUMNS.split(", ")
    pd.testing.assert_frame_equal(
        rows.reset_index(drop=True), expected[list(rows)], check_dtype=False, check_datetimelike_compat=True
    )


def test_what_was_sent_is_sent_again_only_if_it_changed_and_replaces_its_own_partition(res, place):
    predict(res, DAY, 300)
    predict(res, NEXT, 200)
    assert [sent.partition for sent in send_all(res)] == [NEXT, DAY]  # the newest first
    assert send_all(res) == []
    predict(res, DAY, 250, version="2")
    assert [(sent.partition, sent.rows) for sent in send_all(res)] == [(DAY, 250)]
    rows = place.rows()
    assert rows.groupby(["partition", "model_version"]).size().to_dict() == {(DAY, "2"): 250, (NEXT, "1"): 200}
    assert not rows.duplicated(["partition", "parcel"]).any()


def test_a_record_that_was_lost_after_the_rows_were_sent_gives_no_doubles(res, place):
    predict(res, DAY, 300)
    send_all(res)
    (res.lake.root / "sent" / "out" / f"{DAY}.json").unlink()
    assert [sent.rows for sent in send_all(res)] == [300]
    assert len(place.rows()) == 300


def test_a_partition_that_has_no_rows_any_more_has_none_there(res, place):
    predict(res, DAY, 300)
    send_all(res)
    predict(res, DAY, 0, version="2")
    assert [sent.rows for sent in send_all(res)] == [0]
    assert place.rows().empty


def test_the_record_has_what_was_sent_where_and_no_address(res, place):
    predict(res, DAY, 3)
    send_all(res)
    text = (res.lake.root / "sent" / "out" / f"{DAY}.json").read_text()
    sent = read_sent(res.lake, "out", DAY)
    assert sent.target == (
        "table predictions of connection 'warehouse'" if place.address else next(iter(place.keys.values()))
    )
    assert sent.run.git_commit == res.commit
    assert "postgresql://" not in text
    assert "sqlite:" not in text


def test_rows_that_change_while_they_are_sent_are_left_to_the_next_run(res, place):
    from tasks.sinks.send import send

    predict(res, DAY, 300)
    (item,) = find_unsent(res)
    predict(res, DAY, 250, version="2")
    assert send(item, res) is None
    assert read_sent(res.lake, "out", DAY) is None
    assert [sent.rows for sent in send_all(res)] == [250]
    assert len(place.rows()) == 250
    assert not [*failures(res.lake, "out")]


@pytest.mark.parametrize("place", ["sqlite", "postgresql", "delta"], indirect=True)
def test_a_table_with_other_columns_is_left_as_it_is_and_the_error_has_the_way_out(tiny, place):
    res = configure(tiny, publish={"out": place.keys | {"output": "performance"}})
    from tasks.contracts import Stage
    from tests.tasks.sinks.targets import record

    record(res, Stage.PERFORMANCE, DAY, {"version": "1", "metrics": {"log_loss": 0.5}, "intervals": {}})
    send_all(res)
    res = configure(tiny, publish={"out": place.keys})
    predict(res, DAY, 3)
    with pytest.raises(SinkMismatch, match=r"publish\.out: .*it has no column parcel.*Nothing was sent") as error:
        send_all(res)
    if place.address:
        kind = "text" if place.kind == "postgresql" else "TEXT"
        assert f'ALTER TABLE "predictions" ADD COLUMN "parcel" {kind}' in str(error.value)
        times, number = ("timestamptz", "double precision") if place.kind == "postgresql" else ("TEXT", "REAL")
        for name, kind_of in (("parcel", kind), ("sent", times), ("prediction", number)):
            run(place.address, f'ALTER TABLE "predictions" ADD COLUMN "{name}" {kind_of}')
        assert [sent.rows for sent in send_all(res)] == [3]
        assert len(place.rows()) == 3
    assert [key for key, *_ in failures(res.lake, "out")] == ([] if place.address else [DAY])


def test_a_sink_that_is_renamed_or_removed_is_left_alone(tiny, res, place):
    predict(res, DAY, 3)
    send_all(res)
    before = place.rows()
    assert find_unsent(configure(tiny, publish={})) == []
    pd.testing.assert_frame_equal(place.rows(), before)
