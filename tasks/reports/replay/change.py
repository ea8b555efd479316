"""The comparison of a changed model with its base as Markdown, for a comment on a pull request."""

import difflib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

from configs.content import read_content
from configs.load import Model
from tasks.contracts import Decision, Interval, PolicyRun
from tasks.contracts.escape import for_markdown
from tasks.contracts.words import duration_text
from tasks.replay.change import Change, Side
from tasks.replay.result import markdown_table
from tasks.replay.setup import cost_of
from tasks.replay.standings import counted_retrainings, from_loss, mean_loss

SHOWN = 40
"""Most rows of a table."""
REFUSALS = (": REFUSED", ": could not be judged")
"""What follows the name of a rule in the line of a verdict that refuses a version."""
IGNORED = ("contract", "description", "dictionary", "publish", "retention")
"""Keys of model.yaml that change no result."""


def changed_keys(base: Model, change: Model) -> list[tuple[str, str, str]]:
    """Return what differs between two models: key or file, value in the base, value in the change. Empty if no result can differ."""
    lines = (
        [] if _rules(base) == _rules(change) else _changed_values(*(dict(_flat(_content(m))) for m in (base, change)))
    )
    for name, one, other in (
        (change.config.source.sql, base.source_sql, change.source_sql),
        (change.config.source.labels, base.labels_sql, change.labels_sql),
    ):
        if one != other and not change.config.source.file:
            marks = [line[0] for line in difflib.ndiff(one.splitlines(), other.splitlines())]
            lines.append((name, f"{_lines(marks.count('-'))} removed", f"{_lines(marks.count('+'))} added"))
    return lines


def _rules(model: Model) -> Any:
    return model.config.model_dump(exclude=set(IGNORED))


def _content(model: Model) -> Any:
    """Return model.yaml as it was written, with the files that it extends, without the keys that change no result."""
    content = read_content(model.files[0]).merged
    return {key: value for key, value in content.items() if key not in IGNORED}


