"""Outbox: update MLflow's aliases and tags, and emit events, for the ledger rows that are not yet delivered.

The ledger is the source of truth. If a process dies before it has delivered a row, the next `process`, `assess`, `train`,
`promote`, `rollback` or `remind` delivers it. Every part is idempotent.

MLflow's tags are also what proves that the ledger was not changed. So those that exist are compared before any is written.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress

from tasks.contracts import Fact, Promotion
from tasks.drift.workspace import project_id
from tasks.errors import ForgedLedger, RegistryUnavailable, UnknownVersion
from tasks.ledger.chain import Entry, broken_links, differing_anchors, differing_marks, unknown_marks
from tasks.lifecycle.facts import alias_fact
from tasks.orchestration.events import emit, emit_change, flush
from tasks.orchestration.prefect_tasks import run_log
from tasks.registry.descriptions import model_description
from tasks.resources import LiveResources, Resources


def deliver(res: Resources) -> list[Promotion]:
    """Deliver the undelivered rows and return them. If MLflow or Prefect does not respond, nothing is returned and a later run retries.

    Also writes the newest hash of the ledger's chain into MLflow.

    Raises:
        ForgedLedger: the ledger differs from what MLflow has of it. Nothing was written.
    """
    if not isinstance(res, LiveResources):
        return []
    log, rows = run_log(), res.ledger.undelivered()
    try:
        if rows:
            _refuse_forged(*res.registry.read_copies(), res)
            _update_aliases(rows, res)
            for row in rows:
                _tag_version(row, res)
            res.registry.sync_stages(res.ledger)
            with suppress(UnknownVersion):  # MLflow does not have the model: `_update_aliases` has logged it
                res.registry.describe_model(_description(res))
        anchor_chain(res)
    except RegistryUnavailable as error:
        if rows:
            log.warning("the ledger has changed, but MLflow was not updated; the next run tries again: %s", error)
        return []
    for row in rows:
        emit_change(row, res)
    if rows and not flush():
        log.warning("the events of %d ledger rows may not have arrived; the next run sends them again", len(rows))
        return []
    for row in rows:
        res.ledger.mark_delivered(row.sequence)
    return rows


def anchor_chain(res: LiveResources) -> None:
    """Write the newest hash of the ledger's chain onto the newest version that MLflow has, where the database's user cannot write.

    All that MLflow has is compared before. If it has something about a version that the ledger does not know, nothing is written.

    Raises:
        ForgedLedger: the ledger differs from what MLflow has of it.
        RegistryUnavailable: MLflow does not respond.
    """
    newest, head = res.ledger.newest(), res.ledger.chain_head()
    if newest is None or head is None or res.registry.anchored == (newest.version, head.hash):
        return
    anchor = res.registry.read_anchor(newest.version)
    if anchor and anchor[0] >= head.number:  # another process may have written a newer one
        _raise_forged(differing_anchors(res.ledger.chain(anchor[0]), {newest.version: anchor}), res)
    else:
        _write_anchor(head, res)
    res.registry.anchored = (newest.version, head.hash)


def _write_anchor(head: Entry, res: LiveResources) -> None:
    marks, anchors = res.registry.read_copies()
    unknown = _refuse_forged(marks, anchors, res)
    version = next((row.version for row in reversed(res.ledger.promotions()) if row.version in marks), None)
    if unknown or version is None:
        reason = "; ".join(unknown) or "it has none of the ledger's versions"
        run_log().warning("the newest hash of the ledger is not recorded in MLflow, see `make audit`: %s", reason)
    elif version not in anchors or anchors[version][0] < head.number:
        with suppress(UnknownVersion):  # deleted in the meantime
            res.registry.write_anchor(version, head.number, head.hash)


def _refuse_forged(
    marks: Mapping[str, Mapping[int, str]], anchors: Mapping[str, tuple[int, str]], res: LiveResources
) -> list[str]:
    """Compare the ledger with what MLflow had of it a moment ago. Rows are in the ledger before they are in MLflow.

    Returns:
        What MLflow has about versions that the ledger does not know. They may be of another ledger, or their rows were deleted.

    Raises:
        ForgedLedger: they differ about a version that the ledger knows.
    """
    last_delivered, undelivered = res.ledger.last_delivered(), {row.sequence for row in res.ledger.undelivered()}
    rows, entries = res.ledger.promotions(), res.ledger.chain()
    compared = [row for row in rows if row.sequence in undelivered or row.sequence in marks.get(row.version, ())]
    own = {row.version for row in rows}
    problems = broken_links(rows) + differing_marks(compared, marks, undelivered, last_delivered)
    problems += unknown_marks(rows, {version: of for version, of in marks.items() if version in own})
    problems += differing_anchors(entries, {version: of for version, of in anchors.items() if version in own})
    _raise_forged(problems, res)
    return unknown_marks(rows, marks) + differing_anchors(entries, anchors)


def _raise_forged(problems: Sequence[str], res: LiveResources) -> None:
    if problems:
        name = res.config.name
        raise ForgedLedger(
            f"{name}: the ledger differs from what MLflow has of it: {'; '.join(problems)}. Nothing was written. Run `make audit "
            f"MODEL={name}` and find out who changed it. Then restore ledger and MLflow from the same backup"
        )


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
        res.registry.log_judged(row, res.config.target.eval_loss)
    except UnknownVersion as error:
        run_log().warning("row %d of the ledger cannot be recorded as a tag in MLflow: %s", row.sequence, error)


def _description(res: LiveResources) -> str:
    """Return the description of the registered model, with links to the pages about it."""
    settings, name = res.settings, res.config.name
    pages = {"Page of the model": f"{settings.pages_ui}/{name}.html"}
    pages["drift and performance in Evidently"] = f"{settings.evidently_ui}/projects/{project_id(name)}"
    links = ", ".join(f"[{text}]({url})" for text, url in pages.items())
    return model_description(res.config.description, res.ledger.champion(), f"{links}.")


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
        emit(fact, res.ledger.chained("fact", fact.id))
        run_log().warning(
            "alias `champion` of %s points to version %s, but the ledger's champion is version %s, which stays in force; "
            "run `promote` with action `adopt` to judge and promote the other version, or `restore` to reset the alias",
            champion.model, alias or "none", champion.version,
        )  # fmt: skip
    return fact
