"""Tables for the terminal, 80 columns wide."""

from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table

from tasks.contracts import Decision, Hindsight, Promotion
from tasks.contracts.escape import for_terminal
from tasks.contracts.words import decision_text, number, percent
from tasks.ledger.promotions import stage_of
from tasks.reports.summary import DONE_LABELS, PartitionSummary


def empty_table(title: str, *columns: tuple[str, bool]) -> Table:
    """Return an empty table. A column is a heading and whether it holds numbers."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading, numeric in columns:
        table.add_column(heading, justify="right" if numeric else "left", no_wrap=numeric)
    return table


def year_table(rows: Sequence[PartitionSummary], period: str = "month", loss: str = "log_loss") -> Table:
    """Return the results of each partition: rows, version, metrics, drift, signals and the retraining decision.

    Args:
        rows: The partitions.
        period: Their length, such as `month`.
        loss: The loss that the gate uses.
    """
    quarantine = [("quar.", True)] if any(r.quarantined for r in rows) else []
    auc = [("AUC", True)] if loss == "log_loss" else []
    table = empty_table(
        f"Results by {period}",
        (period, True), ("rows", True), *quarantine, ("ver.", True), *auc, (loss.replace("_", "\n"), True),
        ("drift", True), ("signals", False), ("retraining", False),
    )  # fmt: skip
    for r in rows:
        table.add_row(
            r.key,
            f"{r.shown_rows:,}" if r.rows else str(r.shown_rows),
            *([str(r.quarantined or 0)] if quarantine else []),
            f"v{r.version}" if r.version else "-",
            *([number(r.roc_auc)] if auc else []),
            number(r.log_loss if auc else r.loss),
            percent(r.drift_share),
            ", ".join(dict.fromkeys(f.kind for f in r.facts)),
            for_terminal(r.retraining),
        )
    return table


def gate_table(rows: Sequence[Promotion]) -> Table:
    """Return the gate's verdict on each version: the rules that it failed, or its present stage. `rows` are the whole ledger.

    The bound of the gain is the one that decides: the upper one of a refresh, the lower one of a change.
    """
    table = empty_table(
        "Gate results",
        ("as of", True), ("version", True), ("judged as", False), ("gain", True), ("bound", True), ("verdict, failed rules", False),
    )  # fmt: skip
    for row in rows:
        if row.action not in ("stage", "refuse") or not row.evidence.get("verdicts"):
            continue
        refused = [v["rule"].split(",")[0] for v in row.evidence["verdicts"] if not v["passed"]]
        was_champion = any(r.version == row.version and r.to_stage == "champion" for r in rows)
        now = stage_of(row.version, rows)
        stage = "earlier champion" if was_champion and now != "champion" else now
        verdict = f"[red]refused[/]: {for_terminal('; '.join(refused))}" if refused else f"[green]passed[/], {stage}"
        gain = row.evidence["gain"] or {"mean": None, "lower": None, "upper": None}
        burden = row.evidence.get("burden", "change")
        judged_as = f"{burden} of v{row.previous}" if row.previous else "first"
        bound = f"≤{_signed(gain['upper'])}" if burden == "refresh" else f"≥{_signed(gain['lower'])}"
        bound = bound if gain["mean"] is not None else ""
        table.add_row(f"{row.as_of:%Y-%m-%d}", f"v{row.version}", judged_as, _signed(gain["mean"]), bound, verdict)
    return table


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.4f}"


def decision_table(
    rows: Sequence[PartitionSummary],
    decisions: Mapping[str, Decision],
    changes: Sequence[Promotion] = (),
    period: str = "month",
) -> Table:
    """Return each signal with the policy's decision and its reason. `changes` are all promotions of the ledger."""
    table = empty_table("Signals and decisions", (period, True), ("signal", False), ("decision and reason", False))
    for r in rows:
        for f in r.facts:
            decision = decisions.get(f.id)
            text = f"{decision_text(decision, changes)}: {decision.reason}" if decision else decision_text(None)
            table.add_row(r.key, for_terminal(f"{f.kind}: {f.payload.get('told', '')}"), for_terminal(text))
    return table


def hindsight_table(results: Sequence[Hindsight]) -> Table:
    """Return the measured effect of each promotion."""
    table = empty_table(
        "Measured effect of the retraining, with the previous champion in shadow mode",
        ("version", True), ("previous", True), ("gain", True), ("interval", True), ("measured on", False), ("verdict", False),
    )  # fmt: skip
    colours = {"helped": "green", "hurt": "red"}
    for h in results:
        colour, gain = colours.get(h.verdict, "default"), h.gain
        interval = f"{gain.lower:+.4f} {gain.upper:+.4f}" if gain else ""
        months = f"{h.partitions[0]} to {h.partitions[-1]}" if h.partitions else for_terminal(h.note)
        value = _signed(gain.value) if gain else ""
        table.add_row(f"v{h.version}", f"v{h.previous}", value, interval, months, f"[{colour}]{h.verdict}[/]")
    return table


