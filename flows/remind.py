"""Send facts without a decision again, close retrainings whose run died, request another attempt of failed ones, report what is late.

    ledger ── facts without a decision, failed retrainings, undelivered rows ──> events
    clock ─── a partition that has not come in time, a champion that is too old ──> facts ──> events

Started by its schedule, so that facts recorded while the server was down are delivered when it runs again:

    prefect deployment run remind/all
"""

from prefect import flow, get_run_logger, runtime
from prefect.states import Completed, Failed, State

from configs.load import model_names
from tasks.contracts import Fact
from tasks.errors import EvergreenError
from tasks.lifecycle.outbox import deliver
from tasks.lifecycle.overdue import report_overdue
from tasks.lifecycle.retraining import follow_up
from tasks.reports.artifacts import publish_model
from tasks.resources import open_resources


@flow(name="remind")
def remind() -> State:
    """Send the facts of every model again, and report what is late. An error of one model does not stop the others."""
    sent, overdue, failed = 0, list[Fact](), []
    for name in model_names():
        try:
            res = open_resources(name, runtime.flow_run.get_id() or "")
            deliver(res)
            sent += len(follow_up(res))
            overdue += report_overdue(res)
            publish_model(res)
        except (EvergreenError, ValueError) as error:
            get_run_logger().error("%s: %s", name, error)
            failed.append(name)
    line = (
        f"Sent again: {sent} fact{'s' if sent > 1 else ''} without a decision."
        if sent
        else "No fact had to be sent again."
    )
    line += "".join(f" {fact.model}: {fact.payload['told']}." for fact in overdue)
    return Failed(message=f"{line} Failed for {', '.join(failed)}; see the log.") if failed else Completed(message=line)
