"""Send facts and outputs again, close retrainings whose run died, request another attempt, report what is late, cancel hung runs.

    ledger ── facts without a decision, failed retrainings, undelivered rows ──> events
    lake ──── outputs that a place of `publish` does not have ──> sent
    clock ─── a partition that has not come in time, a champion that is too old ──> facts ──> events
    clock ─── a run that has not stopped at its limit ──> cancelled, so that the worker kills its process

Started by its schedule, so that facts recorded while the server was down are delivered when it runs again:

    prefect deployment run remind/all
"""

import time
from contextlib import suppress
from datetime import UTC, datetime

from httpx import HTTPError
from prefect import flow, get_run_logger, runtime
from prefect.exceptions import PrefectException
from prefect.states import State

from configs.load import model_names
from tasks.contracts import Fact
from tasks.errors import EvergreenError
from tasks.lifecycle.outbox import deliver
from tasks.lifecycle.overdue import report_overdue
from tasks.lifecycle.retraining import follow_up
from tasks.lifecycle.sending import SECONDS, send_outputs
from tasks.orchestration.api import open_api
from tasks.orchestration.run_names import name_by_minute
from tasks.orchestration.run_tags import end_run, tag_failed_run
from tasks.orchestration.timeouts import cancel_hung, seconds_of
from tasks.reports.artifacts import publish_model
from tasks.resources import open_resources


@flow(name="remind", timeout_seconds=seconds_of("remind"), flow_run_name=name_by_minute, on_failure=[tag_failed_run])
def remind() -> State:
    """Send the facts and outputs of every model again, and report what is late. An error of one model does not stop the others."""
    sent, overdue, failed, hung, unsent = 0, list[Fact](), [], [], dict[str, str]()
    for name in model_names():
        try:
            res = open_resources(name, runtime.flow_run.get_id() or "")
            deliver(res)
            sent += len(follow_up(res))
            overdue += report_overdue(res)
            publish_model(res)
        except (EvergreenError, ValueError) as error:
            get_run_logger().error("%s: %s", name, error, extra={"model": name})
            failed.append(name)
    try:
        with open_api() as post:
            hung = cancel_hung(post, datetime.now(UTC))
    except (HTTPError, PrefectException) as error:
        get_run_logger().error("runs that hang could not be looked for: %s", error)
        failed.append("hung runs")
    deadline = time.monotonic() + SECONDS
    for name in model_names():  # at the end, since nothing else may wait for a sink
        with suppress(EvergreenError, ValueError):  # reported above
            res = open_resources(name, runtime.flow_run.get_id() or "")
            sending = send_outputs(res, deadline)
            unsent |= {name: sending.message} if sending.tags else {}
            publish_model(res) if sending.had_work else None
    line = (
        f"Sent again: {sent} fact{'s' if sent > 1 else ''} without a decision."
        if sent
        else "No fact had to be sent again."
    )
    line += "".join(f" {fact.model}: {fact.payload['told']}." for fact in overdue)
    line += "".join(f" {name}:{message}" for name, message in unsent.items())
    line += "".join(f" Stopped: {run}." for run in hung)
    line += f" Failed for {', '.join(failed)}; see the log." if failed else ""
    return end_run(line, ["warning"] if overdue or unsent else [], failed=bool(failed or hung))
