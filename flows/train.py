"""Train a challenger on the latest window, and let the gate decide about it.

    window ── fit ──> challenger ─┐
       └── holdout ───────────────┼──> comparison ──> gate ──> refit ──> promotion
                      champion ───┘

Started as a subflow of `retrain`, or by hand:

    prefect deployment run train/flights -p as_of=2013-04-02T00:00:00-04:00
"""

from datetime import datetime

from prefect import flow, runtime

from configs.choices import ModelName
from tasks.artifacts import publish_training
from tasks.contracts import Training
from tasks.evaluation import compare_versions
from tasks.names import name_by_moment
from tasks.promotion import judge_challenger, promote_version
from tasks.resources import open_resources
from tasks.training import fit_challenger, refit_on_window
from tasks.walk import collect_window
from tasks.window import locate_window


@flow(name="train", flow_run_name=name_by_moment)
def train(
    model: ModelName,
    as_of: datetime | None = None,
    reason: str = "by hand",
) -> Training:
    """Train on everything matured as of `as_of`; the first version that passes becomes champion too.

    The newest `holdout` of the window is never fitted on before the gate has judged; what
    passes is refitted on the whole window, so that freshness is not paid for with
    ignorance of the last weeks.

    Args:
        model: Name of the model; a folder in `configs/`.
        as_of: The moment to train as of; by default the newest partition's.
        reason: Why; it stands in the ledger.

    Raises:
        MissingPartition: a partition of the window was never validated; run `backfill`.
        NotEnoughData: the window is too short, or has one class only.
    """
    res = open_resources(model, runtime.flow_run.get_id() or "")
    res.registry.follow(res.ledger)

    window = collect_window(locate_window(res, as_of), res)
    champion = res.ledger.champion()
    challenger = fit_challenger(window, res)
    comparison = compare_versions(challenger, champion, window, res)
    decision = judge_challenger(comparison, challenger, res)

    promotion = None
    if decision.passed:
        final = refit_on_window(challenger, window, res)
        promotion = promote_version(final, decision, comparison, champion, window.as_of, reason, res)
    training = Training(window, challenger, decision, promotion)
    publish_training(res, training)
    return training
