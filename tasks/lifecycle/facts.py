"""What was seen of a model, as facts: from the records of its partitions to rows with ids.

The same observation is the same fact, whoever looks and however often.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from tasks.contracts import Decision, Fact, PartitionRef, Promotion, Record, Stage
from tasks.ledger.fact_ids import fact
from tasks.lifecycle.policy import days
from tasks.resources import Resources
from tasks.steps.decay import decay_at
from tasks.steps.step import done_record


def process_facts(ref: PartitionRef, res: Resources) -> Iterator[Fact]:
    """The facts that a processed partition states: drift, and a decay that is estimated."""
    if watched := done_record(Stage.MONITORING, ref, res):
        yield from drift_fact(watched, res)
    if estimated := done_record(Stage.ESTIMATES, ref, res):
        yield from estimate_fact(ref, estimated, res)


def assess_facts(ref: PartitionRef, res: Resources) -> Iterator[Fact]:
    """The facts that an assessed partition states: decay, outcomes that drifted."""
    if (assessed := done_record(Stage.PERFORMANCE, ref, res)) is None:
        return
    data, champion = assessed.data, assessed.data["version"]
    decay, target = decay_at(ref, Stage.PERFORMANCE, res), data["target"]
    if decay["detected"]:
        told = f"loss {decay['value']:.4f} where the gate saw {decay['expected']:.4f}"
        payload = {"told": told, "champion": champion, **decay, **links(assessed, res)}
        yield fact("decay", ref.model, ref.key, assessed.as_of, champion, payload)
    if target and target["drifted"] and res.config.retraining.signals.target:
        told = f"outcomes drifted, {target['method']} {target['score']:.3f}"
        payload = {"of": "outcomes", "told": told, "champion": champion, "signals": [target]}
        yield fact("drift", ref.model, ref.key, assessed.as_of, ["target", champion], payload | links(assessed, res))


def drift_fact(record: Record, res: Resources) -> Iterator[Fact]:
    """The fact that a monitoring record states, if it found drift."""
    if not record.data["detected"]:
        return
    columns = [c for c in record.data["columns"] if c["drifted"]]
    names = list(dict.fromkeys(c["column"] for c in columns))
    payload = {
        "told": f"{len(names)} columns drifted, {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}",
        "champion": record.data["version"],
        "drift_share": record.data["share"],
        "threshold": record.data["threshold"],
        "signals": columns,
        "report": record.data["report"],
        **links(record, res),
    }
    made_of = {name: digest for name, digest in record.inputs.items() if name != "config"}
    what = sorted([c["column"], c["method"]] for c in columns)
    yield fact("drift", record.model, record.partition, record.as_of, [made_of, what], payload)


def estimate_fact(ref: PartitionRef, record: Record, res: Resources) -> Iterator[Fact]:
    """The fact of a decay that is estimated; made only where model.yaml lets it count, and it says whether it is trusted."""
    if (rules := res.config.retraining.signals.estimate) is None:
        return
    rise = decay_at(ref, Stage.ESTIMATES, res)
    if rise["detected"]:
        why = distrust(ref, rise["rise"], rules.after, res)
        told = f"estimated loss {rise['value']:.4f} where the gate saw {rise['expected']:.4f}"
        payload = {"told": told, "champion": record.data["version"], "not_trusted": why, **rise}
        yield fact("estimate", ref.model, ref.key, record.as_of, record.data["version"], payload)


def distrust(ref: PartitionRef, rise: float, after: int, res: Resources) -> str:
    """Why an estimated rise of the loss is not trusted as of the partition's moment; empty when it is."""
    errors = past_errors(ref, res)
    if len(errors) < after:
        return f"estimates were held against {len(errors)} matured partitions, {after} are needed"
    worst = max(map(abs, errors))
    if not worst < rise:
        return f"an estimate was wrong by {worst:.4f} before, more than the rise of {rise:.4f} that it reports"
    return ""


