"""Plans of a backfill: the action and reason of each step by mode, and the comparison with a saved plan."""

from dataclasses import replace

import pandas as pd
import pytest

from tasks.backfill.plan import last_moment, make_plan, open_request, state_digests
from tasks.backfill.plan_files import changes, require_plan, resolve_request, save_plan
from tasks.contracts import Request, Stage
from tasks.errors import MissingSource, PlanChanged, UnknownPlan
from tasks.resources import Resources, Variant, open_resources
from tasks.steps.collect import COLLECT
from tasks.steps.ingest import INGEST
from tasks.steps.order import ALL, INDEPENDENT, PREREQUISITES, STEPS_BY_CHOICE
from tasks.steps.sketch import SKETCH
from tasks.steps.step import advance
from tasks.steps.validate import VALIDATE
from tasks.storage.partitions import NoPartition
from tests.conftest import day_file, parcels

pytestmark = pytest.mark.long

FIRST, SECOND = "2024-03-05", "2024-03-06"


@pytest.fixture
def res(tiny) -> Resources:
    return open_resources("tiny")


def build_request(mode="missing", start=FIRST, end=SECOND, **more) -> Request:
    return (
        resolve_request("tiny", start, end, list(STEPS_BY_CHOICE), mode, "oldest first", "then", {}, "")
        if not more
        else replace(build_request(mode, start, end), **more)
    )


def actions(mode: str, res: Resources, key: str = FIRST) -> dict[str, str]:
    return {c.verb: c.action for c in make_plan(build_request(mode), res).cells[key]}


def run_steps(res: Resources, *steps, key: str = FIRST) -> None:
    for step in steps:
        advance(step, res.ref(key), res)


def test_missing_outputs_are_planned_with_the_steps_after_them(res):
    plan = make_plan(build_request(), res)
    cells = {c.verb: c for c in plan.cells[FIRST]}
    assert {v: c.action for v, c in cells.items()} == {
        "ingest": "make", "validate": "make", "sketch": "make", "score": "wait", "estimate": "wait", "watch": "wait",
        "collect": "make", "assess": "wait",
    }, "no step runs in shadow mode"  # fmt: skip
    assert cells["validate"].why == "after ingest"
    assert "run `train`" in cells["score"].why
    assert plan.todo == (FIRST, SECOND)
    assert plan.seconds is None, "there is no earlier run to estimate from"


def test_time_and_rows_are_estimated_from_earlier_runs(res):
    run_steps(res, INGEST, VALIDATE, COLLECT)
    plan = make_plan(build_request(stages=("ingest",)), res)
    assert plan.rows == {FIRST: 150, SECOND: None}
    seconds = res.lake.done(Stage.RAW, FIRST).run.seconds
    assert plan.seconds == pytest.approx(seconds), "one ingest is planned, and one has a measured time"


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("missing", "keep"), ("failed", "keep"), ("stale", "keep"), ("all", "again")],
)
def test_only_all_selects_fresh_steps(res, mode, expected):
    run_steps(res, INGEST)
    assert actions(mode, res)["ingest"] == expected


@pytest.mark.parametrize(
    ("mode", "expected"), [("missing", "leave"), ("failed", "leave"), ("stale", "make"), ("all", "make")]
)
def test_stale_and_all_select_stale_steps(res, mode, expected):
    run_steps(res, INGEST, VALIDATE)
    parcels(9).to_parquet(day_file(res.settings.configs.parent, 4), index=False)
    assert actions(mode, res)["ingest"] == expected


@pytest.mark.parametrize(("mode", "expected"), [("missing", "wait"), ("failed", "again"), ("all", "again")])
def test_failed_and_all_select_blocked_steps(res, mode, expected):
    heavy = parcels(4).assign(weight=1000.0)
    heavy.to_parquet(day_file(res.settings.configs.parent, 4), index=False)
    run_steps(res, INGEST, VALIDATE)
    planned = actions(mode, res)
    assert planned["validate"] == (expected if expected == "again" else "leave")
    assert planned["sketch"] == ("wait" if mode == "missing" else "make")


@pytest.mark.parametrize(
    ("mode", "expected"), [("missing", "keep"), ("failed", "again"), ("stale", "keep"), ("all", "again")]
)
def test_a_fresh_step_whose_last_run_failed_counts_as_failed(res, mode, expected):
    run_steps(res, INGEST, VALIDATE)
    res.lake.write_failure(res.ref(FIRST), Stage.VALID, MemoryError("no room"))
    cells = {c.verb: c for c in make_plan(build_request(mode), res).cells[FIRST]}
    assert cells["validate"].action == expected
    assert cells["validate"].why == "fresh, but failed again: MemoryError: no room"
    assert cells["sketch"].action == "make", "it never ran"
    assert cells["ingest"].action == ("again" if mode == "all" else "keep")


