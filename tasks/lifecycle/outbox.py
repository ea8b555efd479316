"""Make the world outside follow the ledger: aliases, marks on MLflow's versions and runs, events.

The ledger's row is the change; all of this only tells of it. A process that dies in between
leaves the row undelivered, and the next `process`, `assess`, `train`, `promote`, `rollback` or `remind`
delivers it: each part may be done twice.
"""

from collections.abc import Sequence

from tasks.contracts import Fact, Promotion
from tasks.errors import RegistryUnavailable, UnknownVersion
from tasks.lifecycle.facts import alias_fact
from tasks.orchestration.events import emit, emit_change, flush
from tasks.orchestration.prefect_tasks import is_simulation, run_log
from tasks.resources import Resources


def deliver(res: Resources) -> list[Promotion]:
    """Deliver every row that was not; returns those that now are. Never fails: what cannot be done now is done later."""
    rows = [] if is_simulation() else res.ledger.undelivered()
    if not rows:
        return []
    log = run_log()
    try:
        _follow(rows, res)
        for row in rows:
            _mark(row, res)
    except RegistryUnavailable as why:
        log.warning("the ledger has changed, but alias and MLflow follow only later: %s", why)
        return []
    for row in rows:
        emit_change(row, res)
    if not flush():
        log.warning("the events of %d ledger rows may not have arrived; they are sent again by the next run", len(rows))
        return []
    for row in rows:
        res.ledger.delivered(row.sequence)
    return rows


def _follow(rows: Sequence[Promotion], res: Resources) -> None:
    """Point the aliases where the rows lead. A champion's that somebody has moved stays for people to see while no row is about it."""
    try:
        res.registry.follow(res.ledger, champion=any(row.to_stage == "champion" for row in rows))
    except UnknownVersion as why:
        run_log().error("the alias cannot follow the ledger: %s. `rollback` to a version that is there.", why)


def _mark(row: Promotion, res: Resources) -> None:
    try:
        res.registry.mark(row)
    except UnknownVersion as why:
        run_log().warning("row %d of the ledger cannot be marked in MLflow: %s", row.sequence, why)


def watch_alias(res: Resources) -> Fact | None:
    """Tell, once, when somebody has moved the alias by hand; the ledger's champion goes on deciding.

    Returns the fact, whether it is new or not; None when alias and ledger agree or MLflow does not answer.
    """
    champion = res.ledger.champion()
    if champion is None or res.ledger.undelivered():
        return None
    try:
        found = res.registry.alias()
    except RegistryUnavailable:
        return None
    if found == champion.version:
        return None
    fact = alias_fact(champion, found, res)
    if res.ledger.record_fact(fact):
        emit(fact)
        run_log().warning(
            "alias `champion` of %s is at version %s, but the ledger's champion is version %s, which goes on deciding; "
            "run `promote` with action `adopt` to judge and take over the other, or `restore` to put the alias back",
            champion.model, found or "none", champion.version,
        )  # fmt: skip
    return fact
