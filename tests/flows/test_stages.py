"""From candidate to champion: shadow mode, approval, adoption, rollback, audit, reproduction, and failures at every step."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
import yaml

from configs.settings import ROOT
from flows.assess import assess
from flows.audit import audit
from flows.backfill import backfill
from flows.process import process
from flows.promote import promote
from flows.reproduce import reproduce
from flows.rollback import rollback
from flows.train import train
from tasks.contracts import Promotion, Stage
from tasks.errors import ForgedVersion, GateRefused, StaleDecision, UnknownVersion
from tasks.ledger.chain import broken_links
from tasks.ledger.promotions import stage_of
from tasks.lifecycle import outbox as delivery
from tasks.orchestration.events import change_id, known_hashes
from tasks.resources import open_resources
from tasks.storage.earlier import earlier_records
from tests.conftest import free_port, set_up_copy, use_folder
from tests.tasks.ledger.test_store import POSTGRES, postgres_schema

ENOUGH = "2024-03-23"
"""From this day on there is a shifted day before the validation split before the holdout."""


def configure(folder: Path, **promotion) -> None:
    path = folder / "configs" / "tiny" / "model.yaml"
    config = yaml.safe_load(path.read_text())
    config["promotion"] = promotion
    path.write_text(yaml.safe_dump(config))


def day(number: int) -> str:
    return f"2024-03-{number:02d}"


@pytest.fixture(scope="module")
def trained(with_champion, tmp_path_factory) -> Path:
    """A folder with a champion from before the shift, and enough data from after it. Tests copy it."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        set_up_copy(with_champion, folder, patch)
        backfill(model="tiny", start=day(11), end=ENOUGH)
    return folder


