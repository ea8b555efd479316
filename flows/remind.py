"""Forget nothing: send facts again that nobody has decided about, and take up what a killed run left.

    ledger ── facts without a decision, failed retrainings, rows that nobody was told of ──> events

Started by its schedule, so that what was found while the server was down is taken up once it is back:

    prefect deployment run remind/all
"""

from prefect import flow, get_run_logger, runtime
from prefect.states import Completed, Failed, State

from configs.load import model_names
from tasks.errors import EvergreenError
from tasks.lifecycle.outbox import deliver
from tasks.lifecycle.retraining import follow_up
from tasks.reports.artifacts import publish_model
from tasks.resources import open_resources


@flow(name="remind")
def remind() -> State:
    """Go through every model. One model's trouble does not hold up the others."""
    sent, trouble = 0, []
    for name in model_names():
        try:
            res = open_resources(name, runtime.flow_run.get_id() or "")
            deliver(res)
            sent += len(follow_up(res))
            publish_model(res)
        except (EvergreenError, ValueError) as error:
            get_run_logger().error("%s: %s", name, error)
            trouble.append(name)
    line = f"{sent} facts waited for a decision and were sent again." if sent else "Nothing waits."
    return (
        Failed(message=f"{line} Trouble with {', '.join(trouble)}; see the log.")
        if trouble
        else Completed(message=line)
    )