def past_errors(ref: PartitionRef, res: Resources) -> list[float]:
    """Realised minus estimated loss of every other partition that was assessed by the ref's moment, oldest first."""
    found = []
    for key in res.lake.keys(Stage.PERFORMANCE):
        record = done_record(Stage.PERFORMANCE, res.ref(key), res)
        error = record.data["estimate"]["error"] if record and key != ref.key and record.as_of <= ref.as_of else None
        if error is not None:
            found.append(float(error))
    return found


def due_fact(
    ref: PartitionRef, champion: Promotion, since: datetime, labels: int, partitions: int, res: Resources
) -> Fact | None:
    """The fact that a training is due by model.yaml, by time or by new labels, at a partition's moment.

    One fact a partition, champion and last training, whatever the count of labels then was: more labels of the same
    partition are the same wish, and a declined one is asked again with the next partition.

    `since` is the last training's, `labels` counts the rows that matured since the champion's window, `partitions` those that
    were validated since.
    """
    told = next(_dues(ref.as_of - since, labels, partitions, champion, res), "")
    if not told:
        return None
    payload = {"told": told, "champion": champion.version, "new_labels": labels}
    return fact("due", ref.model, ref.key, ref.as_of, [champion.sequence, since], payload)


def _dues(passed: timedelta, labels: int, partitions: int, champion: Promotion, res: Resources) -> Iterator[str]:
    """Why a training is due, in words, for each rule that says so."""
    rules = res.config.retraining.signals
    if rules.every and passed >= rules.every:
        yield f"{days(passed)} since the last training, one is due every {days(rules.every)}"
    if rules.partitions and partitions >= rules.partitions:
        yield f"{partitions} partitions since the last training, one is due every {rules.partitions}"
    if rules.new_labels and labels >= rules.new_labels:
        yield f"{labels:,} labels have matured since the champion's window, {rules.new_labels:,} make a training due"
    if rules.growth and labels >= rules.growth * (learned := res.registry.recall(champion.version).rows):
        yield f"{labels:,} labels have matured since the champion's window, {labels / learned:.0%} of the {learned:,} that it learned from"


def retry_fact(decision: Decision, earlier: Fact, rules_attempts: int) -> Fact | None:
    """The fact that a retraining failed and is to be tried again; None when it was tried often enough."""
    attempt = int(earlier.payload.get("attempt", 1)) + 1
    if decision.outcome != "failed" or attempt > rules_attempts:
        return None
    payload = {
        **earlier.payload,
        "kind": earlier.payload.get("kind", earlier.kind),
        "attempt": attempt,
        "error": decision.detail,
        "fact": earlier.id,
    }
    return fact("retry", earlier.model, earlier.partition, earlier.as_of, [earlier.id, attempt], payload)


def alias_fact(champion: Promotion, found: str | None, res: Resources) -> Fact:
    """The fact that the alias is not where the ledger's champion is."""
    link = res.registry.version_url(found) if found else ""
    payload = {"champion": champion.version, "alias": found, "link": link}
    return fact("alias", champion.model, "", champion.as_of, [champion.hash, found], payload)


def person_fact(res: Resources, ref: PartitionRef, by: str, reason: str) -> Fact:
    """The fact that somebody asks for a retraining; one for each run."""
    payload = {"told": f"{by} asks for it: {reason}", "by": by, "reason": reason}
    return fact("person", res.config.name, ref.key, ref.as_of, [by, reason, res.flow_run], payload)


def links(record: Record, res: Resources) -> dict[str, str]:
    """Where people see a record: the id of its run in Evidently, and its address."""
    return {"snapshot": record.data.get("snapshot", ""), "link": snapshot_url(record, res)}


def snapshot_url(record: Record, res: Resources) -> str:
    """Where the Evidently UI shows a partition's report."""
    project, snapshot = record.data.get("project"), record.data.get("snapshot")
    return f"{res.settings.evidently_ui}/projects/{project}/reports/{snapshot}" if project and snapshot else ""
