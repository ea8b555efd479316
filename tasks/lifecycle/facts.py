"""Facts derived from the records of a model's partitions. The same observation always has the same id."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from tasks.contracts import Decision, Fact, PartitionRef, Promotion, Record, Stage
from tasks.ledger.fact_ids import make_fact
from tasks.lifecycle.policy import days_text
from tasks.resources import Resources
from tasks.steps.decay import decay_at
from tasks.steps.step import done_record, scoring_moment


def process_facts(ref: PartitionRef, res: Resources) -> Iterator[Fact]:
    """Yield the facts of a processed partition: drift, and estimated decay."""
    ref = ref if ref.chosen else ref.at(scoring_moment(ref, res))
    if monitoring := done_record(Stage.MONITORING, ref, res):
        yield from drift_fact(ref, monitoring, res)
    if estimates := done_record(Stage.ESTIMATES, ref, res):
        yield from estimate_fact(ref, estimates, res)


def assess_facts(ref: PartitionRef, res: Resources) -> Iterator[Fact]:
    """Yield the facts of an assessed partition: realised decay, and drift of the outcomes."""
    if (assessed := done_record(Stage.PERFORMANCE, ref, res)) is None:
        return
    data, champion, as_of = assessed.data, assessed.data["version"], moment_of(ref, assessed)
    decay, target = decay_at(ref, Stage.PERFORMANCE, res), data["target"]
    if decay["detected"]:
        message = f"loss {decay['value']:.4f}, holdout loss at promotion {decay['expected']:.4f}"
        payload = {"told": message, "champion": champion, **decay, **report_links(assessed, res)}
        yield make_fact("decay", ref.model, ref.key, as_of, champion, payload)
    if target and target["drifted"] and res.config.retraining.signals.target:
        message = f"outcomes drifted, {target['method']} {target['score']:.3f}"
        payload = {"of": "outcomes", "told": message, "champion": champion, "signals": [target]}
        yield make_fact("drift", ref.model, ref.key, as_of, ["target", champion], payload | report_links(assessed, res))


def moment_of(ref: PartitionRef, record: Record) -> datetime:
    """Return the as-of of a fact from a record: the record's, but at most that of `ref`, the moment which the run is about.

    A record is later than that if labels were collected ahead, for example by `assess` for all partitions after a backfill.
    """
    return min(record.as_of, ref.as_of)


def drift_fact(ref: PartitionRef, record: Record, res: Resources) -> Iterator[Fact]:
    """Yield the fact of drift if a monitoring record has detected drift."""
    if not record.data["detected"]:
        return
    columns = [c for c in record.data["columns"] if c["drifted"]]
    names = list(dict.fromkeys(c["column"] for c in columns))
    payload = {
        "told": f"{len(names)} column{'s' if len(names) > 1 else ''} drifted, {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}",
        "champion": record.data["version"],
        "drift_share": record.data["share"],
        "threshold": record.data["threshold"],
        "signals": columns,
        "report": record.data["report"],
        **report_links(record, res),
    }
    inputs = {name: digest for name, digest in record.inputs.items() if name != "config"}
    signals = sorted([c["column"], c["method"]] for c in columns)
    yield make_fact("drift", ref.model, ref.key, moment_of(ref, record), [inputs, signals], payload)


def estimate_fact(ref: PartitionRef, record: Record, res: Resources) -> Iterator[Fact]:
    """Yield the fact of an estimated decay if `retraining.signals.estimate` is set. `not_trusted` has the reason to ignore it."""
    if (rules := res.config.retraining.signals.estimate) is None:
        return
    rise = decay_at(ref, Stage.ESTIMATES, res)
    if rise["detected"]:
        not_trusted = distrust_reason(ref, rise["rise"], rules.after, res)
        message = f"estimated loss {rise['value']:.4f}, holdout loss at promotion {rise['expected']:.4f}"
        payload = {"told": message, "champion": record.data["version"], "not_trusted": not_trusted, **rise}
        yield make_fact("estimate", ref.model, ref.key, moment_of(ref, record), record.data["version"], payload)


def distrust_reason(ref: PartitionRef, rise: float, after: int, res: Resources) -> str:
    """Return why an estimated rise of the loss is not trusted as of the partition's moment, empty if it is trusted.

    Args:
        ref: The partition.
        rise: The estimated rise of the loss.
        after: How many matured partitions the estimates must have been compared with.
        res: The model's resources.
    """
    errors = estimation_errors(ref, res)
    if len(errors) < after:
        return f"estimates were compared with labels in {len(errors)} matured partitions, {after} are required"
    worst = max(map(abs, errors))
    if not worst < rise:
        return f"an earlier estimate was wrong by {worst:.4f}, and the estimated rise of {rise:.4f} is not larger"
    return ""


def estimation_errors(ref: PartitionRef, res: Resources) -> list[float]:
    """Return realised minus estimated loss of all other partitions that were assessed by the as-of of `ref`, oldest first."""
    errors = []
    for key in res.lake.keys(Stage.PERFORMANCE):
        record = done_record(Stage.PERFORMANCE, res.ref(key), res)
        error = record.data["estimate"]["error"] if record and key != ref.key and record.as_of <= ref.as_of else None
        if error is not None:
            errors.append(float(error))
    return errors


def due_fact(
    ref: PartitionRef, champion: Promotion, since: datetime, labels: int, partitions: int, res: Resources
) -> Fact | None:
    """Return the fact that a training is due by time or by new labels, None if none is due.

    The id depends on partition, champion and last training, not on the number of labels. So there is one fact per partition,
    and after a decline the next partition has a new one.

    Args:
        ref: The newest partition as of the moment which the fact is about.
        champion: The row that made the current champion.
        since: As-of of the last training.
        labels: Rows after the champion's training window whose labels have matured.
        partitions: Partitions with a validation record, blocked ones included, that were complete after `since`.
        res: The model's resources.
    """
    message = next(_due_reasons(ref.as_of - since, labels, partitions, champion, res), "")
    if not message:
        return None
    payload = {"told": message, "champion": champion.version, "new_labels": labels}
    return make_fact("due", ref.model, ref.key, ref.as_of, [champion.sequence, since], payload)


def _due_reasons(
    elapsed: timedelta, labels: int, partitions: int, champion: Promotion, res: Resources
) -> Iterator[str]:
    """Yield the reason for each rule of `retraining.signals` by which a training is due."""
    rules = res.config.retraining.signals
    if rules.every and elapsed >= rules.every:
        yield f"{days_text(elapsed)} since the last training, one is due every {days_text(rules.every)}"
    if rules.partitions and partitions >= rules.partitions:
        yield f"{partitions} partitions since the last training, one is due every {rules.partitions}"
    if rules.new_labels and labels >= rules.new_labels:
        yield f"{labels:,} labels have matured since the champion's window, {rules.new_labels:,} make a training due"
    if rules.growth and labels >= rules.growth * (trained_on := res.registry.cached_version(champion.version).rows):
        yield f"{labels:,} labels have matured since the champion's window, {labels / trained_on:.0%} of its {trained_on:,} training rows"


def retry_fact(decision: Decision, earlier: Fact, max_attempts: int) -> Fact | None:
    """Return the fact that a failed retraining is tried again, None after `max_attempts` attempts."""
    attempt = int(earlier.payload.get("attempt", 1)) + 1
    if decision.outcome != "failed" or attempt > max_attempts:
        return None
    payload = {
        **earlier.payload,
        "kind": earlier.payload.get("kind", earlier.kind),
        "attempt": attempt,
        "error": decision.detail,
        "fact": earlier.id,
    }
    return make_fact("retry", earlier.model, earlier.partition, earlier.as_of, [earlier.id, attempt], payload)


def alias_fact(champion: Promotion, alias: str | None, res: Resources) -> Fact:
    """Return the fact that the alias points to version `alias` (None: it was deleted) and not to the ledger's champion."""
    link = res.registry.version_url(alias) if alias else ""
    payload = {"champion": champion.version, "alias": alias, "link": link}
    return make_fact("alias", champion.model, "", champion.as_of, [champion.hash, alias], payload)


def person_fact(res: Resources, ref: PartitionRef, by: str, reason: str) -> Fact:
    """Return the fact that a person requests a retraining. Each flow run has its own."""
    payload = {"told": f"requested by {by}: {reason}", "by": by, "reason": reason}
    return make_fact("person", res.config.name, ref.key, ref.as_of, [by, reason, res.flow_run], payload)


def report_links(record: Record, res: Resources) -> dict[str, str]:
    """Return the id and the address of a record's report in Evidently."""
    return {"snapshot": record.data.get("snapshot", ""), "link": snapshot_url(record, res)}


def snapshot_url(record: Record, res: Resources) -> str:
    """Return the address of a record's report in the Evidently UI, empty if there is none."""
    project, snapshot = record.data.get("project"), record.data.get("snapshot")
    return f"{res.settings.evidently_ui}/projects/{project}/reports/{snapshot}" if project and snapshot else ""
