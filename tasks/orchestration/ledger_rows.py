"""Append a row about a version to the ledger, in the name of the automation or of a person."""

from datetime import datetime
from typing import Any, Literal

from prefect.settings import get_current_settings

from tasks.contracts import AUTOMATION, Action, Promotion, Version
from tasks.orchestration.prefect_tasks import run_log
from tasks.resources import Resources


def assurance(by: str) -> Literal["automation", "asserted", "authenticated"]:
    """Return how far the name `by` was verified. With a self-hosted Prefect server, `authenticated` means its shared password."""
    if by == AUTOMATION:
        return "automation"
    api = get_current_settings().api
    return "authenticated" if api.key or api.auth_string else "asserted"


def append_row(
    action: Action,
    version: Version,
    champion: Promotion | None,
    as_of: datetime,
    reason: str,
    evidence: dict[str, Any],
    res: Resources,
    by: str = AUTOMATION,
) -> Promotion:
    """Append one row about a version to the ledger, decided against `champion`. Returns the row as it was written."""
    row = Promotion(
        model=version.model,
        sequence=0,
        action=action,
        version=version.version,
        previous=champion.version if champion else None,
        against=champion.sequence if champion else 0,
        as_of=as_of,
        window_end=version.window_end,
        by=by,
        assurance=assurance(by),
        reason=reason,
        evidence=evidence | {"digest": version.digest},
        run_id=version.run_id,
        flow_run=res.flow_run,
    )
    written = res.ledger.append(row)
    about = {"model": written.model, "version": written.version}
    run_log().info("row %d: version %s, %s: %s", written.sequence, written.version, written.action, reason, extra=about)
    return written