@pytest.fixture
def after_shift(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, MLflow's database too, for one test."""
    set_up_copy(trained, tmp_path, monkeypatch)
    return tmp_path


def use_copy(folder: Path, patch: pytest.MonkeyPatch) -> None:
    use_folder(folder, folder / "configs", f"sqlite:///{folder}/mlflow.db", patch)


def process_days(first: int, last: int) -> None:
    for number in range(first, last + 1):
        process(model="tiny", partition=day(number))
        assess(model="tiny", partition=day(number))


def actions(version: str) -> list[str]:
    return [row.action for row in open_resources("tiny").ledger.promotions() if row.version == version]


def wait_for_event(row: Promotion) -> None:
    """Wait until Prefect has stored a row's event, and fail if it never does. Prefect stores events one after the other."""
    for _ in range(60):
        if known_hashes("tiny").get(str(change_id(row))) == row.hash:
            return
        time.sleep(0.5)
    pytest.fail(f"no event of row {row.sequence}, {row.action}")


@pytest.mark.slow
def test_a_challenger_scores_in_shadow_mode_and_is_promoted_if_it_is_good_enough(after_shift):
    configure(after_shift, shadow={"partitions": 2})
    version = train(model="tiny", reason="after the shift").version
    res = open_resources("tiny")
    champion = res.ledger.champion()
    assert (res.ledger.challenger().version, res.registry.alias("challenger")) == (version, version)
    assert champion.version == res.registry.alias() != version

    process_days(24, 24)
    res = open_resources("tiny")
    assert set(res.lake.read(Stage.SHADOW, day(24))["model_version"]) == {version}
    assert set(res.lake.read(Stage.PREDICTIONS, day(24))["model_version"]) == {champion.version}
    assert res.ledger.champion() == champion

    process_days(25, 25)
    res = open_resources("tiny")
    row = res.ledger.champion()
    assert (row.version, row.action, row.previous) == (version, "promote", champion.version)
    assert row.as_of == res.ref(day(25)).as_of
    gain = next(v for v in row.evidence["verdicts"] if v["rule"].startswith("shadow: gain on 2 matured partitions"))
    assert gain["value"] > 0
    assert (res.ledger.challenger(), res.registry.alias("challenger"), res.registry.alias()) == (None, None, version)
    assert actions(version) == ["register", "stage", "promote"]
    assert broken_links(res.ledger.promotions()) == []


@pytest.mark.slow
def test_a_challenger_that_is_worse_in_shadow_mode_is_refused_with_its_numbers(after_shift):
    """It learned from shifted days. The days of its shadow mode are steady ones again."""
    from tests.conftest import day_file, parcels

    configure(after_shift, shadow={"partitions": 1})
    version = train(model="tiny", reason="after the shift").version
    old = parcels(3)
    later = old.assign(sent=old["sent"] + (parcels(23)["sent"].iloc[0] - old["sent"].iloc[0]))
    later.assign(parcel=[f"23-{i:03d}" for i in range(len(later))]).to_parquet(day_file(after_shift, 23), index=False)
    before = open_resources("tiny").ledger.champion()
    process_days(24, 24)
    res = open_resources("tiny")
    assert res.ledger.champion() == before
    assert stage_of(version, res.ledger.promotions()) == "refused"
    assert "shadow: gain on 1 matured partition" in res.ledger.promotions()[-1].reason
    assert res.registry.alias("challenger") is None


@pytest.mark.slow
def test_a_person_approves_with_name_and_reason_and_only_against_the_current_champion(after_shift):
    configure(after_shift, approval=True)
    version = train(model="tiny", reason="after the shift").version
    res = open_resources("tiny")
    before = res.ledger.champion()
    assert actions(version) == ["register", "stage", "request"]
    wait_for_event(res.ledger.promotions()[-1])
    assess(model="tiny", partition=day(21))
    assert actions(version) == ["register", "stage", "request"]  # an approval is requested once

    with pytest.raises(StaleDecision, match="version 99 was champion"):
        promote(model="tiny", by="ann", reason="looked at it", against="99")
    assert open_resources("tiny").ledger.champion() == before
    promote(model="tiny", by="ann", reason="looked at it", against=before.version)
    row = open_resources("tiny").ledger.champion()
    assert (row.version, row.by, row.reason, row.assurance) == (version, "ann", "looked at it", "asserted")
    assert row.evidence["verdicts"]
    with pytest.raises(UnknownVersion, match="there is no challenger"):
        promote(model="tiny", by="ann", reason="and again")


@pytest.mark.slow
def test_a_person_refuses_a_challenger_and_no_approval_of_it_is_requested_again(after_shift):
    configure(after_shift, approval=True)
    version, first = (
        train(model="tiny", reason="after the shift").version,
        open_resources("tiny").ledger.champion().version,
    )
    state = promote(
        model="tiny", by="ann", reason="the new scale is not to be trusted", action="refuse", return_state=True
    )
    assert state.message == f"tiny: version {version} was refused, by ann: the new scale is not to be trusted"
    ledger = open_resources("tiny").ledger
    assert (ledger.challenger(), ledger.champion().version) == (None, first)
    assert (ledger.promotions()[-1].action, ledger.promotions()[-1].by) == ("refuse", "ann")
    process_days(24, 24)
    assert actions(version)[-2:] == ["request", "refuse"]
    with pytest.raises(UnknownVersion, match="only a challenger can be refused, and there is none now"):
        promote(model="tiny", by="ann", reason="twice", action="refuse", version=version)


@pytest.mark.slow
def test_a_newer_challenger_retires_the_one_that_waits_for_approval(after_shift):
    configure(after_shift, approval=True)
    first, second = (train(model="tiny", reason="after the shift").version for _ in range(2))
    res = open_resources("tiny")
    assert res.ledger.challenger().version == second
    assert actions(first) == ["register", "stage", "request", "retire"]


@pytest.mark.slow
def test_an_alias_moved_by_hand_is_reported_once_and_decides_nothing(after_shift):
    configure(after_shift, approval=True)
    version = train(model="tiny", reason="after the shift").version
    res = open_resources("tiny")
    champion = res.ledger.champion()
    res.registry.client.set_registered_model_alias("tiny", "champion", version)
    for _ in range(2):
        process(model="tiny", partition=day(24))
    res = open_resources("tiny")
    assert [(f.kind, f.payload["alias"]) for f in res.ledger.facts() if f.kind == "alias"] == [("alias", version)]
    assert set(res.lake.read(Stage.PREDICTIONS, day(24))["model_version"]) == {champion.version}
    assert res.ledger.undecided() == [f for f in res.ledger.undecided() if f.kind == "drift"]

    promote(model="tiny", by="ann", reason="was a mistake", action="restore")
    res = open_resources("tiny")
    assert res.registry.alias() == champion.version
    row = res.ledger.champion()
    assert (row.action, row.version, row.by, row.evidence["alias_was"]) == ("restore", champion.version, "ann", version)
    assert "everything is fresh" in process(model="tiny", partition=day(24), return_state=True).message

    res.registry.client.set_registered_model_alias("tiny", "champion", version)
    promote(model="tiny", by="ann", reason="it is better indeed", action="adopt")
    row = open_resources("tiny").ledger.champion()
    assert (row.action, row.version) == ("adopt", version)
    assert row.evidence["passed"]


@pytest.mark.slow
def test_an_alias_that_was_moved_by_hand_stays_until_the_next_promotion(after_shift):
    configure(after_shift, approval=True)
    version = train(model="tiny", reason="after the shift").version
    registry = open_resources("tiny").registry
    registry.client.set_registered_model_alias("tiny", "champion", version)
    later = train(model="tiny", reason="once more").version
    assert (registry.alias("champion"), registry.alias("challenger")) == (version, later)
    promote(model="tiny", by="ann", reason="looked at it")
    assert registry.alias("champion") == later == open_resources("tiny").ledger.champion().version


@pytest.mark.slow
def test_a_version_that_a_person_rolled_back_from_is_promoted_again_only_by_a_person(after_shift):
    bad = train(model="tiny", reason="after the shift").version
    first = open_resources("tiny").ledger.champions()[0].version
    assert open_resources("tiny").ledger.champion().version == bad
    rollback(model="tiny", by="ann", reason="scores weekends badly")
    wait_for_event(open_resources("tiny").ledger.champions()[-1])
    assert open_resources("tiny").ledger.champion().version == first

    twin = train(model="tiny", reason="again, the same data").version
    res = open_resources("tiny")
    assert res.registry.version(twin).digest == res.registry.version(bad).digest
    assert res.ledger.champion().version == first
    assert actions(twin)[-1] == "refuse"
    assert "ann rolled back from version" in res.ledger.promotions()[-1].reason
    assert "refused" in train(model="tiny", reason="once more").row.to_stage

    promote(model="tiny", version=bad, by="bob", reason="it was the scale")
    assert open_resources("tiny").ledger.champion().version == bad


@pytest.mark.slow
def test_the_audit_reports_the_champion_and_a_changed_row(after_shift):
    configure(after_shift, approval=True)
    version = train(model="tiny", reason="after the shift").version
    promote(model="tiny", by="ann", reason="looked at it")
    res = open_resources("tiny")
    first, second = res.ledger.champions()
    wait_for_event(second)  # events of other copies of this folder may be about the same rows
    state = audit(model="tiny", return_state=True)
    assert state.is_completed(), state.message
    assert f"version {version} was champion; ledger, MLflow and events agree" in state.message
    earlier = audit(model="tiny", at=second.as_of, return_state=True)
    assert f"version {first.version} was champion" in earlier.message

    with sa.create_engine(res.ledger.url).begin() as con:
        con.execute(sa.text("UPDATE promotions SET \"by\" = 'nobody' WHERE sequence = :n"), {"n": second.sequence})
    state = audit(model="tiny", return_state=True)
    assert state.is_failed()
    assert "1 problem found" in state.message


def test_a_recomputed_chain_still_differs_from_mlflow_and_the_event(after_shift):
    """Write access to the database is enough to write new hashes. Then the copies elsewhere differ."""
    from dataclasses import replace

    from tasks.ledger.chain import row_hash
    from tasks.lifecycle.audit import audit as run_audit

    res = open_resources("tiny")
    row = res.ledger.promotions()[-1]
    forged = replace(row, by="nobody", hash="")
    forged = replace(forged, hash=row_hash(forged))
    with sa.create_engine(res.ledger.url).begin() as con:
        statement = sa.text("UPDATE promotions SET \"by\" = 'nobody', hash = :h WHERE sequence = :n")
        con.execute(statement, {"h": forged.hash, "n": row.sequence})
    report = run_audit(open_resources("tiny"), None, known_hashes("tiny"))
    assert broken_links(report.rows) == []
    assert report.problems == (
        f"row {row.sequence} was changed after it was written",
        f"row {row.sequence}: version {row.version} in MLflow has another hash of it",
        f"row {row.sequence} of version {row.version}: its event has another hash",
    )


@pytest.mark.slow
def test_rows_that_were_removed_at_the_end_are_reported_even_if_no_row_of_their_version_is_left(after_shift):
    from tasks.lifecycle.audit import audit as run_audit

    version = train(model="tiny", reason="after the shift").version
    res = open_resources("tiny")
    removed = [row.sequence for row in res.ledger.promotions() if int(row.version) >= int(version) - 1]
    with sa.create_engine(res.ledger.url).begin() as con:
        con.execute(sa.text(f"DELETE FROM promotions WHERE sequence >= {min(removed)}"))
    report = run_audit(open_resources("tiny"), None, None)
    assert version not in {row.version for row in report.rows}
    assert broken_links(report.rows) == []
    marks = [line for line in report.problems if line.endswith("which the ledger does not have")]
    assert sorted(int(line.split("row ")[1].split(",")[0]) for line in marks) == removed
    assert set(report.problems) - set(marks) == {f"row {n} was deleted after it was written" for n in removed}


def test_a_version_is_reproduced_to_the_byte_and_changed_data_are_named(after_shift):
    from tests.conftest import day_file, parcels

    state = reproduce(model="tiny", return_state=True)
    assert state.is_completed(), state.message
    assert "the same digest, and the same bytes of predictions" in state.message
    judged = open_resources("tiny").registry.version(open_resources("tiny").ledger.champion().version).judged_as
    assert reproduce(model="tiny", version=judged, return_state=True).is_completed()

    frame = parcels(4)
    frame.loc[5, "weight"] += 1
    frame.to_parquet(day_file(after_shift, 4), index=False)
    backfill(model="tiny", start=day(5), end=day(5), mode="stale")
    lake = open_resources("tiny").lake
    assert lake.read(Stage.VALID, day(5))["weight"].iloc[5] == frame.loc[5, "weight"]
    state = reproduce(model="tiny", return_state=True)
    assert state.is_completed(), "the rows of then are kept"
    kept = [earlier_records(lake, stage, day(5)) for stage in (Stage.RAW, Stage.VALID)]
    assert [len(records) for records in kept] == [1, 1]
    assert kept[1][0].inputs["raw"] == kept[0][0].digest
    shutil.rmtree(lake.root / "earlier" / "valid")
    state = reproduce(model="tiny", return_state=True)
    assert state.is_failed()
    assert "the data have changed in 2024-03-05." in state.message
    with pytest.raises(UnknownVersion, match="99"):
        reproduce(model="tiny", version="99")


def edit(folder: Path, **sections: dict[str, Any]) -> None:
    """Change keys of sections of the model's config."""
    path = folder / "configs" / "tiny" / "model.yaml"
    config = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(config | {name: config[name] | keys for name, keys in sections.items()}))


