"""Run the gate in a flow: judge a challenger, and then its refit."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from tasks.contracts import Comparison, GateDecision, Promotion, Query, Training, Verdict, Version, Window
from tasks.ledger.history import count_tests
from tasks.lifecycle.gate import judge, judge_refit
from tasks.models.features import predict
from tasks.orchestration.prefect_tasks import as_task, run_log
from tasks.resources import Resources
from tasks.training.evaluation import judged_rows, mean_move, query
from tasks.training.fit import refit_on_window
from tasks.training.window import learning_inputs


def log_verdicts(verdicts: Iterable[Verdict]) -> None:
    """Leave every rule's numbers in the run log."""
    for found in verdicts:
        run_log().info("%s", found)


@as_task("judge v{comparison.challenger.version}")
def judge_challenger(comparison: Comparison, champion: Promotion | None, res: Resources) -> GateDecision:
    """Run the gate, and leave every rule's numbers in the run log."""
    decision = judge(comparison, res.config, count_tests(champion, res.ledger.promotions()))
    log_verdicts(decision.verdicts)
    return decision


def refit_and_check(training: Training, res: Resources) -> Training:
    """What passed is fitted once more on window and holdout, and the refit judged in its turn."""
    judged = training.challenger
    if judged is None or not training.decision.passed:
        return training
    if res.config.training.refit == "none":
        return replace(training, final=judged)
    final = refit_on_window(judged, training.window, res)
    training = replace(training, final=final)
    return replace(training, decision=check_refit(training, res))


@as_task("check v{training.final.version}, the refit")
def check_refit(training: Training, res: Resources) -> GateDecision:
    """Load and query the refit, hold it to the budgets, and see how far its predictions have moved on the holdout."""
    judged, final, comparison = training.challenger, training.final, training.comparison
    assert judged
    assert final
    assert comparison
    asked, moved = res.once(
        tuple[Query, float],
        lambda: ["refit", judged.version, final.version, str(comparison.start), *learning_inputs(training.window, res)],
        lambda: _query_refit(judged, final, training.window, comparison.start, res),
    )
    decision = judge_refit(asked, moved, training.decision, final.version, res.config)
    log_verdicts(decision.verdicts[len(training.decision.verdicts) :])
    return decision


def _query_refit(
    judged: Version, final: Version, window: Window, start: datetime, res: Resources
) -> tuple[Query, float]:
    _, rows = judged_rows(window, start, res)
    said = predict(res.load(final.version), rows, res.config)
    return query(final, rows, said, res), mean_move(judged, final, rows, res)