def test_the_plan_names_steps_with_stale_inputs(res):
    run_steps(res, INGEST)
    parcels(9).to_parquet(day_file(res.settings.configs.parent, 4), index=False)
    cells = {c.verb: c for c in make_plan(build_request("missing"), res).cells[FIRST]}
    assert cells["ingest"].action == "leave"
    assert cells["validate"].why == "missing; from the output of ingest, which is stale and not updated"
    assert "stale" not in {c.verb: c for c in make_plan(build_request("stale"), res).cells[FIRST]}["validate"].why


def test_parameters_beside_a_plan_must_agree_with_it(res):
    request = build_request("all", order="newest first")
    digest = make_plan(request, res).digest
    save_plan(make_plan(request, res), res)
    assert (
        resolve_request("tiny", "", "", list(STEPS_BY_CHOICE), "missing", "oldest first", "then", {}, digest) == request
    )
    assert resolve_request("tiny", "", "", list(STEPS_BY_CHOICE), "all", "newest first", "then", {}, digest) == request
    with pytest.raises(PlanChanged, match="was made for mode 'all', not 'failed'; leave mode out"):
        resolve_request("tiny", "", "", list(STEPS_BY_CHOICE), "failed", "oldest first", "then", {}, digest)
    with pytest.raises(PlanChanged, match="was made for stages"):
        resolve_request("tiny", "", "", ["ingest"], "missing", "oldest first", "then", {}, digest)


def test_the_digest_is_the_same_for_the_same_request_and_another_for_another_range_or_config(res):
    digest = make_plan(build_request(), res).digest
    assert make_plan(build_request(), res).digest == digest
    others = [
        build_request("all"),
        build_request(end=FIRST),
        build_request(order="newest first"),
        build_request(stages=("ingest",)),
    ]
    assert len({make_plan(a, res).digest for a in others} | {digest}) == 5
    wider = build_request(override={"monitoring": {"alpha": 0.2}})
    assert make_plan(wider, open_request(wider)).digest != digest


def test_a_saved_plan_applies_while_nothing_has_changed_and_while_it_is_half_done(res):
    plan = make_plan(build_request(), res)
    save_plan(plan, res)
    require_plan(plan.digest, make_plan(build_request(), res), res)
    run_steps(res, INGEST, VALIDATE)
    half = make_plan(build_request(), res)
    assert half.digest != plan.digest
    require_plan(plan.digest, half, res)


def test_a_plan_is_refused_if_the_source_has_changed_and_names_the_step(res):
    plan = make_plan(build_request(), res)
    save_plan(plan, res)
    parcels(9).to_parquet(day_file(res.settings.configs.parent, 4), index=False)
    with pytest.raises(PlanChanged, match=f"{FIRST} ingest has changed inputs"):
        require_plan(plan.digest, make_plan(build_request(), res), res)


def test_a_plan_is_refused_if_the_config_has_changed_even_without_ingested_data(res):
    """The inputs of `watch` do not exist yet, so they cannot differ."""
    plan = make_plan(build_request(), res)
    save_plan(plan, res)
    path = res.model.folder / "model.yaml"
    path.write_text(path.read_text().replace("sample_rows: 1000", "sample_rows: 999"))
    now = open_resources("tiny")
    with pytest.raises(PlanChanged, match=r"model.yaml or its SQL has changed\. Run with dry_run again"):
        require_plan(plan.digest, make_plan(build_request(), now), now)


def test_a_plan_of_another_request_is_refused_and_names_the_difference(res):
    plan = make_plan(build_request(), res)
    save_plan(plan, res)
    with pytest.raises(PlanChanged, match=f"it was made for end '{SECOND}', not '{FIRST}'"):
        require_plan(plan.digest, make_plan(build_request(end=FIRST), res), res)


def test_an_unknown_plan_is_an_error_with_the_path_of_its_file(res):
    with pytest.raises(UnknownPlan, match=r"no plan 'nothing' of tiny .*plans/tiny-nothing.json"):
        require_plan("nothing", make_plan(build_request(), res), res)
    with pytest.raises(UnknownPlan, match="Give start and end too"):
        resolve_request("tiny", "", "", list(STEPS_BY_CHOICE), "missing", "oldest first", "then", {}, "nothing")


def test_a_path_is_not_the_digest_of_a_plan(res, tiny):
    """Who may start a run chooses the digest. It must not name a file outside the folder of plans."""
    save_plan(make_plan(build_request(), res), res)
    plans = next(tiny.rglob("plans"))
    (plans / "tiny-x").mkdir()
    (plans.parent / "other.json").write_text('{"made_at": "2024-03-01", "world": {}, "secret": "hush"}')
    with pytest.raises(UnknownPlan, match=r"'x/\.\./\.\./other' is not the digest of a plan"):
        resolve_request("tiny", "", "", list(STEPS_BY_CHOICE), "missing", "oldest first", "then", {}, "x/../../other")