@pytest.mark.slow
def test_a_refresh_is_compared_with_the_champion_as_it_was_judged(after_shift):
    before = open_resources("tiny").registry.version(open_resources("tiny").ledger.champion().version)
    training = train(model="tiny", reason="after the shift")
    assert training.row.action == "promote"
    evidence = training.row.evidence
    assert (evidence["burden"], evidence["differences"]) == ("refresh", [])
    assert evidence["reference"] == f"version {before.judged_as}, as which champion {before.version} was judged"
    assert training.comparison.champion.version == before.judged_as
    assert training.comparison.start == training.window.holdout_start, "neither has learned the holdout"


@pytest.mark.slow
def test_a_change_that_is_not_better_is_refused_and_the_champion_is_refreshed_in_its_place(after_shift):
    """The champion's recipe is fitted on the same rows, and is judged against the champion. The refusal keeps the gains by hour."""
    weaker = {"estimator": "xgboost", "params": {"n_estimators": 4, "max_depth": 2}}
    edit(after_shift, training={"candidates": {"weaker": weaker}})
    before = open_resources("tiny").ledger.champion()
    training = train(model="tiny", reason="after the shift")
    rows = open_resources("tiny").ledger.promotions()
    change = next(row for row in rows if row.action == "refuse")
    assert (change.evidence["burden"], change.evidence["differences"]) == ("change", ["parameters"])
    assert sum(count for _, count, _ in change.evidence["gains"]) == training.comparison.challenger.rows
    champion = open_resources("tiny").ledger.champion()
    assert (champion.version, champion.previous) == (training.version, before.version)
    assert champion.evidence["burden"] == "refresh"
    assert f"a change of parameters, version {change.version}, was refused" in champion.reason
    fitted = open_resources("tiny").registry.version(champion.version)
    assert fitted.recipe.params == {"n_estimators": 20, "max_depth": 3}
    assert broken_links(rows) == []
    again = train(model="tiny", reason="once more")
    second = [row for row in open_resources("tiny").ledger.promotions() if row.action == "refuse"][-1]
    assert second.evidence["change"] == change.evidence["change"]
    assert again.comparison.burden == "refresh"


