"""Facts derived from the records of a model's partitions. The same observation always has the same id."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from tasks.contracts import Decision, ExpectedGain, Fact, PartitionRef, Promotion, Record, Stage
from tasks.ledger.fact_ids import make_fact
from tasks.lifecycle.estimates import estimated_decay, known_errors, matured_errors
from tasks.lifecycle.policy import days_text, gain_text, is_worth_it
from tasks.resources import Resources
from tasks.steps.decay import decay_at
from tasks.steps.drift_verdict import drift_at, suggestion
from tasks.steps.explain import explanation
from tasks.steps.step import done_record, scoring_moment


def process_facts(ref: PartitionRef, res: Resources) -> Iterator[Fact]:
    """Yield the facts of a processed partition: drift, and estimated decay."""
    ref = ref if ref.chosen else ref.at(scoring_moment(ref, res))
    if (monitoring := done_record(Stage.MONITORING, ref, res)) and (verdict := drift_at(ref, res)):
        yield from drift_fact(ref, monitoring, verdict, res)
    if estimates := done_record(Stage.ESTIMATES, ref, res):
        yield from estimate_fact(ref, estimates, res)


def assess_facts(ref: PartitionRef, res: Resources) -> Iterator[Fact]:
    """Yield the facts of an assessed partition: realised decay, and drift of the outcomes."""
    if (assessed := done_record(Stage.PERFORMANCE, ref, res)) is None:
        return
    data, champion, as_of = assessed.data, assessed.data["version"], moment_of(ref, assessed)
    decay, target = decay_at(ref, res), data["target"]
    if decay["detected"]:
        drifted = [c for c in (drift_at(ref, res) or {"columns": ()})["columns"] if c["drifted"]]
        cause = explanation(drifted, decay["rise"], "realised")
        message = "; ".join(part for part in (decay_text(decay), cause) if part)
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


def drift_fact(ref: PartitionRef, record: Record, verdict: Mapping[str, Any], res: Resources) -> Iterator[Fact]:
    """Yield the fact of drift if the verdict on a monitoring record, from `drift_at`, has detected drift."""
    if not verdict["detected"]:
        return
    columns = [c for c in verdict["columns"] if c["drifted"]]
    always = {name: verdict["always_different"][name] for name in verdict["newly_different"]}
    payload = {
        "told": "; ".join(drift_message(ref, verdict, columns, res)),
        "champion": record.data["version"],
        "drift_share": verdict["share"],
        "threshold": record.data["threshold"],
        "signals": columns,
        "loss_change": estimated_change(ref, verdict, res),
        "always_different": [
            {"column": c, "note": text, "suggestion": suggestion(c, res.config)} for c, text in always.items()
        ],
        "report": record.data["report"],
        **report_links(record, res),
    }
    inputs = {name: digest for name, digest in record.inputs.items() if name != "config"}
    signals = sorted([c["column"], c["method"]] for c in columns)
    yield make_fact("drift", ref.model, ref.key, moment_of(ref, record), [inputs, signals], payload)


def drift_message(
    ref: PartitionRef, verdict: Mapping[str, Any], columns: Sequence[Mapping[str, Any]], res: Resources
) -> Iterator[str]:
    """Yield the parts of a message about drift: the columns, what they explain, and which of them no longer count from now on."""
    names = list(dict.fromkeys(c["column"] for c in columns))
    yield f"{len(names)} column{'s' if len(names) > 1 else ''} drifted, {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}"
    if cause := explanation(columns, estimated_change(ref, verdict, res), "estimated"):
        yield cause
    for name in verdict["newly_different"]:
        yield (
            f"{name} is always different: it {verdict['always_different'][name]}, and does not count from the next one on; "
            f"{suggestion(name, res.config)}"
        )


def estimated_change(ref: PartitionRef, verdict: Mapping[str, Any], res: Resources) -> float | None:
    """Return the estimated loss of a partition minus the champion's loss on its holdout, None if one is unknown."""
    record, before = done_record(Stage.ESTIMATES, ref, res), verdict.get("holdout_loss")
    now = record.data["metrics"].get(res.config.target.eval_loss) if record else None
    return None if now is None or before is None else float(now - before)


