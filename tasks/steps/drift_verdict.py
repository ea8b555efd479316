"""The drift verdict of a partition in view of earlier partitions: a signal that alarms in most of them is reported once.

A monitoring record has the result of the test of its partition alone. So it does not depend on the order in which a backfill writes
records, and a correction of one partition makes no other stale. The verdict is derived from the records whenever it is used, as decay is.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from configs.schema import ModelConfig
from tasks.contracts import PartitionRef, Record, Stage
from tasks.drift.columns import methods
from tasks.resources import Resources

RECENT, MIN_RECENT = 8, 4
"""At most and at least so many of the newest tested partitions decide whether a signal is always different."""
ALWAYS = "always different"
"""How the note of a signal begins that does not count because of this."""
Data = Mapping[str, Any]
"""The data of a monitoring record."""


def drift_at(ref: PartitionRef, res: Resources) -> dict[str, Any] | None:
    """The drift verdict of a partition, None if it has none. See `judge_drift`."""
    return drift_verdicts([ref.key], res).get(ref.key)


def drift_verdicts(keys: Iterable[str], res: Resources) -> dict[str, dict[str, Any]]:
    """The drift verdicts of those partitions that have a monitoring record, by partition. See `judge_drift`.

    Only earlier partitions are used, which all were complete before.
    """
    known, records, verdicts = res.lake.keys(Stage.MONITORING), dict[str, Record | None](), {}

    def record(key: str) -> Record | None:
        if key not in records:
            monitored = res.lake.record(Stage.MONITORING, key)
            records[key] = monitored if monitored and monitored.status == "done" else None
        return records[key]

    for key in keys:
        if own := record(key):
            earlier: list[Data] = []
            for before in (k for k in reversed(known) if k < key):  # the names of partitions sort by time
                if (tested := record(before)) and _tested_columns(tested.data):
                    earlier.append(tested.data)
                if len(earlier) == RECENT:
                    break
            verdicts[key] = judge_drift(own.data, earlier[::-1], res.config)
    return verdicts


def judge_drift(data: Data, earlier: Sequence[Data], config: ModelConfig) -> dict[str, Any]:
    """Judge a partition's drift without the signals that are always different.

    A signal, which is one statistic of one column, is always different if it alarmed in more than half of the partitions in which its
    column was tested, whatever the champion. It counts if its score exceeds the largest of its earlier alarms by the effect size and by
    the range of those alarms: one of nine equal partitions has the largest score.

    Args:
        data: Of the partition's record.
        earlier: Of the newest tested records before it, at most `RECENT`, oldest first.
        config: The model's config.

    Returns:
        The data, in which signals that are always different are not `drifted` and have a note, and `share` and `detected` are without them.
        Further `always_different`, the columns that are from now on, with the counts in words, and `newly_different`, those that were not.
    """
    before, after = _always(earlier), _always([*earlier, data][-RECENT:])
    columns = [_without_usual(c, before, earlier) for c in data["columns"]]
    names = {c["column"] for c in columns if c["drifted"]}
    compared = methods(config)
    share = len(names & set(compared)) / len(compared)
    detected = (share > 0 and share >= data["threshold"]) or bool(
        names - set(compared)
    )  # all features together count alone
    return {
        **data,
        "columns": sorted(columns, key=lambda c: not c["drifted"]),
        "share": share,
        "detected": detected,
        "always_different": {column: text for (column, _), text in sorted(after.items(), reverse=True)},
        "newly_different": sorted({column for column, _ in after} - {column for column, _ in before}),
    }


def _always(records: Sequence[Data]) -> dict[tuple[str, str], str]:
    """The signals, by column and method, that alarmed in more than half of some records, with the counts in words."""
    tested = [_tested_columns(data) for data in records]
    alarms = [(c["column"], c["method"]) for data in records for c in data["columns"] if c["drifted"]]
    texts = {}
    for signal in set(alarms):
        count, of = alarms.count(signal), sum(signal[0] in columns for columns in tested)
        if of >= MIN_RECENT and 2 * count > of:
            texts[signal] = f"drifted in {count} of the last {of} partitions"
    return texts


def _tested_columns(data: Data) -> set[str]:
    return {c["column"] for c in data["columns"] if c["threshold"] is not None}


def _without_usual(
    c: Mapping[str, Any], always: Mapping[tuple[str, str], str], earlier: Sequence[Data]
) -> dict[str, Any]:
    """A signal that is not `drifted` if it is always different and not further away than ever before."""
    signal = c["column"], c["method"]
    if not c["drifted"] or signal not in always:
        return dict(c)
    alarms = [e for data in earlier for e in data["columns"] if (e["column"], e["method"]) == signal and e["drifted"]]
    past = [e["score"] for e in alarms]
    if c["score"] >= max(past) + max(c["effect"], max(past) - min(past)):
        return dict(c)
    return {**c, "drifted": False, "note": f"{ALWAYS}: {always[signal]} before"}


def suggestion(column: str, config: ModelConfig) -> str:
    """What a person can do about a column that is always different."""
    rules, feature = config.monitoring, column in config.features.all
    choices = (
        ("add it to monitoring.seasonal", feature and column not in rules.seasonal),
        ("set monitoring.reference to trailing", feature and rules.reference != "trailing"),
        ("add it to monitoring.ignore", column in methods(config)),
        ("set monitoring.multivariate to null", column not in methods(config)),
    )
    return ", or ".join(text for text, possible in choices if possible)