@pytest.mark.slow
def test_a_change_that_passes_is_promoted_and_what_it_was_compared_with_is_retired(after_shift):
    """A wide margin of non-inferiority, so that weaker trees pass."""
    weaker = {"estimator": "xgboost", "params": {"n_estimators": 4, "max_depth": 2}}
    gain = {"test": "non_inferiority", "margin": 0.5, "block": "H", "min_blocks": 6, "resamples": 200}
    edit(after_shift, training={"candidates": {"weaker": weaker}}, gate={"gain": gain})
    training = train(model="tiny", reason="after the shift")
    assert training.row.action == "promote"
    evidence = training.row.evidence
    assert (evidence["burden"], evidence["differences"]) == ("change", ["parameters"])
    compared = training.comparison.champion.version
    assert actions(compared) == ["register", "retire"]
    assert open_resources("tiny").registry.version(compared).recipe.params == {"n_estimators": 20, "max_depth": 3}


@pytest.mark.slow
def test_a_refused_challenger_is_recorded_and_the_champion_stays(after_shift):
    edit(after_shift, gate={"budgets": {"size_mb": 0.0001}})
    before = open_resources("tiny").ledger.champion()
    training = train(model="tiny", reason="after the shift")
    assert not training.decision.passed
    assert training.final is None
    row = training.row
    assert (row.action, row.from_stage, row.to_stage) == ("refuse", "candidate", "refused")
    assert "size, MB: REFUSED" in row.reason
    assert open_resources("tiny").ledger.champion() == before
    assert (row.by, row.assurance) == ("evergreen", "automation")
    with pytest.raises(GateRefused, match="size, MB"):
        promote(model="tiny", version=training.version, by="ann", reason="I want it")
    asked, again = open_resources("tiny").ledger.promotions()[-2:]
    assert (asked.action, asked.version, asked.by, asked.reason) == ("propose", training.version, "ann", "I want it")
    assert asked.assurance == "asserted"
    assert (again.action, again.version, again.by) == ("refuse", training.version, "evergreen")


