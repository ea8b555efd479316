"""Take a range of past partitions through every step, doing only what is not fresh.

    2013-01 ─ ingest ─ validate ─ score ─ watch ─ collect ─ assess
    2013-02 ─ ...

Started by hand:

    prefect deployment run backfill/manual -p model=flights -p start=2013-01 -p end=2013-03
"""

from prefect import flow, runtime
from prefect.states import Completed, Failed, State

from configs.choices import ModelName
from tasks.artifacts import publish_backfill
from tasks.partitions import between
from tasks.resources import open_resources
from tasks.walk import ALL, walk_range


@flow(name="backfill", flow_run_name="{model} {start} to {end}")
def backfill(
    model: ModelName,
    start: str,
    end: str,
) -> State:
    """Bring a range up to date, oldest first. Blocked partitions are tried once more; one failure does not stop the rest.

    Drift found on the way is kept with its partition; the next `process` run tells of it, and the
    policy declines what a later training has overtaken.

    Args:
        model: Name of the model; a folder in `configs/`.
        start: First partition, such as 2013-01.
        end: Last partition, included.
    """
    res = open_resources(model, runtime.flow_run.get_id() or "")
    passages, failed = walk_range(list(between(res.config, start, end)), ALL, res)
    line = publish_backfill(res, passages, failed)
    return Failed(message=line) if failed or any(p.newly_blocked for p in passages) else Completed(message=line)