def estimate_table(rows: Sequence[PartitionSummary]) -> Table:
    """Return the loss that was estimated before the labels arrived, beside the realised loss."""
    table = empty_table(
        "Loss estimated before the labels arrived, and realised loss",
        ("month", True), ("estimated", True), ("95 % interval", True), ("realised", True), ("error", True), ("skill", True),
        ("AUC est.", True), ("AUC", True),
    )  # fmt: skip
    for r in rows:
        if r.loss is not None and r.estimate is not None:
            low, high = r.estimate_interval or (None, None)
            bounds = f"{number(low)}-{number(high)}" if r.estimate_interval else ""
            values = number(r.loss), f"{r.loss - r.estimate:+.3f}", percent(r.skill)
            table.add_row(r.key, number(r.estimate), bounds, *values, number(r.estimated_auc), number(r.roc_auc))
    return table


def never_table(rows: Sequence[PartitionSummary], never: Mapping[str, Mapping[str, float]], first: str) -> Table:
    """Return the metrics that version `first` would have had in each month without retraining, and the gain from retraining."""
    table = empty_table(
        f"The same months without retraining (v{first} throughout)",
        ("month", True), ("AUC", True), ("log loss", True), ("gain in AUC", True), ("gain in log loss", True),
    )  # fmt: skip
    pairs = []
    for r in rows:
        if r.key in never and r.roc_auc is not None and r.log_loss is not None:
            auc, loss = never[r.key]["roc_auc"], never[r.key]["log_loss"]
            pairs.append((r.roc_auc, r.log_loss, auc, loss))
            table.add_row(r.key, number(auc), number(loss), f"{r.roc_auc - auc:+.3f}", f"{loss - r.log_loss:+.3f}")
    if pairs:
        auc, loss, auc_never, loss_never = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
        table.add_section()
        gains = f"{auc - auc_never:+.3f}", f"{loss_never - loss:+.3f}"
        table.add_row("mean", number(auc_never), number(loss_never), *gains)
    return table


def models_table(rows: Sequence[Sequence[str]]) -> Table:
    """Return a table with a row per model.

    Args:
        rows: Name, state, champion, newest partition, newest assessed one, its loss and skill, last decision, and next run of each.
    """
    colours = {"error": "bold red", "action required": "bold yellow", "warning": "yellow", "good": "green"}
    table = empty_table(
        "",
        ("model", False), ("state", False), ("ver.", True), ("newest", True), ("assessed", True), ("loss", True), ("skill", True),
        ("last decision", False), ("next run", True),
    )  # fmt: skip
    for name, state, *others in rows:
        table.add_row(for_terminal(name), f"[{colours[state]}]{state}[/]", *map(for_terminal, others))
    return table


GRID = 24
"""The newest partitions, which are shown in the terminal."""


def grid_table(rows: Sequence[Mapping[str, str]], width: int = 80) -> Table:
    """Return a table with a row per partition and a column per step. The title counts the earlier partitions that are not shown."""
    colours = {"fresh": "green", "stale": "yellow", "BLOCKED": "bold red", "FAILED": "bold red", "RUNNING": "bold blue"}
    early = rows[:-GRID]
    incomplete = sum(any(v not in (*DONE_LABELS, row["partition"]) for v in row.values()) for row in early)
    title = f"{len(early)} earlier partitions, {incomplete} of them not fresh in every step" if early else ""
    table = empty_table(title, *((name, False) for name in (rows[0] if rows else {"partition": ""})))
    table.padding = (0, 0)  # eleven columns need all 80 characters
    if rows:
        for column, column_width in zip(table.columns, _widths(rows[-GRID:], width), strict=True):
            column.width = column_width
    for row in rows[-GRID:]:
        table.add_row(*(f"[{colours[v]}]{v}[/]" if v in colours else v for v in row.values()))
    return table


def _widths(rows: Sequence[Mapping[str, str]], width: int) -> list[int | None]:
    """Return each column's width: its longest cell, and as much of its heading as fits.

    If the cells alone do not fit, only the partition column has a width and the others are None.
    """
    headings, cells = list(rows[0]), list(zip(*(row.values() for row in rows), strict=True))
    widths = [max(map(len, column)) for column in cells]
    spare = width - len(headings) - 1 - sum(widths)
    if spare < 0:
        return [widths[0], *[None] * (len(widths) - 1)]
    for i, heading in enumerate(headings):
        extra = min(spare, max(0, len(heading) - widths[i]))
        widths[i], spare = widths[i] + extra, spare - extra
    return [*widths]


def time_table(spent: Mapping[str, float]) -> Table:
    """Return the wall time of each activity."""
    table = empty_table("Wall time", ("", False), ("seconds", True), ("share", True))
    total = sum(spent.values()) or 1
    for name, seconds in spent.items():
        table.add_row(name, f"{seconds:.0f}", f"{seconds / total:.0%}")
    table.add_row("total", f"{total:.0f}", "")
    return table
