"""What stops a sink for a run, and what only concerns one partition."""

from tasks.lifecycle.sending import send_outputs
from tasks.orchestration.prefect_tasks import simulation
from tests.tasks.sinks.targets import DAY, NEXT, configure, predict, query
from tests.tasks.source.databases import ADDRESS, new_database, run

COLUMNS = "model text, partition text, as_of timestamptz, model_version text, parcel text, sent timestamptz, prediction float8"


def send(tiny):
    with simulation():
        return send_outputs(configure(tiny, publish={"out": {"connection": "warehouse", "table": "predictions"}}))


def test_rows_that_are_refused_stop_no_other_partition_and_a_column_that_lacks_stops_all(tiny, tmp_path, monkeypatch):
    with new_database("postgresql", tmp_path) as address:
        monkeypatch.setenv(ADDRESS, address)
        res = configure(tiny)
        for key in (DAY, NEXT):
            predict(res, key, 5)
        run(address, f"CREATE TABLE predictions ({COLUMNS}, CHECK (parcel <> '{NEXT}-4'))")
        result = send(tiny)
        assert (dict(result.sent), dict(result.failed)) == ({"out": 1}, {"out": 1})
        assert " Not sent to out: 1 partition, tried again by the next run: table predictions" in result.message
        assert query(address, "SELECT partition, count(*) FROM predictions GROUP BY 1") == [(DAY, 5)]

        for key in (DAY, NEXT):
            predict(res, key, 4, version="2")
        run(address, "ALTER TABLE predictions DROP COLUMN prediction")
        result = send(tiny)
        assert (dict(result.sent), dict(result.failed), result.tags) == ({}, {"out": 2}, ["warning"])
        notes = list((res.lake.root / "sent" / "out").glob("*.failure"))
        assert [path.stem for path in notes] == [NEXT], "the other one was not tried"

        run(address, 'ALTER TABLE "predictions" ADD COLUMN "prediction" double precision')
        result = send(tiny)
        assert (dict(result.sent), result.message, result.tags) == ({"out": 2}, "", [])
        rows = query(address, "SELECT partition, model_version, count(*) FROM predictions GROUP BY 1, 2 ORDER BY 1")
        assert rows == [(DAY, "2", 4), (NEXT, "2", 4)]
