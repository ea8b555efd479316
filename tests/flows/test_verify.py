"""Damaged outputs in the lake: mode `verify` finds each kind of damage, and makes the same bytes again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from flows.assess import assess
from flows.backfill import backfill
from flows.process import process
from ops.status_model import print_model as print_status
from tasks.backfill.plan import make_plan
from tasks.backfill.plan_files import resolve_request
from tasks.backfill.verify import last_verification, repair
from tasks.contracts import Stage
from tasks.resources import LiveResources, open_resources
from tasks.steps.order import ALL, STEPS_BY_CHOICE
from tasks.steps.step import freshness
from tasks.storage.files import digest_file
from tasks.storage.integrity import damage, record_damage
from tests.conftest import day_file, parcels, set_up_copy, use_folder
from tests.flows.conftest import STEADY
from tests.flows.test_backfill import contents
from tests.flows.test_pages import latest

FILES = ("raw", "valid", "sketches", "predictions", "labels")
RECORDS = (*FILES, "estimates", "monitoring", "performance")
pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture(scope="module")
def steady(with_champion: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One day with every output, quarantined rows and a page. Each test gets its files back as they were."""
    folder = tmp_path_factory.mktemp("steady")
    with pytest.MonkeyPatch.context() as patch:
        set_up_copy(with_champion, folder, patch)
        rows = parcels(10)
        rows.loc[:4, "weight"] = 99.0
        rows.to_parquet(day_file(folder, 10), index=False)
        process(model="tiny", partition=STEADY)
        assess(model="tiny", partition=STEADY)
    shutil.copytree(folder, folder.with_name("backup"))
    return folder


@pytest.fixture
def res(steady: Path, monkeypatch: pytest.MonkeyPatch) -> LiveResources:
    use_folder(steady, steady / "configs", f"sqlite:///{steady}/mlflow.db", monkeypatch)
    for name in ("lake", "data"):
        shutil.rmtree(steady / name)
        shutil.copytree(steady.with_name("backup") / name, steady / name)
    return open_resources("tiny")


def flip(path: Path, at: float = 0.5) -> None:
    """Change one bit of a file: at 0 of its first byte, at 0.5 in the middle."""
    content = bytearray(path.read_bytes())
    content[min(int(at * len(content)), len(content) - 1)] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def file_of(res: LiveResources, stage: str, suffix: str) -> Path:
    path = Path(str(res.lake.path(Stage(stage), STEADY, suffix)))
    assert path.is_file()
    return path


def verify(res: LiveResources) -> dict[str, tuple[str, str]]:
    """Plan and repair as the flow does. Return state and reason of each step that was not intact."""
    request = resolve_request("tiny", STEADY, STEADY, list(STEPS_BY_CHOICE), "verify", "oldest first", "then", {}, "")
    (cells,) = make_plan(request, res).cells.values()
    planned = [cell.verb for cell in cells if cell.action == "again"]
    with res.claims.hold(STEADY):
        outcome = repair(STEADY, [step for step in ALL if step.verb in planned], res)
    return {verb: (state, why) for verb, state, why in outcome.passed}


def states(res: LiveResources) -> dict[str, str]:
    return {step.verb: freshness(step, res.ref(STEADY), res).state for step in ALL[:6] + ALL[8:]}


DAMAGES: tuple[Callable[[Path], None], ...] = (flip, truncate, Path.unlink)


