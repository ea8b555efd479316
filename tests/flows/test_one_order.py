"""Production and a replay use the same functions for a partition and for a training. No order is written twice."""

import ast
from pathlib import Path

import pytest

from configs.settings import ROOT

SHARED = {
    "flows/train.py": {"train_and_judge"},
    "flows/process.py": {"process_partition"},
    "flows/assess.py": {"assess_partition", "follow_outcomes"},
}
SIMULATION = "tasks/replay/simulate.py"
INSIDE = {
    "select_candidate", "fit_challenger", "choose_reference", "judge_fitted", "refresh_instead", "compare_versions",
    "judge_challenger", "refit_and_check", "apply_gate_decision",
    "advance_challenger", "run_partition", "run_steps", "advance", "judge_promotions", "emit_due_fact",
}  # fmt: skip
"""The functions whose order the shared functions define."""


def called(path: str) -> set[str]:
    """The names of functions that a file calls."""
    tree = ast.parse((ROOT / path).read_text())
    return {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}


@pytest.mark.parametrize("flow", SHARED)
def test_a_flow_and_the_replay_call_the_same_functions_and_nothing_inside_them(flow: str) -> None:
    for caller in (flow, SIMULATION):
        assert SHARED[flow] <= called(caller)
        assert not INSIDE & called(caller)


def test_the_flows_and_the_replay_import_the_same_objects() -> None:
    from flows import assess, process, train
    from tasks.replay import simulate

    for module, names in (
        (train, SHARED["flows/train.py"]),
        (process, SHARED["flows/process.py"]),
        (assess, SHARED["flows/assess.py"]),
    ):
        for name in names:
            assert getattr(module, name) is getattr(simulate, name)


def test_the_shared_functions_call_all_the_others() -> None:
    shared = ("tasks/lifecycle/train_and_judge.py", "tasks/lifecycle/partitions.py")
    below = {"run_steps", "advance"}  # called one level below, for the steps
    assert INSIDE - below <= set().union(*(called(path) for path in shared))
    assert all(Path(ROOT / path).is_file() for path in shared)
