"""Plans: what a backfill would do and why, by mode; the same plan is held to, and changes are told."""

from dataclasses import replace

import pandas as pd
import pytest

from tasks.backfill.plan import last_moment, make_plan, open_request, world
from tasks.backfill.plan_files import changes, request_of, require_plan, save_plan
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

FIRST, SECOND = "2024-03-05", "2024-03-06"


@pytest.fixture
def res(tiny) -> Resources:
    return open_resources("tiny")


def asked(mode="missing", start=FIRST, end=SECOND, **more) -> Request:
    return (
        request_of("tiny", start, end, list(STEPS_BY_CHOICE), mode, "oldest first", "then", {}, "")
        if not more
        else replace(asked(mode, start, end), **more)
    )


def actions(mode: str, res: Resources, key: str = FIRST) -> dict[str, str]:
    return {c.verb: c.action for c in make_plan(asked(mode), res).cells[key]}


def made(res: Resources, *steps, key: str = FIRST) -> None:
    for step in steps:
        advance(step, res.ref(key), res)


def test_what_is_missing_is_made_with_what_comes_after_it(res):
    plan = make_plan(asked(), res)
    cells = {c.verb: c for c in plan.cells[FIRST]}
    assert {v: c.action for v, c in cells.items()} == {
        "ingest": "make", "validate": "make", "sketch": "make", "score": "wait", "estimate": "wait", "watch": "wait",
        "collect": "make", "assess": "wait",
    }, "nothing is in the shadow"  # fmt: skip
    assert cells["validate"].why == "after ingest"
    assert "run `train`" in cells["score"].why
    assert plan.todo == (FIRST, SECOND)
    assert plan.seconds is None, "nothing ever ran that could tell"


def test_an_estimate_of_time_and_rows_comes_from_earlier_runs(res):
    made(res, INGEST, VALIDATE, COLLECT)
    plan = make_plan(asked(stages=("ingest",)), res)
    assert plan.rows == {FIRST: 150, SECOND: None}
    took = res.lake.done(Stage.RAW, FIRST).run.seconds
    assert plan.seconds == pytest.approx(took), "one ingest is left to do, and one was timed"


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("missing", "keep"), ("failed", "keep"), ("stale", "keep"), ("all", "again")],
)
def test_what_is_fresh_is_made_again_only_by_all(res, mode, expected):
    made(res, INGEST)
    assert actions(mode, res)["ingest"] == expected


@pytest.mark.parametrize(
    ("mode", "expected"), [("missing", "leave"), ("failed", "leave"), ("stale", "make"), ("all", "make")]
)
def test_what_is_stale_is_taken_up_by_stale_and_all(res, mode, expected):
    made(res, INGEST, VALIDATE)
    parcels(9).to_parquet(day_file(res.settings.configs.parent, 4), index=False)
    assert actions(mode, res)["ingest"] == expected


@pytest.mark.parametrize(("mode", "expected"), [("missing", "wait"), ("failed", "again"), ("all", "again")])
def test_what_is_blocked_is_tried_again_by_failed_and_all(res, mode, expected):
    heavy = parcels(4).assign(weight=1000.0)
    heavy.to_parquet(day_file(res.settings.configs.parent, 4), index=False)
    made(res, INGEST, VALIDATE)
    found = actions(mode, res)
    assert found["validate"] == (expected if expected == "again" else "leave")
    assert found["sketch"] == ("wait" if mode == "missing" else "make")


@pytest.mark.parametrize(
    ("mode", "expected"), [("missing", "keep"), ("failed", "again"), ("stale", "keep"), ("all", "again")]
)
def test_what_is_fresh_and_failed_when_it_was_made_once_more_counts_as_failed(res, mode, expected):
    made(res, INGEST, VALIDATE)
    res.lake.write_failure(res.ref(FIRST), Stage.VALID, MemoryError("no room"))
    cells = {c.verb: c for c in make_plan(asked(mode), res).cells[FIRST]}
    assert cells["validate"].action == expected
    assert cells["validate"].why == "fresh, but failed again: MemoryError: no room"
    assert cells["sketch"].action == "make", "it was never made"
    assert cells["ingest"].action == ("again" if mode == "all" else "keep")


