"""Prefect tasks that run the gate on a challenger and on its refit."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from tasks.contracts import Comparison, GateDecision, Query, Training, Verdict, Version, Window
from tasks.ledger.history import last_move
from tasks.lifecycle.gate import MOVE, judge, judge_refit, waived
from tasks.lifecycle.repeated_tests import pool_tests
from tasks.models.features import predict
from tasks.orchestration.prefect_tasks import as_task, run_log
from tasks.resources import Resources
from tasks.training.evaluation import evaluation_rows, mean_prediction_change, query
from tasks.training.fit import refit_on_window
from tasks.training.reference import Reference
from tasks.training.window import training_inputs


def log_verdicts(verdicts: Iterable[Verdict]) -> None:
    """Write each verdict to the run log."""
    for verdict in verdicts:
        run_log().info("%s", verdict)


@as_task("judge v{comparison.challenger.version}")
def judge_challenger(
    comparison: Comparison, reference: Reference | None, as_of: datetime, res: Resources
) -> tuple[GateDecision, Comparison]:
    """Return the gate's decision on a challenger, and the comparison with the evidence of earlier tests. Log the verdicts."""
    if comparison.change:
        comparison = pool_tests(comparison, res.ledger.promotions(), res.config, as_of)
    decision = judge(comparison, res.config, reference.champion.version if reference else None)
    log_verdicts(decision.verdicts)
    return decision if res.gated or reference is None else waived(decision), comparison


def refit_and_check(training: Training, res: Resources) -> Training:
    """Refit a challenger that passed on window and holdout, and judge the refit. Returns the training with `final` set."""
    judged = training.challenger
    if judged is None or not training.decision.passed:
        return training
    if res.config.training.refit == "none":
        return replace(training, final=judged)
    final = refit_on_window(judged, training.window, res)
    training = replace(training, final=final)
    return replace(training, decision=check_refit(training, res))


@as_task("check refit v{training.final.version}")
def check_refit(training: Training, res: Resources) -> GateDecision:
    """Return the gate's decision with the verdicts on the refit: smoke test, budgets, change of predictions on the holdout."""
    judged, final, comparison = training.challenger, training.final, training.comparison
    assert judged
    assert final
    assert comparison
    result, moved = res.cache.result(
        tuple[Query, float],
        lambda: ["refit", judged.version, final.version, str(comparison.start), *training_inputs(training.window, res)],
        lambda: _query_refit(judged, final, training.window, comparison.start, res),
    )
    last = last_move(res.ledger.promotions(), MOVE)
    decision = judge_refit(result, moved, training.decision, final.version, res.config, last)
    log_verdicts(decision.verdicts[len(training.decision.verdicts) :])
    return decision if res.gated or training.decision.against is None else waived(decision)


def _query_refit(
    judged: Version, final: Version, window: Window, start: datetime, res: Resources
) -> tuple[Query, float]:
    _, rows = evaluation_rows(window, start, res)
    predictions = predict(res.load(final.version), rows, res.config)
    return query(final, rows, predictions, res), mean_prediction_change(judged, final, rows, res)