@pytest.mark.parametrize(
    "damage_file",
    [DAMAGES[0], *(pytest.param(damage_file, marks=pytest.mark.slow) for damage_file in DAMAGES[1:])],
    ids=["flipped", "truncated", "gone"],
)
@pytest.mark.parametrize(
    ("stage", "suffix"), [*((f, "parquet") for f in (*FILES, "quarantine")), *((r, "json") for r in RECORDS)]
)
def test_a_damaged_file_or_record_is_found_and_made_again_with_the_same_content(res, stage, suffix, damage_file):
    if (stage, damage_file) == ("performance", Path.unlink):
        pytest.skip("nothing else has a trace of this record, so `assess` finds it missing")
    before = contents(res.lake)
    assert verify(res) == {}
    damage_file(file_of(res, stage, suffix))
    made = verify(res)
    written = "valid" if stage == "quarantine" else stage
    (verb,) = (step.verb for step in ALL if step.stage == written)
    assert {name: state for name, (state, _) in made.items()} == {verb: "made"}
    if suffix == "parquet":
        assert "with the same content" in made[verb][1]
    assert contents(res.lake) == before
    assert set(states(res).values()) == {"fresh"}
    assert verify(res) == {}


@pytest.mark.parametrize("stage", RECORDS)
def test_every_single_bit_of_a_record_that_changes_its_content_is_found(res, stage):
    path = file_of(res, stage, "json")
    good = path.read_bytes()
    for at in range(0, len(good), 7):
        changed = bytearray(good)
        changed[at] ^= 1 << at % 7
        path.write_bytes(changed)
        try:
            same = json.loads(changed) == json.loads(good)
        except ValueError:
            same = False
        assert bool(record_damage(res.lake, Stage(stage), STEADY)) is not same, (at, good[at - 20 : at + 20])


def test_a_damaged_page_is_made_again(res):
    page = file_of(res, "monitoring", "html")
    flip(page)
    assert verify(res)["watch"][0] == "made"
    assert damage(res.lake, Stage.MONITORING, STEADY) == ""
    page.unlink()
    assert verify(res)["watch"][0] == "made"
    assert page.is_file()


@pytest.mark.slow
def test_everything_at_once_is_repaired_in_the_order_of_the_steps(res):
    before = contents(res.lake)
    for stage in FILES:
        flip(file_of(res, stage, "parquet"))
        flip(file_of(res, stage, "json"))
    for stage in ("estimates", "monitoring", "performance"):
        flip(file_of(res, stage, "json"))
    made = verify(res)
    assert {state for state, _ in made.values()} == {"made"}
    assert contents(res.lake) == before


def test_what_cannot_be_made_again_is_named_and_stays_and_the_run_fails(res):
    raw, valid = file_of(res, "raw", "parquet"), file_of(res, "valid", "parquet")
    good = valid.read_bytes()
    flip(raw), flip(valid)
    change_source(res, 1)
    state = backfill(model="tiny", start=STEADY, end=STEADY, mode="verify", return_state=True)
    assert state.is_failed()
    assert f"{STEADY} ingest: damaged: {STEADY}.parquet does not match its digest in the record" in state.message
    assert "It cannot be made again: changed since it was made: source" in state.message
    page = latest("tiny-backfill")["data"]
    assert "failed at validate: damaged:" in page
    assert valid.read_bytes() != good
    assert "1 damaged and repaired" not in last_verification(res)
    assert "not repaired" in last_verification(res)


def change_source(res: LiveResources, add: float) -> None:
    """Change the weights in the source of the day after it was ingested."""
    rows = parcels(10)
    rows["weight"] += add
    rows.to_parquet(Path(res.settings.configs).parent / day_file(Path(), 10), index=False)


def rewrite_record(res: LiveResources, stage: str) -> None:
    file_of(res, stage, "json").write_text("{}")


def flip_record(res: LiveResources, stage: str) -> None:
    flip(file_of(res, stage, "json"), 0.9)


def files(res: LiveResources) -> dict[str, bytes]:
    """Every file with rows and every record of the day."""
    paths = (p for p in Path(str(res.lake.root)).glob(f"*/{STEADY}.*") if p.suffix in (".json", ".parquet", ".html"))
    return {f"{path.parent.name}{path.suffix}": path.read_bytes() for path in paths}


