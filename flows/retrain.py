"""Ask the policy about a fact, write its decision down, and train if it says so.

    fact ─event, automation→ policy (signals, cool-down, budget, in flight, anything new?) → decision ─ retrain → train → outcome
    person ─→ fact ───────────┘                                                                └ decline

Started by the automation on `evergreen.drift.detected`, `evergreen.performance.degraded` and `evergreen.retraining.due`; by hand:

    prefect deployment run retrain/flights -p by=ann -p reason="new routes from June on"
"""

from datetime import datetime

from prefect import flow, runtime
from prefect.states import Completed, State

from configs.choices import ModelName
from flows.train import train
from tasks.lifecycle.retraining import close, closing, decide_retraining, record_manual_request
from tasks.orchestration.run_names import name_by_fact
from tasks.reports.artifacts import publish_decision, publish_model
from tasks.resources import open_resources


@flow(name="retrain", flow_run_name=name_by_fact)
def retrain(
    model: ModelName,
    partition: str | None = None,
    fact: str | None = None,
    as_of: datetime | None = None,
    by: str = "somebody",
    reason: str = "by hand",
) -> State:
    """Decide about one fact. A fact that has its decision keeps it, and nothing is trained twice.

    Args:
        model: Name of the model; a folder in `configs/`.
        partition: The partition that the fact is about, for the run's name.
        fact: Id of the fact to decide about; `make status` lists them. Without it, it is you who asks.
        as_of: The moment to train as of, where you ask; a fact has its own.
        by: Who asks. A name that is not checked, unless the server asks for authentication.
        reason: Why you ask; it stands with the decision.

    Raises:
        UnknownFact: the ledger has no such fact.
    """
    res = open_resources(model, runtime.flow_run.get_id() or "")
    decision = decide_retraining(fact or record_manual_request(by, reason, as_of, res).id, res)
    if decision.action == "retrain" and not decision.outcome and decision.flow_run == res.flow_run:
        with closing(decision, res.ledger) as clock:
            training = train(model, as_of=decision.as_of, reason=f"{decision.rule}: {decision.reason}")
        decision = close(decision, training, clock.seconds, res.ledger)
    line = publish_decision(res, decision, partition or "by hand")
    publish_model(res)
    return Completed(message=line)
