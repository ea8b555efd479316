"""Names of flow runs that depend on which parameters were given."""

from prefect import runtime


def name_by_partition() -> str:
    """`flights 2013-05`, or `flights: all that is due`."""
    given = runtime.flow_run.parameters
    return f"{given['model']} {given['partition']}" if given.get("partition") else f"{given['model']}: all that is due"


def name_by_moment() -> str:
    """`flights as of 2013-05-02: drift in 2013-04 ...`."""
    given = runtime.flow_run.parameters
    moment = f"as of {str(given['as_of'])[:10]}" if given.get("as_of") else "as of the newest partition"
    return f"{given['model']} {moment}: {given['reason']}"


def name_by_version() -> str:
    """`flights v3`, or `flights champion`."""
    given = runtime.flow_run.parameters
    return f"{given['model']} " + (f"v{given['version']}" if given.get("version") else "champion")


def name_by_time() -> str:
    """`flights at 2013-06-15`, or `flights today`."""
    given = runtime.flow_run.parameters
    return f"{given['model']} " + (f"at {str(given['at'])[:10]}" if given.get("at") else "today")


def name_by_fact() -> str:
    """`flights after 2013-05`, or `flights: ann asks`."""
    given = runtime.flow_run.parameters
    return (
        f"{given['model']} after {given['partition']}" if given.get("fact") else f"{given['model']}: {given['by']} asks"
    )


def name_by_range() -> str:
    """`flights 2013-01 to 2013-03`, `... (dry run)`, or `flights plan 1f0c2a9b77de`."""
    given = runtime.flow_run.parameters
    if given.get("plan") and not given.get("start"):
        return f"{given['model']} plan {given['plan']}"
    return f"{given['model']} {given['start']} to {given['end']}" + (" (dry run)" if given.get("dry_run") else "")


def page_key(model: str, page: str) -> str:
    """Prefect allows lower case letters, digits and dashes in a key."""
    return f"{model}-{page}".replace("_", "-")