@pytest.mark.parametrize("damage_record", [flip_record, rewrite_record])
def test_intact_rows_survive_if_their_record_is_damaged_and_the_source_has_changed(res, damage_record):
    """Only the raw record is damaged. Its rows have the digest that `validate` and `collect` were made from."""
    change_source(res, 1)
    damage_record(res, "raw")
    before = files(res)
    state, why = verify(res)["ingest"]
    assert state == "failed"
    assert "its rows are intact, and those that are made from what is there now differ" in why
    assert files(res) == before
    assert res.lake.done(Stage.VALID, STEADY).inputs["raw"] == digest_file(file_of(res, "raw", "parquet"))

    state = backfill(model="tiny", start=STEADY, end=STEADY, mode="all", return_state=True)
    assert state.is_completed(), "the way out that the message names"
    assert files(res)["raw.parquet"] != before["raw.parquet"]
    assert verify(res) == {}


def test_valid_rows_survive_if_new_rows_would_be_blocked(res):
    """The records of raw and valid rows are damaged, and the new source violates an expectation."""
    change_source(res, 1000)
    flip_record(res, "raw"), flip_record(res, "valid")
    before = files(res)
    assert {verb: state for verb, (state, _) in verify(res).items()} == {"ingest": "failed", "validate": "failed"}
    assert files(res) == before


def test_valid_rows_survive_if_today_s_expectations_would_block_them(res, monkeypatch):
    """Here the raw rows are intact, so that `validate` runs and blocks the partition."""
    path = Path(res.settings.configs) / "tiny" / "model.yaml"
    text = path.read_text()
    rewrite_record(res, "valid")
    before = files(res)
    try:
        path.write_text(text.replace("max_value: 50, mostly: 0.9", "max_value: -40, mostly: 0.9"))
        state, why = verify(open_resources("tiny"))["validate"]
    finally:
        path.write_text(text)
    assert state == "failed"
    assert "Its files are left as they are" in why
    assert files(res) == before
    assert verify(res)["validate"][0] == "made", "with the expectations of its record"


def test_rows_without_any_trace_of_their_digest_are_made_from_today_s_source_and_the_result_has_that(res):
    flip(file_of(res, "labels", "parquet"))
    rewrite_record(res, "labels"), rewrite_record(res, "performance")
    made = verify(res)
    assert {verb: state for verb, (state, _) in made.items()} == {"collect": "made", "assess": "made"}
    assert "There is no record of its inputs: made from today's source, config and champion" in made["collect"][1]


def test_a_lost_estimate_is_made_again_before_a_performance_whose_record_is_damaged(res):
    before = contents(res.lake)
    file_of(res, "estimates", "json").unlink()
    rewrite_record(res, "performance")
    assert {verb: state for verb, (state, _) in verify(res).items()} == {"estimate": "made", "assess": "made"}
    assert contents(res.lake) == before


def test_the_flow_verifies_all_partitions_of_the_lake_and_a_dry_run_repairs_nothing(res, capsys):
    flip(file_of(res, "predictions", "parquet"))
    bad = file_of(res, "predictions", "parquet").read_bytes()
    state = backfill(model="tiny", mode="verify", dry_run=True, return_state=True)
    assert "1 step of 1 of 11 partitions" in state.message
    assert f"again score of {STEADY}: damaged: {STEADY}.parquet" in latest("tiny-backfill-plan")["data"]
    assert file_of(res, "predictions", "parquet").read_bytes() == bad
    assert last_verification(res) == "never verified"
    assert process(model="tiny", partition=STEADY, return_state=True).is_completed()

    state = backfill(model="tiny", mode="verify", return_state=True)
    assert state.is_completed()
    assert state.message.startswith("tiny: 1 of 11 partitions repaired, 0 failed")
    assert f"{STEADY} repaired at score: damaged: " in latest("tiny-backfill")["data"]
    assert "from 2024-03-01 to 2024-03-11, 1 damaged and repaired" in last_verification(res)
    state = backfill(model="tiny", mode="verify", return_state=True)
    assert state.message == "tiny: 11 partitions verified, no output is damaged."
    print_status(res, Console(width=300))
    assert "lake: verified on 20" in capsys.readouterr().out