def test_a_plan_says_what_is_made_from_something_stale(res):
    made(res, INGEST)
    parcels(9).to_parquet(day_file(res.settings.configs.parent, 4), index=False)
    cells = {c.verb: c for c in make_plan(asked("missing"), res).cells[FIRST]}
    assert cells["ingest"].action == "leave"
    assert cells["validate"].why == "missing; from what ingest made, which is stale and left"
    assert "stale" not in {c.verb: c for c in make_plan(asked("stale"), res).cells[FIRST]}["validate"].why


def test_what_is_said_beside_a_plan_must_be_the_plans(res):
    request = asked("all", order="newest first")
    digest = make_plan(request, res).digest
    save_plan(make_plan(request, res), res)
    assert request_of("tiny", "", "", list(STEPS_BY_CHOICE), "missing", "oldest first", "then", {}, digest) == request
    assert request_of("tiny", "", "", list(STEPS_BY_CHOICE), "all", "newest first", "then", {}, digest) == request
    with pytest.raises(PlanChanged, match="was made for mode 'all', not 'failed'; leave mode out"):
        request_of("tiny", "", "", list(STEPS_BY_CHOICE), "failed", "oldest first", "then", {}, digest)
    with pytest.raises(PlanChanged, match="was made for stages"):
        request_of("tiny", "", "", ["ingest"], "missing", "oldest first", "then", {}, digest)


def test_a_plan_of_the_same_is_the_same_plan_and_of_another_range_or_config_another(res):
    digest = make_plan(asked(), res).digest
    assert make_plan(asked(), res).digest == digest
    others = [asked("all"), asked(end=FIRST), asked(order="newest first"), asked(stages=("ingest",))]
    assert len({make_plan(a, res).digest for a in others} | {digest}) == 5
    wider = asked(override={"monitoring": {"alpha": 0.2}})
    assert make_plan(wider, open_request(wider)).digest != digest


def test_a_kept_plan_holds_while_nothing_changed_and_while_it_is_half_done(res):
    plan = make_plan(asked(), res)
    save_plan(plan, res)
    require_plan(plan.digest, make_plan(asked(), res), res)
    made(res, INGEST, VALIDATE)
    half = make_plan(asked(), res)
    assert half.digest != plan.digest
    require_plan(plan.digest, half, res)


def test_a_plan_is_refused_when_the_source_changed_and_says_where(res):
    plan = make_plan(asked(), res)
    save_plan(plan, res)
    parcels(9).to_parquet(day_file(res.settings.configs.parent, 4), index=False)
    with pytest.raises(PlanChanged, match=f"{FIRST} ingest would be made from other data"):
        require_plan(plan.digest, make_plan(asked(), res), res)


def test_a_plan_is_refused_when_the_config_changed_though_no_stage_tells_yet(res):
    """Nothing was ingested, so that the watch's inputs are not there to differ."""
    plan = make_plan(asked(), res)
    save_plan(plan, res)
    path = res.model.folder / "model.yaml"
    path.write_text(path.read_text().replace("sample_rows: 1000", "sample_rows: 999"))
    now = open_resources("tiny")
    with pytest.raises(PlanChanged, match=r"model.yaml or its SQL has changed\. Run with dry_run again"):
        require_plan(plan.digest, make_plan(asked(), now), now)


def test_a_plan_of_something_else_is_refused_with_what_it_was_made_for(res):
    plan = make_plan(asked(), res)
    save_plan(plan, res)
    with pytest.raises(PlanChanged, match=f"it was made for end '{SECOND}', not '{FIRST}'"):
        require_plan(plan.digest, make_plan(asked(end=FIRST), res), res)


def test_an_unknown_plan_is_an_error_that_names_the_file(res):
    with pytest.raises(UnknownPlan, match=r"no plan 'nothing' of tiny .*plans/tiny-nothing.json"):
        require_plan("nothing", make_plan(asked(), res), res)
    with pytest.raises(UnknownPlan, match="give start and end too"):
        request_of("tiny", "", "", list(STEPS_BY_CHOICE), "missing", "oldest first", "then", {}, "nothing")


def test_a_request_is_taken_from_its_plan(res):
    plan = make_plan(asked("stale", stages=("ingest", "validate")), res)
    save_plan(plan, res)
    assert (
        request_of("tiny", "", "", list(STEPS_BY_CHOICE), "missing", "oldest first", "then", {}, plan.digest)
        == plan.request
    )


