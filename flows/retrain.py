"""Ask the policy about a fact, write its decision down, and train if it says so.

    fact ─event, automation→ policy (cool-down, in flight, anything new?) → decision ─ retrain → train → outcome
                                                                               └ decline

Started by the automation on `evergreen.drift.detected`; by hand for a fact that waits:

    prefect deployment run retrain/flights -p partition=2013-05 -p fact=<id>
"""

from datetime import datetime

from prefect import flow, runtime
from prefect.states import Completed, State

from configs.choices import ModelName
from flows.train import train
from tasks.artifacts import publish_decision
from tasks.policy import close, closing, decide_retraining
from tasks.resources import open_resources


@flow(name="retrain", flow_run_name="{model} after {partition}")
def retrain(
    model: ModelName,
    partition: str,
    fact: str,
    as_of: datetime | None = None,
) -> State:
    """Decide about one fact. A fact that has its decision keeps it, and nothing is trained twice.

    Args:
        model: Name of the model; a folder in `configs/`.
        partition: The partition that the fact is about.
        fact: Id of the fact to decide about; `make status` lists them.
        as_of: As the event says it; the fact's own moment decides.

    Raises:
        UnknownFact: the ledger has no such fact.
    """
    res = open_resources(model, runtime.flow_run.get_id() or "")
    decision = decide_retraining(fact, res)
    if decision.action == "retrain" and not decision.outcome and decision.flow_run == res.flow_run:
        with closing(decision, res.ledger):
            training = train(model, as_of=decision.as_of, reason=f"drift in {partition}: {decision.reason}")
        decision = close(decision, training, res.ledger)
    return Completed(message=publish_decision(res, decision, partition))
