"""Train a challenger on the latest window and compare it with the champion.

    undelivered ledger rows ─> MLflow, events
    window ─ train and judge ─> training ─┬─> refused by the gate
                                          └─> challenger ─> champion
                                  training ─> model card, artifacts

Started as a subflow of `retrain`, or by hand:

    prefect deployment run train/flights -p as_of=2013-04-02T00:00:00-04:00
    prefect deployment run train/manual -p models="store-*"
"""

from prefect import flow, runtime
from prefect.states import State

from configs.choices import AsOf, ModelSelection, NonEmpty, OptionalModelName
from tasks.lifecycle.outbox import deliver
from tasks.lifecycle.train_and_judge import train_and_judge
from tasks.orchestration.run_names import name_by_moment
from tasks.orchestration.run_tags import end_run, tag_failed_run
from tasks.orchestration.selection import one_model, run_each
from tasks.orchestration.timeouts import seconds_of
from tasks.reports.artifacts import publish_selection, publish_training
from tasks.reports.card.page import publish_card
from tasks.reports.card.unfitted import publish_unfitted
from tasks.reports.refusals import record_refusal, recording_failure
from tasks.resources import open_resources


@flow(name="train", timeout_seconds=seconds_of("train"), flow_run_name=name_by_moment, on_failure=[tag_failed_run])
def train(
    model: OptionalModelName = None,
    as_of: AsOf | None = None,
    reason: NonEmpty = "by hand",
    models: ModelSelection = "",
) -> State:
    """Train on all labels that have matured as of `as_of`. A version that passes the gate becomes challenger, then champion.

    The newest part of the window (`holdout`) is not used for fitting before the gate. A version that passes is refitted
    on the whole window, so that it also learns from the newest rows. `promotion` in model.yaml sets what a challenger
    needs to become champion.

    Args:
        model: Name of the model; a folder in `configs/`.
        as_of: As-of time of the training. By default, that of the newest partition.
        reason: Why. It is recorded in the ledger.
        models: Several models instead, by patterns such as store-* or store-a,store-b. Each gets a run of its own.

    Returns:
        The training, to a flow that calls this one.

    Raises:
        MissingPartition: A partition of the window was never validated. Run `backfill`.
        NotEnoughData: The window is too short, or has only one class.
    """
    if models:
        return end_run(*run_each(train, models, publish_selection))
    res = open_resources(one_model(model), runtime.flow_run.get_id() or "")
    deliver(res)
    with recording_failure(as_of, res):
        training = train_and_judge(as_of, reason, res)
    record_refusal(training, res)
    if training.challenger:
        publish_card(training, res)
    else:
        publish_unfitted(training, res)
    training, line, tags = publish_training(res, training)
    return end_run(line, tags, data=training)
