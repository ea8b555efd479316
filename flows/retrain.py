"""Decide about a fact with the retraining policy, record the decision, and train if it is to retrain.

    fact ─event, automation→ policy (signals, cool-down, budget, in flight, new labels?) → decision ─ retrain → train → outcome
    person ─→ fact ───────────┘                                                                └ decline

Started by the automation on `evergreen.drift.detected`, `evergreen.performance.degraded` and `evergreen.retraining.due`; by hand:

    prefect deployment run retrain/flights -p by=ann -p reason="new routes from June on"
"""

from prefect import flow, runtime, tags
from prefect.states import State

from configs.choices import AsOf, FactId, ModelName, NonEmpty, PartitionKey, PersonName
from flows.train import train
from tasks.lifecycle.outbox import deliver
from tasks.lifecycle.retraining import decide_retraining, record_failure, record_manual_request, record_outcome
from tasks.orchestration.run_names import name_by_fact
from tasks.orchestration.run_tags import end_run, tag_failed_run
from tasks.orchestration.timeouts import seconds_of
from tasks.reports.artifacts import publish_decision, publish_model
from tasks.resources import open_resources


@flow(name="retrain", timeout_seconds=seconds_of("retrain"), flow_run_name=name_by_fact, on_failure=[tag_failed_run])
def retrain(
    model: ModelName,
    partition: PartitionKey | None = None,
    fact: FactId | None = None,
    as_of: AsOf | None = None,
    by: PersonName = "somebody",
    reason: NonEmpty = "by hand",
) -> State:
    """Decide about one fact. A fact that already has a decision keeps it and is not trained for again.

    Args:
        model: Name of the model; a folder in `configs/`.
        partition: The partition that the fact is about, for the run's name.
        fact: Id of the fact to decide about; `make status` lists them. Without it, this is a manual request.
        as_of: As-of time of the training, for a manual request. A fact has its own.
        by: Who requests it. The name is not checked, unless the server requires authentication.
        reason: Why, for a manual request. It is recorded with the decision.

    Raises:
        UnknownFact: The ledger has no such fact.
    """
    res = open_resources(model, runtime.flow_run.get_id() or "")
    decision = decide_retraining(fact or record_manual_request(by, reason, as_of, res).id, res)
    if decision.action == "retrain" and not decision.outcome and decision.flow_run == res.flow_run:
        with record_failure(decision, res.ledger) as clock, tags(decision.rule, *([partition] if partition else [])):
            training = train(model, as_of=decision.as_of, reason=f"{decision.rule}: {decision.reason}")
        decision = record_outcome(decision, training, clock.seconds, res.ledger)
    line, outcomes = publish_decision(res, decision, partition or "by hand")
    publish_model(res)
    deliver(res)
    return end_run(line, outcomes)