def test_a_model_file_that_is_not_the_registered_one_is_refused(after_shift):
    """A forged local copy is replaced by MLflow's. If that is forged too, no partition is scored."""
    res = open_resources("tiny")
    champion = res.ledger.champion().version
    other = res.registry.version(champion).judged_as
    copies = [res.registry.local_copy(number) / "model.skops" for number in (champion, other)]
    original = copies[0].read_bytes()
    copies[0].write_bytes(copies[1].read_bytes())
    source = res.registry.client.get_model_version("tiny", champion).source
    location = res.registry.client.get_logged_model(source.removeprefix("models:/")).artifact_location
    artifact = Path(location.removeprefix("file://")) / "model.skops"
    artifact.write_bytes(copies[1].read_bytes())
    with pytest.raises(ForgedVersion, match=f"version {champion} of 'tiny' was not loaded.*delete {copies[0].parent}"):
        process(model="tiny", partition=day(24))
    assert open_resources("tiny").lake.record(Stage.PREDICTIONS, day(24)) is None
    artifact.write_bytes(original)
    assert process(model="tiny", partition=day(24), return_state=True).is_completed()
    assert copies[0].read_bytes() == original


def test_a_holdout_without_a_label_is_not_judged(after_shift):
    sql = after_shift / "configs" / "tiny" / "labels.sql"
    sql.write_text(sql.read_text().replace("late,", "CASE WHEN sent < '2024-03-22' THEN late END AS late,"))
    before = open_resources("tiny").ledger.champion()
    row = train(model="tiny", reason="after the shift").row
    assert row.action == "refuse"
    assert "0 labelled rows, gate.min_rows is 100" in row.reason
    assert open_resources("tiny").ledger.champion() == before


@pytest.mark.slow
def test_a_training_without_newer_rows_is_the_same_model_and_passes(after_shift):
    """The champion learned up to the newest row. As it was judged, it had not, so there are rows for the comparison."""
    first = train(model="tiny", reason="after the shift")
    second = train(model="tiny", reason="the same again")
    assert second.row.action == "promote"
    assert second.challenger.digest == first.challenger.digest
    assert (second.comparison.gain.value, second.comparison.gain.upper) == (0.0, 0.0)
    assert second.final.digest == first.final.digest