def decay_text(decay: Mapping[str, Any]) -> str:
    """Describe the values of a decay, such as `skill 4.1%, expected 9.8%; loss 0.5512, expected 0.5023`."""
    if "judged_by" not in decay:  # a version of an older release
        return f"loss {decay['value']:.4f}, holdout loss at promotion {decay['expected']:.4f}"
    loss = f"loss {decay['value']:.4f}, expected {decay['expected']:.4f}"
    if decay["judged_by"] == "loss":
        return loss
    return f"skill {decay['skill']:.1%}, expected {decay['expected_skill']:.1%}; {loss}"


def estimate_fact(ref: PartitionRef, record: Record, res: Resources) -> Iterator[Fact]:
    """Yield the fact of an estimated decay if `retraining.signals.estimate` is set. `not_trusted` has the reason to ignore it."""
    if (rules := res.config.retraining.signals.estimate) is None:
        return
    decay = estimated_decay(ref, record, res)
    if decay["detected"]:
        message = (
            f"estimated loss {decay['value']:.4f} ({decay['interval'][0]:.4f} to {decay['interval'][1]:.4f}), "
            f"expected {decay['expected']:.4f}"
        )
        not_trusted = distrust_reason(record, rules.after, res)
        payload = {"told": message, "champion": record.data["version"], "not_trusted": not_trusted, **decay}
        yield make_fact("estimate", ref.model, ref.key, moment_of(ref, record), record.data["version"], payload)


def distrust_reason(record: Record, after: int, res: Resources) -> str:
    """Return why the interval of an estimate is not trusted yet, empty if it is.

    Args:
        record: The partition's record of the stage `estimates`.
        after: Number of matured partitions whose errors the interval must include.
        res: The model's resources.
    """
    count = len(known_errors(record, matured_errors(res)))
    if count >= after:
        return ""
    return f"estimates were compared with labels in {count} matured partitions, {after} are required"


def due_fact(
    ref: PartitionRef,
    champion: Promotion,
    since: datetime,
    labels: int,
    partitions: int,
    res: Resources,
    gain: ExpectedGain | None = None,
) -> Fact | None:
    """Return the fact that a training is due by time, by new labels or by its expected gain, None if none is due.

    The id depends on partition, champion and last training, not on the number of labels. So there is one fact per partition,
    and after a decline the next partition has a new one.

    Args:
        ref: The newest partition as of the moment which the fact is about.
        champion: The row that made the current champion.
        since: As-of of the last training.
        labels: Rows after the champion's training window whose labels have matured.
        partitions: Partitions with a validation record, blocked ones included, that were complete after `since`.
        res: The model's resources.
        gain: What a retraining is expected to gain, None without `retraining.cost`.
    """
    message = next(_due_reasons(ref.as_of - since, labels, partitions, champion, res, gain), "")
    if not message:
        return None
    payload = {"told": message, "champion": champion.version, "new_labels": labels}
    return make_fact("due", ref.model, ref.key, ref.as_of, [champion.sequence, since], payload)


def _due_reasons(
    elapsed: timedelta,
    labels: int,
    partitions: int,
    champion: Promotion,
    res: Resources,
    gain: ExpectedGain | None,
) -> Iterator[str]:
    """Yield the reason for each rule of `retraining.signals` by which a training is due."""
    rules = res.config.retraining.signals
    if gain is not None and is_worth_it(gain):
        yield gain_text(gain)
    if rules.expected_gain and gain is None and partitions >= rules.expected_gain.calendar:
        calendar = rules.expected_gain.calendar
        yield f"{partitions} partitions since the last training, one is due every {calendar}, since retraining.cost is not set"
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
