"""One training, from the window to the rows of the ledger. The flow and a replay call this same function.

window ─ splits ─> candidate ── fit ──> version ─┐
   └────── holdout ──────────────────────────────┼─> comparison ─> gate ─> refit ─> challenger ─> champion
                          champion ─> reference ─┘                 └─> refused ─> refresh of the champion
"""

from dataclasses import replace
from datetime import datetime

from tasks.contracts import Selection, Training, Version, Window
from tasks.lifecycle.gate import refuse_all_candidates
from tasks.lifecycle.gate_tasks import judge_challenger, refit_and_check
from tasks.lifecycle.promotion import advance_challenger, apply_gate_decision
from tasks.orchestration.ledger_rows import append_row
from tasks.orchestration.prefect_tasks import run_log
from tasks.resources import Resources
from tasks.steps.run_tasks import collect_window
from tasks.training.evaluation import compare_versions
from tasks.training.fit import fit_challenger
from tasks.training.pinned import pin_window
from tasks.training.reference import Reference, choose_reference, refresh_reference
from tasks.training.selection import select_candidate
from tasks.training.window import locate_window


def train_and_judge(as_of: datetime | None, reason: str, res: Resources) -> Training:
    """Train a challenger on the labels that have matured by `as_of`, judge it, and apply the gate's decision.

    Nothing is fitted on the holdout, the newest part of the window, before the gate has decided. A challenger that passes is
    refitted on the whole window, so that the promoted version is trained on the newest rows too. If the gate refuses another
    estimator, the champion's recipe, fitted on the same rows, is judged as a refresh.

    Args:
        as_of: Default: the as-of of the newest partition.
        reason: Recorded in the ledger.

    Returns:
        The training. Its `challenger` is None if nothing beats the prior. Then the ledger has no new row.

    Raises:
        MissingPartition: a partition of the window does not exist.
        NotEnoughData: the window is too short, or lacks a class.
    """
    window = collect_window(locate_window(res, as_of), res)
    champion, res = res.ledger.champion(), pin_window(window, res)
    selection = select_candidate(window, res)
    if selection.recipe is None:
        return Training(window, selection, refuse_all_candidates(selection, champion.version if champion else None))
    challenger = fit_challenger(selection, window, res)
    reference = choose_reference(challenger, champion, window, res)
    training = judge_fitted(challenger, reference, selection, window, reason, res)
    if reference and reference.refreshed:
        training = refresh_instead(training, reference, reason, res)
    advance_challenger(res, window.as_of)
    return training


def judge_fitted(
    challenger: Version, reference: Reference | None, selection: Selection, window: Window, reason: str, res: Resources
) -> Training:
    """Compare a fitted version with its reference, judge it, refit it if it passes, and record the decision."""
    comparison = compare_versions(challenger, reference, window, res)
    decision, comparison = judge_challenger(comparison, reference, window.as_of, res)
    training = refit_and_check(Training(window, selection, decision, challenger, comparison), res)
    champion = reference.champion if reference else None
    apply_gate_decision(training, champion, reason, res, bool(reference and reference.refreshed))
    return training


def refresh_instead(training: Training, reference: Reference, reason: str, res: Resources) -> Training:
    """Judge the champion's recipe as a refresh if the change was refused. Retire it if the change passed."""
    champion, window = reference.champion, training.window
    if training.decision.passed:
        retired = f"only compared with version {training.version}"
        append_row("retire", reference.version, champion, window.as_of, retired, {}, res)
        return training
    run_log().info("the change was refused; the champion's recipe on the same rows is judged as a refresh")
    assert training.challenger
    note = (
        f"{reason}; a change of {', '.join(reference.differences)}, version {training.challenger.version}, was refused"
    )
    refresh = judge_fitted(reference.version, refresh_reference(champion, res), training.selection, window, note, res)
    return replace(refresh, refused=training.decision)
