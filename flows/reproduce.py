"""Train a registered version again from its record, and report whether the result is the same model.

    version ── its config, rows, parameters ──> fit again ──> same digest? same prediction bytes? changed since?

Started by hand:

    prefect deployment run reproduce/manual -p model=flights -p version=3
"""

from prefect import flow, runtime
from prefect.states import State

from configs.choices import ModelName, VersionNumber
from tasks.orchestration.run_names import name_by_version
from tasks.orchestration.run_tags import end_run, tag_failed_run
from tasks.orchestration.timeouts import seconds_of
from tasks.reports.artifacts import publish_reproduction
from tasks.resources import open_resources
from tasks.training.reproduction import reproduce_version


@flow(
    name="reproduce",
    timeout_seconds=seconds_of("reproduce"),
    flow_run_name=name_by_version,
    on_failure=[tag_failed_run],
)
def reproduce(
    model: ModelName,
    version: VersionNumber | None = None,
) -> State:
    """Fit a version again on the rows of its record, with its config and parameters. Registers and changes nothing.

    Args:
        model: Name of the model; a folder in `configs/`.
        version: Number of a registered version. By default, the champion.

    Raises:
        UnknownVersion: MLflow no longer has the version or its record.
        NotReproducible: Rows of its training window no longer exist.
    """
    res = open_resources(model, runtime.flow_run.get_id() or "")
    number = version or res.champion().version
    result = reproduce_version(res.registry.version(number), res)
    return end_run(publish_reproduction(res, result), failed=not result.same)