@pytest.mark.slow
def test_a_holdout_with_too_few_labels_is_not_judged(after_shift):
    path = after_shift / "configs" / "tiny" / "model.yaml"
    config = yaml.safe_load(path.read_text())
    config["gate"]["min_rows"] = 295
    path.write_text(yaml.safe_dump(config))
    row = train(model="tiny", reason="after the shift").row
    assert row.action == "refuse"
    assert "floor: log_loss: could not be judged" in row.reason
    assert "294 labelled rows, gate.min_rows is 295" in row.reason


def test_the_mlflow_run_has_card_charts_inputs_and_every_trial_as_a_child(trained, monkeypatch):
    use_copy(trained, monkeypatch)
    res = open_resources("tiny")
    final = res.registry.version(res.ledger.champion().version)
    judged, client = res.registry.version(final.judged_as), res.registry.client
    run = client.get_run(final.training_run)
    assert run.info.run_id == judged.run_id
    assert run.info.status == "FINISHED"
    files = {f.path for f in client.list_artifacts(judged.run_id)}
    assert {"config.json", "lineage.json", "gate.json", "model-card.html", "plots"} <= files
    charts = {f.path for f in client.list_artifacts(judged.run_id, "plots")}
    assert charts == {f"plots/{n}.png" for n in ("roc", "precision-recall", "calibration", "importances")}
    assert {"holdout_log_loss", "holdout_log_loss_lower", "holdout_roc_auc_upper"} <= run.data.metrics.keys()
    learned = {i.dataset.name: i.dataset.digest for i in run.inputs.dataset_inputs}
    recorded = res.registry.document(judged.run_id, "lineage.json")["learned"]
    assert learned == {part["partition"]: part["digest"][:32] for part in recorded}
    children = client.search_runs([run.info.experiment_id], f"tags.mlflow.parentRunId = '{run.info.run_id}'")
    newest = recorded[-1]["partition"]
    last = res.registry.document(final.run_id, "lineage.json")["window"]["partitions"][-1]
    names = {f"baseline: prior {last}", f"trees {last}", f"v{final.version} trees {last}"}
    assert {c.info.run_name for c in children} == names
    assert run.info.run_name == f"v{judged.version} trees {newest}"
    refit = client.get_run(final.run_id).data.metrics
    own = {name.removeprefix("judged_version/"): value for name, value in refit.items() if "judged" in name}
    assert own["log_loss"] == run.data.metrics["holdout_log_loss"]
    assert own["roc_auc"] == run.data.metrics["holdout_roc_auc"]
    assert not [name for name in refit if name.startswith(("holdout", "gain"))], "they are not the refit's own"
    assert all(c.info.status == "FINISHED" for c in children)


# Killed processes and races