def test_a_request_without_range_is_that_of_its_plan(res):
    plan = make_plan(build_request("stale", stages=("ingest", "validate")), res)
    save_plan(plan, res)
    assert (
        resolve_request("tiny", "", "", list(STEPS_BY_CHOICE), "missing", "oldest first", "then", {}, plan.digest)
        == plan.request
    )


@pytest.mark.parametrize(
    ("start", "end", "error", "message"),
    [
        (SECOND, FIRST, NoPartition, "swap them"),
        ("2024-03", FIRST, NoPartition, "look like '2013-05-14'"),
        ("2030-01-01", "2030-01-05", MissingSource, "no data from 2030-01-01 to 2030-01-05; it has 2024-03-01 to 2024-03-26"),
    ],
)  # fmt: skip
def test_an_invalid_range_is_an_error(res, start, end, error, message):
    with pytest.raises(error, match=message):
        make_plan(build_request(start=start, end=end), res)


def test_partitions_before_the_source_wait_and_name_the_source(res):
    cells = make_plan(build_request(start="2024-02-29", end=FIRST), res).cells["2024-02-29"]
    assert {c.action for c in cells} == {"wait"}
    assert "parcels" in cells[0].why


def test_a_variant_reads_production_and_writes_to_its_own_folder(res):
    """An output of production that does not fit the variant is missing in the variant, not stale."""
    run_steps(res, INGEST, VALIDATE, SKETCH)
    request = build_request(override={"monitoring": {"block": "D"}})
    variant = open_request(request)
    assert variant.title == f"tiny ({Variant(request.override).name})"
    planned = {c.verb: c.action for c in make_plan(request, variant).cells[FIRST]}
    assert (planned["ingest"], planned["validate"], planned["sketch"]) == ("keep", "keep", "make")
    before = res.lake.path(Stage.SKETCHES, FIRST, "json").read_bytes()
    run_steps(variant, SKETCH)
    assert res.lake.path(Stage.SKETCHES, FIRST, "json").read_bytes() == before
    assert "variants" in str(variant.lake.file(Stage.SKETCHES, FIRST))
    assert variant.lake.file(Stage.RAW, FIRST) == res.lake.file(Stage.RAW, FIRST)


@pytest.mark.parametrize("override", [{"partition": {"every": "W"}}, {"expectations": []}], ids=["partitions", "rows"])
def test_a_variant_with_other_rows_reads_nothing_of_production(res, override):
    """Otherwise its partitions would be compared with a reference that follows other rules."""
    run_steps(res, INGEST, VALIDATE)
    assert open_request(build_request(override=override)).lake.keys(Stage.VALID) == []


def test_prerequisites_agree_with_the_inputs_of_the_steps(res):
    """Plans use the table `PREREQUISITES`."""
    order = [step.stage for step in ALL]
    assert set(PREREQUISITES) == set(order)
    assert all(
        order.index(before) < order.index(stage) for stage, all_before in PREREQUISITES.items() for before in all_before
    )
    run_steps(res, *INDEPENDENT)
    inputs = {step.stage: set(step.inputs(res.ref(FIRST), res)) & set(order) for step in INDEPENDENT}
    assert all(inputs[stage] <= set(PREREQUISITES[stage]) for stage in inputs)


def test_state_digests_are_repeatable(res):
    plan = make_plan(build_request(), res)
    digests = state_digests(res, last_moment(plan, res))
    assert list(changes(plan, digests, make_plan(build_request(), res), res)) == []
    assert pd.Series(digests).str.len().eq(64).all()


def test_a_plan_with_mode_all_resumes_after_a_kill(res):
    """A missing output that was written since is no change. An output of another source is one."""
    plan = make_plan(build_request("all"), res)
    save_plan(plan, res)
    run_steps(res, INGEST)
    require_plan(plan.digest, make_plan(build_request("all"), res), res)
    parcels(9).to_parquet(day_file(res.settings.configs.parent, 4), index=False)
    run_steps(res, INGEST)
    with pytest.raises(PlanChanged, match=f"{FIRST} ingest has changed inputs"):
        require_plan(plan.digest, make_plan(build_request("all"), res), res)


def test_failed_also_selects_the_steps_that_did_not_run_after_the_failure(res):
    run_steps(res, INGEST, VALIDATE)
    res.lake.write_failure(res.ref(FIRST), Stage.SKETCHES, MemoryError("no room"))
    run_steps(res, INGEST, key=SECOND)
    assert actions("failed", res)["sketch"] == "make"
    assert actions("failed", res)["collect"] == "make"
    assert set(actions("failed", res, SECOND).values()) <= {"keep", "leave", "wait"}, "no step failed there"
