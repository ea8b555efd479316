"""Start `process` of each model whose source has delivered something, and then `assess`.

    files of a source ─ listed, not read ─> digest ─ new? ─> run of process/<model> ─ ended ─> run of assess/<model>

Started by its schedule every few minutes, for the deployments with the tag `on-arrival`:

    prefect deployment run poll/all
"""

from datetime import UTC, datetime

from prefect import flow
from prefect.states import State

from tasks.contracts.words import counted
from tasks.orchestration.api import open_api
from tasks.orchestration.on_arrival import TAG, start_arrived
from tasks.orchestration.run_names import name_by_minute
from tasks.orchestration.run_tags import end_run, tag_failed_run
from tasks.orchestration.timeouts import seconds_of


@flow(name="poll", timeout_seconds=seconds_of("poll"), flow_run_name=name_by_minute, on_failure=[tag_failed_run])
def poll() -> State:
    """Start what has work. A source that cannot be read is reported, and does not stop the others."""
    with open_api() as post:
        started, unchanged, errors = start_arrived(post, datetime.now(UTC))
    line = (
        f"Started {', '.join(started)}."
        if started
        else f"Nothing has arrived for {counted(len(unchanged), 'deployment')} with the tag {TAG}."
    )
    return end_run(" ".join([line, *errors]), ["warning"] if errors else [])
