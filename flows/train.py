"""Train a challenger on the latest window, and let the gate decide about it.

    ledger rows not delivered yet ─> MLflow, events
    window ─ train and judge ─> training ─┬─> refused
                                          └─> challenger ─> champion
                                  training ─> model card, artifacts

Started as a subflow of `retrain`, or by hand:

    prefect deployment run train/flights -p as_of=2013-04-02T00:00:00-04:00
"""

from datetime import datetime

from prefect import flow, runtime

from configs.choices import ModelName
from tasks.contracts import Training
from tasks.lifecycle.outbox import deliver
from tasks.lifecycle.train_and_judge import train_and_judge
from tasks.orchestration.run_names import name_by_moment
from tasks.reports.artifacts import publish_training
from tasks.reports.card.page import publish_card
from tasks.resources import open_resources


@flow(name="train", flow_run_name=name_by_moment)
def train(
    model: ModelName,
    as_of: datetime | None = None,
    reason: str = "by hand",
) -> Training:
    """Train on everything matured as of `as_of`. What passes the gate becomes challenger, and champion as model.yaml says.

    The newest `holdout` of the window is never fitted on before the gate has judged; what
    passes is refitted on the whole window, so that freshness is not paid for with
    ignorance of the last weeks.

    Args:
        model: Name of the model; a folder in `configs/`.
        as_of: The moment to train as of; by default the newest partition's.
        reason: Why; it stands in the ledger.

    Raises:
        MissingPartition: a partition of the window was never validated; run `backfill`.
        NotEnoughData: the window is too short, or lacks a class.
    """
    res = open_resources(model, runtime.flow_run.get_id() or "")
    deliver(res)
    training = train_and_judge(as_of, reason, res)
    if training.challenger:
        publish_card(training, res)
    return publish_training(res, training)