def _changed_values(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    keys = dict.fromkeys([*before, *after])
    pairs = {key: (before.get(key, "not set"), after.get(key, "not set")) for key in keys}
    return [(key, *_values(one, other)) for key, (one, other) in pairs.items() if one != other]


def _lines(count: int) -> str:
    return f"{count} line{'s' * (count != 1)}"


def _flat(content: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and value of each key that is no section."""
    if isinstance(content, Mapping) and content:
        for key, value in content.items():
            yield from _flat(value, f"{path}.{key}" if path else key)
    else:
        yield path, content


def _values(before: Any, after: Any) -> tuple[str, str]:
    """Return two values as text. Of two lists, only the items that the other does not have."""
    if isinstance(before, list) and isinstance(after, list):
        before, after = ([x for x in one if x not in other] for one, other in ((before, after), (after, before)))
        return ", ".join(map(str, before)) or "(in another order)", ", ".join(map(str, after))
    return str(before), str(after)


def change_lines(result: Change, base_name: str) -> list[str]:
    """Return the comparison as Markdown lines.

    Args:
        result: The comparison.
        base_name: Name of the base, such as `main (1a2b3c4)`.
    """
    first, last = (result.base.run.steps[at].partition for at in (0, -1))
    return [
        f"**{for_markdown(headline(result, first, last))}**",
        "",
        f"Changed since {for_markdown(base_name)}:",
        "",
        *_table(["key", "base", "change"], changed_keys(result.base.model, result.change.model)),
        "",
        *_figures(result),
        "",
        *_gate_lines(result),
        "",
        *_decision_lines(result),
        "",
        f"It took {duration_text(result.base.seconds + result.change.seconds)}. Both were replayed on the sources as they are now, with "
        f"the code of the working tree.",
    ]


def headline(result: Change, first: str, last: str) -> str:
    """Return the verdict on the change in a sentence."""
    loss, span = result.change.config.target.eval_loss, f"on {first} to {last}"
    if result.impossible:
        return f"No gain can be measured {span}: {result.impossible}."
    gain = result.gains[loss]
    if gain is None or gain.lower != gain.lower:
        return f"No interval is possible {span}: there are too few blocks of time with common rows."
    verdict = (
        "The change is better" if gain.lower > 0 else "The change is worse" if gain.upper < 0 else "No clear difference"
    )
    assert result.common
    before, after = (mean_loss(run, loss) for run in result.common)
    interval = f"{gain.value:+.4f}, 95 % {gain.lower:+.4f} to {gain.upper:+.4f}"
    return f"{verdict} {span}: {loss} is {after:.4f} instead of {before:.4f} (gain {interval})."


def _figures(result: Change) -> list[str]:
    """Return the table of metrics, retrainings and seconds, with an explanation."""
    rows, loss = [], result.change.config.target.eval_loss
    base, change = result.common or (result.base.run, result.change.run)
    for metric in (loss, *(m for m in result.gains if m != loss)):
        means = [from_loss(metric, mean_loss(run, metric)) for run in (base, change)]
        name = f"{metric} (judged)" if metric == loss else metric
        rows.append([name, *(f"{mean:.4f}" for mean in means), *_interval(result.gains.get(metric), means, metric)])
    rows += _cost_rows(result)
    return [*markdown_table(["", "base", "change", "gain", "95 %"], rows), "", _rows_text(result)]


def _interval(gain: Interval | None, means: Sequence[float], metric: str) -> list[str]:
    if gain is None:
        losses = means if from_loss(metric, 0.0) == 0.0 else means[::-1]
        return [f"{losses[0] - losses[1]:+.4f}", ""]
    return [f"{gain.value:+.4f}", f"{gain.lower:+.4f} to {gain.upper:+.4f}"]


def _cost_rows(result: Change) -> Iterator[list[str]]:
    """Yield the rows about retrainings: their number and seconds, and the loss with their cost if model.yaml has one."""
    sides = (result.base, result.change)
    retrainings = [counted_retrainings(side.run) for side in sides]
    yield ["retrainings", *(str(len(decisions)) for decisions in retrainings), "", ""]
    yield ["of them refused", *(str(sum(d.outcome == "refused" for d in ds)) for ds in retrainings), "", ""]
    yield ["seconds of training", *(f"{sum(d.seconds for d in ds):.0f}" for ds in retrainings), "", ""]
    loss = result.change.config.target.eval_loss
    if cost := cost_of(result.change.config, loss):
        runs = result.common or (result.base.run, result.change.run)
        totals = [
            mean_loss(run, loss) + cost * len(decisions) / len(side.run.steps)
            for run, decisions, side in zip(runs, retrainings, sides, strict=True)
        ]
        yield [f"{loss} plus cost", *(f"{total:.4f}" for total in totals), f"{totals[0] - totals[1]:+.4f}", ""]


def _rows_text(result: Change) -> str:
    """Describe on which rows the metrics are."""
    own = [len(side.rows) for side in (result.base, result.change)]
    if result.common is None:
        return f"Each side is measured on its own rows: base {own[0]:,}, change {own[1]:,}."
    common = sum(step.rows for step in result.common[0].steps)
    text = f"Both are measured on the same {common:,} rows with an outcome, in {result.blocks} blocks of time."
    if own != [common, common]:
        text += f" Left out: {own[0] - common:,} rows that only the base scored, {own[1] - common:,} that only the change scored."
    return f"{text} A gain above 0 means that the change is better. Intervals of metrics other than the judged loss are by partition."


def _gate_lines(result: Change) -> list[str]:
    """Return what the gate can see of such a change."""
    if not isfinite(result.on_the_range):
        return ["The gate cannot judge such a change: there are fewer blocks than `gate.gain.min_blocks`."]
    config = result.change.config
    gain, loss = result.gains[config.target.eval_loss], config.target.eval_loss
    whole = f"A gain of {result.on_the_range:.4f} in {loss} would pass `gate.gain` in 4 of 5 cases on this whole range"
    if not isfinite(result.on_a_holdout):
        return [f"{whole}. A holdout has too few blocks for a test."]
    text = f"**Smallest gain that the gate can see.** {whole}, and {result.on_a_holdout:.4f} on one holdout."
    if gain and 0 < gain.value < result.on_a_holdout:
        text += (
            " The measured gain is smaller: in production the gate may refuse this change, even if the gain is real."
        )
    return [text]


def _decision_lines(result: Change) -> list[str]:
    """Return the partitions whose facts led to other decisions."""
    base, change = (decisions_by_partition(side) for side in (result.base, result.change))
    keys = sorted({*base, *change})
    rows = [
        (key, base.get(key, "no fact"), change.get(key, "no fact")) for key in keys if base.get(key) != change.get(key)
    ]
    same = len(keys) - len(rows)
    text = f"the same for {same} partition{'s' * (same != 1)} with facts"
    if not rows:
        return [f"**Decisions**: {text}, none differs."]
    return [f"**Decisions that would have differed** ({text}):", "", *_table(["partition", "base", "change"], rows)]


def decisions_by_partition(side: Side) -> dict[str, str]:
    """Return the facts of each partition with their decisions and the outcome of the retraining as text."""
    facts, texts = {fact.id: fact for fact in side.run.facts}, defaultdict(list)
    for decision in side.run.decisions:
        if fact := facts.get(decision.fact_id):
            texts[fact.partition].append(f"{fact.kind}: {_outcome(decision, side.run)}")
    return {key: ", ".join(dict.fromkeys(lines)) for key, lines in texts.items()}


def _outcome(decision: Decision, run: PolicyRun) -> str:
    """Describe a decision: declined by which rule, refused by which rules of the gate, or promoted with rows until when."""
    if decision.action == "decline":
        return f"declined ({decision.rule})"
    if decision.outcome == "refused":
        failed = [line.partition(mark)[0] for line in decision.gate for mark in REFUSALS if mark in line]
        return f"refused ({'; '.join(failed) or decision.detail})"
    ends = [
        row.window_end
        for row in run.promotions
        if row.version == decision.version and row.action in ("promote", "stage")
    ]
    return f"{decision.outcome}" + (f" (learned rows until {ends[-1]:%Y-%m-%d})" if ends else "")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table of texts, with at most `SHOWN` rows."""
    lines = [f"| {' | '.join(map(for_markdown, row))} |" for row in (head, *rows[:SHOWN])]
    more = ["", f"and {len(rows) - SHOWN} more"] if len(rows) > SHOWN else []
    return [lines[0], f"|{'---|' * len(head)}", *lines[1:], *more]
