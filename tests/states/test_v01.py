"""Today's code reads, verifies and continues what v0.1 has written."""

import contextlib
import json
import sqlite3
import tarfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tasks.catalogue import load
from tasks.contracts import Registration, Stage
from tasks.errors import ForgedVersion
from tasks.ledger.history import promotion_exclusion
from tasks.lifecycle.audit import audit
from tasks.lifecycle.promotion import _digest_like
from tasks.models.fingerprint import model_digest
from tasks.orchestration.ledger_rows import append_row
from tasks.reports.summary import grid
from tasks.resources import open_resources
from tasks.steps.step import freshness
from tasks.steps.watch import WATCH
from tests.conftest import parcels, use_folder

STATES = Path(__file__).parent
ORIGIN = "/srv/evergreen"
"""The folder in which the state was made. Its paths begin with this."""
EXPECTED = json.loads((STATES / "v0.1.json").read_text())
"""The values that v0.1 read from the state."""


def replace_paths(folder: Path) -> None:
    """Replace the original folder by the current one in every path of the state."""
    for path in [*folder.rglob("*.json"), *folder.rglob("*.yaml")]:
        path.write_text(path.read_text().replace(ORIGIN, str(folder)))
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as con, con:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri"), ("model_versions", "source"),
                              ("model_versions", "storage_location"), ("logged_models", "artifact_location")):  # fmt: skip
            con.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (ORIGIN, str(folder)))


@pytest.fixture
def v01(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state in its own folder, with all settings changed to it."""
    with tarfile.open(STATES / "v0.1.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    replace_paths(tmp_path)
    use_folder(tmp_path, tmp_path / "configs", f"sqlite:///{tmp_path}/mlflow.db", monkeypatch)
    return tmp_path


def now(verb: str, state: str) -> str:
    """Return the state of a step that v0.1 left fresh. These steps compute other bounds since days are taken as alike."""
    return "stale" if state == "fresh" and verb in ("estimate", "watch", "assess") else state


def test_ledger_lake_and_catalogue_are_read_as_v01_read_them(v01: Path) -> None:
    res = open_resources("tiny")
    assert [[p.sequence, p.version, p.action, p.to_stage, p.hash] for p in res.ledger.promotions()] == EXPECTED[
        "promotions"
    ]
    assert [[f.id, f.kind, f.partition] for f in res.ledger.facts()] == EXPECTED["facts"]
    assert [[d.fact_id, d.action, d.rule, d.outcome] for d in res.ledger.decisions()] == EXPECTED["decisions"]
    champion = res.ledger.champion()
    assert champion
    assert champion.version == EXPECTED["champion"]
    days = grid(res, [res.ref(key) for key in res.lake.keys(Stage.RAW)])
    expected = {key: {verb: now(verb, state) for verb, state in day.items()} for key, day in EXPECTED["grid"].items()}
    assert {day.pop("partition"): day for day in days} == expected
    assert "the stage's code" in freshness(WATCH, res.ref("2024-03-17"), res).why
    records = {key: res.lake.record(Stage.PREDICTIONS, key) for key in EXPECTED["digests"]}
    assert {key: record.digest for key, record in records.items() if record} == EXPECTED["digests"]
    frame = load("tiny", stage="predictions")
    assert list(frame.columns) == EXPECTED["predictions"]["columns"]
    assert (len(frame), frame["prediction"].sum()) == (EXPECTED["predictions"]["rows"], EXPECTED["predictions"]["sum"])


def test_its_records_pass_the_audit_and_its_champion_predicts_the_same_bits(v01: Path) -> None:
    res = open_resources("tiny")
    assert audit(res, None, None).problems == ()
    digest = res.ledger.digest(EXPECTED["champion"])
    champion = res.registry.load(EXPECTED["champion"], digest)
    assert model_digest(champion, like=digest) == digest != model_digest(champion), "verified by the digest of v0.1"
    again = champion.predict_proba(parcels(17)[["weight", "distance", "city"]])[:, 1]
    kept = res.lake.read(Stage.PREDICTIONS, "2024-03-18")["prediction"].to_numpy()
    assert again.astype("float64").tobytes() == kept.tobytes()


def test_a_model_that_v01_rolled_back_from_stays_excluded_when_it_is_trained_again(v01: Path) -> None:
    """The same model has another digest today."""
    res = open_resources("tiny")
    champion = res.ledger.champion()
    assert champion
    bad = res.registry.version(champion.version)
    model = res.load(bad.version)
    again = Registration(
        version=replace(bad, digest=model_digest(model)),
        run_id=bad.run_id, role="refit", params={}, documents={}, learned=[],
    )  # fmt: skip
    twin = res.registry.register(model, res.config, again)
    assert twin.digest != bad.digest
    rollback = replace(
        champion, action="rollback", version="1", previous=bad.version, against=champion.sequence, by="ann"
    )
    res.ledger.append(replace(rollback, reason="bad"))
    append_row("register", twin, champion, twin.as_of, "again", {}, res)
    rows = res.ledger.promotions()
    reason = promotion_exclusion(twin.version, rows, partial(_digest_like, twin, res))
    assert reason.startswith(f"ann rolled back from version {bad.version} (bad)")
    other = res.registry.version("3")
    assert promotion_exclusion(other.version, rows, partial(_digest_like, other, res)) == ""


@pytest.mark.usefixtures("prefect_server")
def test_flows_continue_its_history(v01: Path) -> None:
    from flows.assess import assess
    from flows.process import process
    from flows.train import train

    process(model="tiny", partition="2024-03-20")
    assess(model="tiny", partition="2024-03-20")
    train(model="tiny", as_of="2024-03-17T00:00:00+00:00", reason="continued from v0.1")  # before the shift
    res = open_resources("tiny")
    rows = res.ledger.promotions()
    assert [row.hash for row in rows][: len(EXPECTED["promotions"])] == [row[-1] for row in EXPECTED["promotions"]]
    assert len(rows) > len(EXPECTED["promotions"])
    assert audit(res, None, None).problems == ()


def test_a_damaged_copy_of_its_champion_is_fetched_again_and_a_changed_one_is_refused(v01: Path) -> None:
    res = open_resources("tiny")
    number = EXPECTED["champion"]
    file = res.registry.local_copy(number) / "model.skops"
    content = file.read_bytes()
    file.write_bytes(content[:-100])
    res.load(number)
    assert file.read_bytes() == content
    cached = res.registry.cached_version(number)
    (res.registry.cache / f"{number}.json").write_text('{"run_id": ')
    assert res.registry.cached_version(number) == cached
    with pytest.raises(ForgedVersion, match="another model than the registered one"):
        res.registry.load(number, "0" * 64)
