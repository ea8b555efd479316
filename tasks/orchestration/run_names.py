"""Names of flow runs, from their parameters."""

from datetime import UTC, datetime

from prefect import runtime


def name_by_partition() -> str:
    """Return `flights 2013-05`, or `flights: all due partitions`."""
    parameters = runtime.flow_run.parameters
    return (
        f"{parameters['model']} {parameters['partition']}"
        if parameters.get("partition")
        else f"{parameters['model']}: all due partitions"
    )


def name_by_moment() -> str:
    """Return `flights as of 2013-05-02: drift in 2013-04 ...`."""
    parameters = runtime.flow_run.parameters
    moment = f"as of {str(parameters['as_of'])[:10]}" if parameters.get("as_of") else "as of the newest partition"
    return f"{parameters['model']} {moment}: {parameters['reason']}"


def name_by_version() -> str:
    """Return `flights v3`, or `flights champion`."""
    parameters = runtime.flow_run.parameters
    return f"{parameters['model']} " + (f"v{parameters['version']}" if parameters.get("version") else "champion")


def name_by_time() -> str:
    """Return `flights at 2013-06-15`. Without a moment, the date is that of the run."""
    parameters = runtime.flow_run.parameters
    return f"{parameters['model']} at {str(parameters.get('at') or datetime.now(UTC))[:10]}"


def name_by_fact() -> str:
    """Return `flights after 2013-05`, or `flights: requested by ann`."""
    parameters = runtime.flow_run.parameters
    return (
        f"{parameters['model']} after {parameters['partition']}"
        if parameters.get("fact")
        else f"{parameters['model']}: requested by {parameters['by']}"
    )


def name_by_range() -> str:
    """Return `flights 2013-01 to 2013-03`, `... (dry run)`, `flights plan 1f0c2a9b77de`, or `flights: verify all partitions`."""
    parameters = runtime.flow_run.parameters
    if parameters.get("plan") and not parameters.get("start"):
        return f"{parameters['model']} plan {parameters['plan']}"
    text = f"{parameters['model']} {parameters['start']} to {parameters['end']}"
    if not parameters.get("start") and not parameters.get("end"):
        text = f"{parameters['model']}: {parameters.get('mode')} all partitions"
    return text + (" (dry run)" if parameters.get("dry_run") else "")


def page_key(model: str, page: str) -> str:
    """Return the key of a model's artifact. Prefect allows lower-case letters, digits and dashes."""
    return f"{model}-{page}".replace("_", "-")
