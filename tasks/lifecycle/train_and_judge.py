"""One training, from the window to the rows of the ledger. The flow and a replay call this same function.

window ─ splits ─> candidate ── fit ──> version ─┐
   └────── holdout ──────────────────────────────┼─> comparison ─> gate ─> refit ─> challenger ─> champion
                                     champion ───┘                 └─> refused
"""

from datetime import datetime

from tasks.contracts import Training
from tasks.lifecycle.gate import refuse_all_candidates
from tasks.lifecycle.gate_tasks import judge_challenger, refit_and_check
from tasks.lifecycle.promotion import advance_challenger, apply_gate_decision
from tasks.resources import Resources
from tasks.steps.run_tasks import collect_window
from tasks.training.evaluation import compare_versions
from tasks.training.fit import fit_challenger
from tasks.training.pinned import pin_window
from tasks.training.selection import select_candidate
from tasks.training.window import locate_window


def train_and_judge(as_of: datetime | None, reason: str, res: Resources) -> Training:
    """Train a challenger on the labels that have matured by `as_of`, judge it, and apply the gate's decision.

    Nothing is fitted on the holdout, the newest part of the window, before the gate has decided. A challenger that passes is
    refitted on the whole window, so that the promoted version is trained on the newest rows too.

    Args:
        as_of: Default: the as-of of the newest partition.
        reason: Recorded in the ledger.
        res: The model's resources.

    Returns:
        The training. Its `challenger` is None if no candidate beats the baselines. Then the ledger has no new row.

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
    comparison = compare_versions(challenger, champion, window, res)
    decision = judge_challenger(comparison, champion, res)
    training = refit_and_check(Training(window, selection, decision, challenger, comparison), res)
    apply_gate_decision(training, champion, reason, res)
    advance_challenger(res, window.as_of)
    return training
