"""Tables for the terminal, 80 columns wide."""

from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table

from tasks.contracts import Decision, Hindsight, Promotion
from tasks.contracts.words import decision_text, number
from tasks.reports.summary import PartitionSummary


def _table(title: str, *columns: tuple[str, bool]) -> Table:
    """A plain table; a column is a heading and whether it holds numbers."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading, numeric in columns:
        table.add_column(heading, justify="right" if numeric else "left", no_wrap=numeric)
    return table


def year_table(rows: Sequence[PartitionSummary]) -> Table:
    """What became of each partition, month by month."""
    quarantine = [("quar.", True)] if any(r.quarantined for r in rows) else []
    table = _table(
        "The year as it was run",
        ("month", True), ("rows", True), *quarantine, ("by", True), ("AUC", True), ("log loss", True),
        ("drift", True), ("facts", False), ("retraining", False),
    )  # fmt: skip
    for r in rows:
        table.add_row(
            r.key,
            f"{r.rows:,}" if r.rows is not None else "blocked",
            *([str(r.quarantined or 0)] if quarantine else []),
            f"v{r.version}" if r.version else "-",
            number(r.roc_auc),
            number(r.log_loss),
            "" if r.drift_share is None else f"{r.drift_share:.0%}",
            ", ".join(dict.fromkeys(f.kind for f in r.facts)),
            decision_text(r.decision) if r.facts else "",
        )
    return table


def gate_table(rows: Sequence[Promotion]) -> Table:
    """What the gate said of every version that came before it, and what became of it. `rows` is the whole ledger."""
    table = _table(
        "What the gate said",
        ("as of", True), ("version", True), ("against", True), ("gain", True), ("lower bound", True), ("verdict", False),
    )  # fmt: skip
    for row in rows:
        if row.action not in ("stage", "refuse") or not row.evidence.get("verdicts"):
            continue
        path = [r.to_stage for r in rows if r.version == row.version]
        refused = [v["rule"].split(",")[0] for v in row.evidence["verdicts"] if not v["passed"]]
        verdict = f"[red]refused[/]: {'; '.join(refused)}" if refused else f"[green]passed[/], {path[-1]}"
        gain = row.evidence["gain"] or {"mean": None, "lower": None}
        against = f"v{row.previous}" if row.previous else "-"
        table.add_row(
            f"{row.as_of:%Y-%m-%d}", f"v{row.version}", against, _signed(gain["mean"]), _signed(gain["lower"]), verdict
        )
    return table


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.4f}"


def decision_table(rows: Sequence[PartitionSummary], decisions: Mapping[str, Decision]) -> Table:
    """Every fact with what the policy made of it, and why."""
    table = _table(
        "What was seen, and what the policy made of it", ("month", True), ("seen", False), ("decision and why", False)
    )
    for r in rows:
        for f in r.facts:
            decision = decisions.get(f.id)
            why = f"{decision_text(decision)}: {decision.reason}" if decision else decision_text(None)
            table.add_row(r.key, f"{f.kind}: {f.payload.get('told', '')}", why)
    return table


def hindsight_table(found: Sequence[Hindsight]) -> Table:
    """Whether each promotion helped."""
    table = _table(
        "Did it help? The version before went on scoring in the shadow",
        ("version", True), ("instead of", True), ("gain", True), ("bounds", True), ("on", False), ("verdict", False),
    )  # fmt: skip
    colours = {"helped": "green", "hurt": "red"}
    for h in found:
        colour, gain = colours.get(h.verdict, "default"), h.gain
        bounds = f"{gain.lower:+.4f} {gain.upper:+.4f}" if gain else ""
        told_gain = f"{gain.value:+.4f}" if gain else ""
        on = f"{h.partitions[0]} to {h.partitions[-1]}" if h.partitions else h.note
        table.add_row(f"v{h.version}", f"v{h.previous}", told_gain, bounds, on, f"[{colour}]{h.verdict}[/]")
    return table


def estimate_table(rows: Sequence[PartitionSummary]) -> Table:
    """The loss as it was estimated before the labels came, and as it was realised."""
    table = _table(
        "Estimated before the labels came, and realised",
        ("month", True), ("estimated", True), ("realised", True), ("95 % interval", True), ("error", True),
        ("AUC est.", True), ("AUC", True),
    )  # fmt: skip
    for r in rows:
        if r.loss is not None and r.estimate is not None:
            bounds = f"{r.interval[0]:.3f}-{r.interval[1]:.3f}" if r.interval else ""
            error = f"{r.loss - r.estimate:+.3f}"
            table.add_row(
                r.key, number(r.estimate), number(r.loss), bounds, error, number(r.estimated_auc), number(r.roc_auc)
            )
    return table


def never_table(rows: Sequence[PartitionSummary], never: Mapping[str, Mapping[str, float]], first: str) -> Table:
    """The same months had the first champion never been replaced, and what retraining gained."""
    table = _table(
        f"The same months had v{first} never been retrained",
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


GRID = 24
"""Partitions that the terminal shows of a grid."""


def grid_table(rows: Sequence[Mapping[str, str]], width: int = 80) -> Table:
    """One row a partition, one column a step; of many partitions the newest, and how many earlier ones there are."""
    colours = {"fresh": "green", "stale": "yellow", "BLOCKED": "bold red", "FAILED": "bold red", "RUNNING": "bold blue"}
    early = rows[:-GRID]
    undone = sum(any(v not in ("fresh", ".", row["partition"]) for v in row.values()) for row in early)
    title = f"{len(early)} earlier partitions, {undone} of them not fresh in every step" if early else ""
    table = _table(title, *((name, False) for name in (rows[0] if rows else {"partition": ""})))
    table.padding = (0, 0)  # eleven columns want 80
    if rows:
        for column, own in zip(table.columns, _widths(rows[-GRID:], width), strict=True):
            column.width = own
    for row in rows[-GRID:]:
        table.add_row(*(f"[{colours[v]}]{v}[/]" if v in colours else v for v in row.values()))
    return table


def _widths(rows: Sequence[Mapping[str, str]], width: int) -> list[int | None]:
    """How wide each column of a grid is: its longest cell, and as much of its heading as there is room for.

    None, but for the partition's, where not even the cells have room.
    """
    heads, cells = list(rows[0]), list(zip(*(row.values() for row in rows), strict=True))
    widths = [max(map(len, column)) for column in cells]
    spare = width - len(heads) - 1 - sum(widths)
    if spare < 0:
        return [widths[0], *[None] * (len(widths) - 1)]
    for i, head in enumerate(heads):
        more = min(spare, max(0, len(head) - widths[i]))
        widths[i], spare = widths[i] + more, spare - more
    return [*widths]


def time_table(spent: Mapping[str, float]) -> Table:
    """Where the wall time went."""
    table = _table("Where the time went", ("", False), ("seconds", True), ("share", True))
    total = sum(spent.values()) or 1
    for name, seconds in spent.items():
        table.add_row(name, f"{seconds:.0f}", f"{seconds / total:.0%}")
    table.add_row("together", f"{total:.0f}", "")
    return table
