"""Train a registered version again from its record, and report whether the same model comes out.

    version ── its config, rows, recipe ──> fit again ──> same digest? same prediction bytes? what has changed since?

Started by hand:

    prefect deployment run reproduce/manual -p model=flights -p version=3
"""

from prefect import flow, runtime
from prefect.states import Completed, Failed, State

from configs.choices import ModelName, VersionNumber
from tasks.orchestration.run_names import name_by_version
from tasks.reports.artifacts import publish_reproduction
from tasks.resources import open_resources
from tasks.training.reproduction import reproduce_version


@flow(name="reproduce", flow_run_name=name_by_version)
def reproduce(
    model: ModelName,
    version: VersionNumber | None = None,
) -> State:
    """Fit a version's recipe on the rows of its record, with its config; nothing is registered or changed.

    Args:
        model: Name of the model; a folder in `configs/`.
        version: Number of a registered version; by default the champion.

    Raises:
        UnknownVersion: MLflow no longer has the version or its record.
        NotReproducible: rows that it learned from are gone.
    """
    res = open_resources(model, runtime.flow_run.get_id() or "")
    number = version or res.champion().version
    found = reproduce_version(res.registry.version(number), res)
    line = publish_reproduction(res, found)
    return Completed(message=line) if found.same else Failed(message=line)
