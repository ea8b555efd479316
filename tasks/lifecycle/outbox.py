"""Outbox: update MLflow's aliases and tags, and emit events, for the ledger rows that are not yet delivered.

The ledger is the source of truth. If a process dies before it has delivered a row, the next `process`, `assess`, `train`,
`promote`, `rollback` or `remind` delivers it. Every part is idempotent.
"""

from collections.abc import Sequence

from tasks.contracts import Fact, Promotion
from tasks.errors import RegistryUnavailable, UnknownVersion
from tasks.lifecycle.facts import alias_fact
from tasks.orchestration.events import emit, emit_change, flush
from tasks.orchestration.prefect_tasks import run_log
from tasks.resources import LiveResources, Resources


def deliver(res: Resources) -> list[Promotion]:
    """Deliver the undelivered rows and return them. If MLflow or Prefect does not respond, nothing is returned and a later run retries."""
    if not isinstance(res, LiveResources) or not (rows := res.ledger.undelivered()):
        return []
    log = run_log()
    try:
        _update_aliases(rows, res)
        for row in rows:
            _tag_version(row, res)
        res.registry.sync_stages(res.ledger)
    except RegistryUnavailable as error:
        log.warning("the ledger has changed, but MLflow was not updated; the next run tries again: %s", error)
        return []
    for row in rows:
        emit_change(row, res)
    if not flush():
        log.warning("the events of %d ledger rows may not have arrived; the next run sends them again", len(rows))
        return []
    for row in rows:
        res.ledger.mark_delivered(row.sequence)
    return rows


def _update_aliases(rows: Sequence[Promotion], res: LiveResources) -> None:
    """Set the aliases to the ledger's versions. A champion alias that somebody moved stays, unless a row makes a champion."""
    try:
        res.registry.sync_aliases(res.ledger, champion=any(row.to_stage == "champion" for row in rows))
    except UnknownVersion as error:
        run_log().error(
            "the alias cannot be set to the ledger's champion: %s. `rollback` to a version that exists.", error
        )


def _tag_version(row: Promotion, res: LiveResources) -> None:
    try:
        res.registry.write_ledger_tags(row)
    except UnknownVersion as error:
        run_log().warning("row %d of the ledger cannot be recorded as a tag in MLflow: %s", row.sequence, error)


def check_alias(res: LiveResources) -> Fact | None:
    """Record and emit a fact if somebody has moved the champion alias in MLflow. The ledger's champion stays in force.

    Returns:
        The fact, new or not. None if alias and ledger agree or if MLflow does not respond.
    """
    champion = res.ledger.champion()
    if champion is None or res.ledger.undelivered():
        return None
    try:
        alias = res.registry.alias()
    except RegistryUnavailable:
        return None
    if alias == champion.version:
        return None
    fact = alias_fact(champion, alias, res)
    if res.ledger.record_fact(fact):
        emit(fact)
        run_log().warning(
            "alias `champion` of %s points to version %s, but the ledger's champion is version %s, which stays in force; "
            "run `promote` with action `adopt` to judge and promote the other version, or `restore` to reset the alias",
            champion.model, alias or "none", champion.version,
        )  # fmt: skip
    return fact