@pytest.mark.parametrize(
    ("start", "end", "error", "said"),
    [
        (SECOND, FIRST, NoPartition, "swap them"),
        ("2024-03", FIRST, NoPartition, "look like '2013-05-14'"),
        ("2030-01-01", "2030-01-05", MissingSource, "nothing from 2030-01-01 to 2030-01-05; it has 2024-03-01 to 2024-03-26"),
    ],
)  # fmt: skip
def test_a_range_that_makes_no_sense_is_an_error(res, start, end, error, said):
    with pytest.raises(error, match=said):
        make_plan(asked(start=start, end=end), res)


def test_partitions_before_the_source_wait_and_say_so(res):
    cells = make_plan(asked(start="2024-02-29", end=FIRST), res).cells["2024-02-29"]
    assert {c.action for c in cells} == {"wait"}
    assert "parcels" in cells[0].why


def test_a_variant_lies_over_production_and_writes_beside_it(res):
    """What production has and the variant would make otherwise is missing there, whatever the mode says of stale ones."""
    made(res, INGEST, VALIDATE, SKETCH)
    daily = asked(override={"monitoring": {"block": "D"}})
    other = open_request(daily)
    assert other.title == f"tiny ({Variant(daily.override).name})"
    found = {c.verb: c.action for c in make_plan(daily, other).cells[FIRST]}
    assert (found["ingest"], found["validate"], found["sketch"]) == ("keep", "keep", "make")
    before = res.lake.path(Stage.SKETCHES, FIRST, "json").read_bytes()
    made(other, SKETCH)
    assert res.lake.path(Stage.SKETCHES, FIRST, "json").read_bytes() == before
    assert "variants" in str(other.lake.file(Stage.SKETCHES, FIRST))
    assert other.lake.file(Stage.RAW, FIRST) == res.lake.file(Stage.RAW, FIRST)


@pytest.mark.parametrize("override", [{"partition": {"every": "W"}}, {"expectations": []}], ids=["partitions", "rows"])
def test_a_variant_with_other_rows_stands_alone(res, override):
    """Else its partitions would be held against a reference that has come by other rules."""
    made(res, INGEST, VALIDATE)
    assert open_request(asked(override=override)).lake.keys(Stage.VALID) == []


def test_every_step_comes_after_the_steps_that_its_inputs_name(res):
    """The table that plans follow is held to the code."""
    order = [step.stage for step in ALL]
    assert set(PREREQUISITES) == set(order)
    assert all(
        order.index(before) < order.index(stage) for stage, all_before in PREREQUISITES.items() for before in all_before
    )
    made(res, *INDEPENDENT)
    named = {step.stage: set(step.inputs(res.ref(FIRST), res)) & set(order) for step in INDEPENDENT}
    assert all(named[stage] <= set(PREREQUISITES[stage]) for stage in named)


def test_the_world_of_a_plan_is_the_same_twice(res):
    plan = make_plan(asked(), res)
    then = world(res, last_moment(plan, res))
    assert list(changes(plan, then, make_plan(asked(), res), res)) == []
    assert pd.Series(then).str.len().eq(64).all()


def test_a_plan_for_everything_again_goes_on_after_a_kill(res):
    """What was missing and is made counts as made again then; what had been made since another source is a change."""
    plan = make_plan(asked("all"), res)
    save_plan(plan, res)
    made(res, INGEST)
    require_plan(plan.digest, make_plan(asked("all"), res), res)
    parcels(9).to_parquet(day_file(res.settings.configs.parent, 4), index=False)
    made(res, INGEST)
    with pytest.raises(PlanChanged, match=f"{FIRST} ingest would be made from other data"):
        require_plan(plan.digest, make_plan(asked("all"), res), res)


def test_failed_also_takes_up_what_was_not_reached_after_the_failure(res):
    made(res, INGEST, VALIDATE)
    res.lake.write_failure(res.ref(FIRST), Stage.SKETCHES, MemoryError("no room"))
    made(res, INGEST, key=SECOND)
    assert actions("failed", res)["sketch"] == "make"
    assert actions("failed", res)["collect"] == "make"
    assert set(actions("failed", res, SECOND).values()) <= {"keep", "leave", "wait"}, "nothing failed there"