def promoter(*arguments: str) -> subprocess.Popen[str]:
    """Start another process, with the same folder, MLflow and Prefect server."""
    from prefect.settings import get_current_settings

    env = os.environ | {"PREFECT_API_URL": get_current_settings().api.url, "PREFECT_LOGGING_LEVEL": "ERROR"}
    command = [sys.executable, "-m", "tests.flows.promoter", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def end_state() -> tuple:
    """Return ledger rows, aliases, rows without their tag in MLflow, and undelivered rows."""
    res = open_resources("tiny")
    rows = res.ledger.promotions()
    for row in rows:
        if row.action in ("stage", "promote"):
            wait_for_event(row)
    every = res.registry.read_copies()[0]
    tags = {n: h for v in {r.version for r in rows} for n, h in every[v].items()}
    return (
        [(r.version, r.action, r.from_stage, r.to_stage, r.by) for r in rows],
        res.registry.alias(),
        res.registry.alias("challenger"),
        [r.sequence for r in rows if tags.get(r.sequence) != r.hash],
        [r.sequence for r in res.ledger.undelivered()],
    )


@pytest.mark.servers
@pytest.mark.slow
@pytest.mark.parametrize("what", ["advance", "approve"])
def test_a_promotion_that_is_killed_at_any_step_is_completed_by_the_next_run(what, after_shift, tmp_path, monkeypatch):
    """Each step in turn. The ledger always has a champion, and the next run does the rest."""
    configure(after_shift, approval=True)
    train(model="tiny", reason="after the shift")
    configure(after_shift, approval=what == "approve")
    champion, challenger = (
        open_resources("tiny").ledger.champion().version,
        open_resources("tiny").ledger.challenger().version,
    )

    def copy_databases(name: str) -> None:
        """Copy ledger and MLflow as they are now into files without open connections."""
        folder = tmp_path / name
        folder.mkdir()
        for file in ("ledger.db", "mlflow.db"):
            shutil.copy(tmp_path / file, folder / file)
        monkeypatch.setenv("EVERGREEN_DATABASE_URL", f"sqlite:///{folder}/ledger.db")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")

    copy_databases("whole")
    whole = promoter(what, "0")
    printed, errors = whole.communicate(timeout=300)
    assert whole.returncode == 0, errors
    steps = int(printed.split()[-1])
    expected = end_state()
    assert expected[1:] == (challenger, None, [], [])
    proposal = 4 if what == "approve" else 0  # of a person: its row, the alias, its tag, its delivery
    assert steps == proposal + 6  # the row, two aliases, its tag, its event, its delivery

    champions = []
    for step in range(1, steps + 1):
        copy_databases(f"step-{step}")
        killed = promoter(what, str(step))
        _, errors = killed.communicate(timeout=300)
        assert killed.returncode == 9, errors
        champions.append(open_resources("tiny").ledger.champion().version)
        again = promoter(what, "0")
        _, errors = again.communicate(timeout=300)
        assert again.returncode == 0, errors
        assert end_state() == expected, f"killed before step {step}"
    rows = 2 if proposal else 1  # both rows come before everything that follows from them
    assert champions == [champion] * rows + [challenger] * (steps - rows)


@pytest.mark.servers
@pytest.mark.slow
def test_a_training_that_is_killed_before_any_row_leaves_a_champion_and_the_next_training_completes(
    after_shift, tmp_path, monkeypatch
):
    """The rows of a training: two candidates, the judged one's retirement, challenger, champion."""
    before = open_resources("tiny").ledger.champion().version

    def result_of(name: str, row: int) -> tuple:
        folder = tmp_path / name
        folder.mkdir()
        for file in ("ledger.db", "mlflow.db"):
            shutil.copy(tmp_path / file, folder / file)
        monkeypatch.setenv("EVERGREEN_DATABASE_URL", f"sqlite:///{folder}/ledger.db")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        monkeypatch.setenv("EVERGREEN_HOME", str(folder / "home"))
        if row:
            killed = promoter("train", "killed", str(row))
            _, errors = killed.communicate(timeout=300)
            assert killed.returncode == 9, errors
            champion = open_resources("tiny").ledger.champion()
            assert champion
            assert champion.version == before
        whole = promoter("train", "whole")
        printed, errors = whole.communicate(timeout=300)
        assert whole.returncode == 0, errors
        res = open_resources("tiny")
        rows, champion = res.ledger.promotions(), res.ledger.champion()
        assert champion
        assert broken_links(rows) == []
        aliases = res.registry.alias(), res.registry.alias("challenger")
        assert (*aliases, res.ledger.undelivered()) == (champion.version, None, [])
        assert champion.version == printed.split()[-2]
        return res.ledger.digest(champion.version), champion.from_stage, champion.previous, int(printed.split()[-1])

    expected = result_of("whole", 0)
    assert expected[1:] == ("challenger", before, 5)
    for row in range(1, 6):
        result = result_of(f"row-{row}", row)
        assert result[:3] == expected[:3], f"killed before row {row}"


@pytest.mark.servers
@pytest.mark.slow
def test_two_trainings_at_once_leave_one_champion_and_an_unbroken_chain(after_shift):
    before = open_resources("tiny").ledger.champion().version
    both = [promoter("train", reason) for reason in ("one", "two")]
    ended = [one.communicate(timeout=500) for one in both]
    assert all(one.returncode == 0 for one in both), ended
    res = open_resources("tiny")
    rows = res.ledger.promotions()
    versions = [printed.split()[-2] for printed, _ in ended]
    assert res.ledger.champion().version in versions
    assert before not in versions
    assert len(set(versions)) == 2
    assert res.ledger.challenger() is None
    assert broken_links(rows) == []
    other = next(v for v in versions if v != res.ledger.champion().version)
    assert stage_of(other, rows) in ("refused", "retired")
    assert res.registry.alias() == res.ledger.champion().version


@pytest.mark.slow
def test_a_champion_that_was_deleted_in_mlflow_is_an_error_that_names_rollback(after_shift):
    """Its local copy keeps scoring. Without a copy the error names `rollback`, which works."""
    train(model="tiny", reason="after the shift")
    res = open_resources("tiny")
    first, gone = (row.version for row in res.ledger.champions())
    res.registry.client.delete_model_version("tiny", gone)
    assert process(model="tiny", partition=day(24), return_state=True).is_completed()
    res.registry.delete_copies()
    with pytest.raises(UnknownVersion, match=rf"no version '{gone}' of 'tiny'.*choose another version, or `rollback`"):
        process(model="tiny", partition=day(25))
    rollback(model="tiny", by="ann", reason="somebody deleted it")
    assert open_resources("tiny").ledger.champion().version == first
    assert open_resources("tiny").registry.alias() == first


def serve_mlflow(store: Path, artifacts: Path, port: int) -> subprocess.Popen[bytes]:
    """A real MLflow server on a SQLite file; returns when it answers."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{store}", "--artifacts-destination", str(artifacts)]
    env = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = subprocess.Popen(
        command, cwd=store.parent, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    for _ in range(600):
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).status_code == 200:
                return server
        time.sleep(0.5)
    stop(server)
    pytest.fail("MLflow's server does not answer")


def stop(server: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait(30)


@pytest.mark.servers
@pytest.mark.slow
def test_if_mlflow_stops_between_row_and_alias_the_next_run_sets_the_alias(after_shift, tmp_path, monkeypatch):
    configure(after_shift, approval=True)
    version = train(model="tiny", reason="after the shift").version
    before, port = open_resources("tiny").registry.alias(), free_port()
    server = serve_mlflow(tmp_path / "mlflow.db", tmp_path / "served", port)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    follow = delivery._update_aliases

    def stopping(rows, res):
        if any(row.action == "promote" for row in res.ledger.undelivered()):
            stop(server)
        follow(rows, res)

    monkeypatch.setattr(delivery, "_update_aliases", stopping)
    try:
        assert promote(model="tiny", by="ann", reason="looked at it", return_state=True).is_completed()
        ledger = open_resources("tiny").ledger
        assert ledger.champion().version == version
        assert [row.action for row in ledger.undelivered()] == ["propose", "promote"]
        monkeypatch.setattr(delivery, "_update_aliases", follow)
        server = serve_mlflow(tmp_path / "mlflow.db", tmp_path / "served", port)
        assert open_resources("tiny").registry.alias() == before
        process(model="tiny", partition=day(24))
        res = open_resources("tiny")
        assert (res.registry.alias(), res.ledger.undelivered()) == (version, [])
        wait_for_event(res.ledger.champion())
    finally:
        stop(server)


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[str]:
    """A real MLflow server on a database of its own."""
    port = free_port()
    server = serve_mlflow(tmp_path / "served.db", tmp_path / "served", port)
    yield f"http://127.0.0.1:{port}"
    stop(server)


@pytest.mark.servers
@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_of_four_processes_that_promote_at_once_one_wins(database, after_shift, mlflow_server, tmp_path, monkeypatch):
    """With a real MLflow server and a real ledger: three get StaleDecision, and ledger, alias and event agree."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    url = f"sqlite:///{tmp_path}/race.db" if database == "sqlite" else postgres_schema()
    monkeypatch.setenv("EVERGREEN_DATABASE_URL", url)
    shutil.rmtree(after_shift / ".evergreen", ignore_errors=True)
    configure(after_shift, approval=True)
    moment = open_resources("tiny").ref(day(10)).as_of
    trainings = [train(model="tiny", as_of=moment, reason="one of four") for _ in range(2)]
    versions = [v for t in trainings for v in (t.challenger.version, t.final.version)]
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    racers = [promoter("race", version, str(meeting)) for version in versions]
    ended = [racer.communicate(timeout=300) for racer in racers]
    assert all(racer.returncode == 0 for racer in racers), ended
    results = dict(zip(versions, (printed.split()[-2:] for printed, _ in ended), strict=True))
    winners = [version for version, words in results.items() if "won" in words]
    assert len(winners) == 1, results
    assert sum(words[-1] == "stale" for words in results.values()) == 3

    assess(model="tiny", partition=day(5))  # the next run delivers what a racer did not
    res = open_resources("tiny")
    row = res.ledger.champion()
    assert [r.version for r in res.ledger.champions()] == winners
    assert res.registry.alias() == winners[0]
    wait_for_event(row)
    assert broken_links(res.ledger.promotions()) == []
    if database == "postgresql":
        res.ledger.engine.dispose()
        with sa.create_engine(POSTGRES).begin() as con:
            con.execute(sa.text(f"DROP SCHEMA {url.rpartition('%3D')[2]} CASCADE"))
