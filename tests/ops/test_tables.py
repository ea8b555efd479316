"""The demo's tables: each number is in the right row, and gains have the right sign."""

import io
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from ops.tables import (
    decision_table,
    estimate_table,
    gate_table,
    grid_table,
    hindsight_table,
    never_table,
    time_table,
    year_table,
)
from tasks.contracts import Action, Decision, Fact, Hindsight, Interval, ModelStage, Promotion
from tasks.reports.summary import PartitionSummary
from tasks.steps.order import ALL

AS_OF = datetime(2013, 6, 2, tzinfo=UTC)


def text(table) -> list[list[str]]:
    """Print a table 80 columns wide and return the words of each line."""
    output = io.StringIO()
    Console(file=output, width=80).print(table)
    return [line.split() for line in output.getvalue().splitlines()]


def row(key: str, auc: float | None, log_loss: float | None, **changes) -> PartitionSummary:
    defaults: dict[str, Any] = {
        "rows": 28796, "quarantined": 3, "blocked": "", "version": "2", "mature": 28000,
        "drift_share": 0.6,
    }  # fmt: skip
    return PartitionSummary(key=key, roc_auc=auc, log_loss=log_loss, **(defaults | changes))


def test_a_month_is_one_line_of_80_columns_with_the_retraining_decision():
    fact = Fact("f", "flights", "drift", "2013-05", AS_OF, {})
    decision = Decision("f", "flights", AS_OF, "retrain", "drift", "why", outcome="refused", version="3")
    lines = text(year_table([row("2013-05", 0.7321, 0.4664, facts=(fact,), decision=decision)]))
    expected = ["2013-05", "28,796", "3", "v2", "0.732", "0.466", "60.0%", "drift", "retrained:", "refused"]
    assert expected in lines


def test_a_month_without_predictions_and_labels_has_empty_cells():
    lines = text(year_table([row("2013-05", None, None, rows=None, version=None, drift_share=None, quarantined=None)]))
    assert ["2013-05", "blocked", "-"] in lines


def test_gains_from_retraining_have_the_right_sign():
    rows = [row("2013-05", 0.73, 0.46), row("2013-06", 0.70, 0.52), row("2013-07", None, None)]
    never = {"2013-05": {"roc_auc": 0.70, "log_loss": 0.50}, "2013-06": {"roc_auc": 0.72, "log_loss": 0.50}}
    lines = text(never_table(rows, never, "2"))
    assert ["2013-05", "0.700", "0.500", "+0.030", "+0.040"] in lines
    assert ["2013-06", "0.720", "0.500", "-0.020", "-0.020"] in lines
    assert ["mean", "0.710", "0.500", "+0.005", "+0.010"] in lines
    assert not any("2013-07" in line for line in lines)


def test_the_grid_has_one_line_per_partition():
    assert ["2013-01", "fresh", "BLOCKED"] in text(
        grid_table([{"partition": "2013-01", "ingest": "fresh", "validate": "BLOCKED"}])
    )


def test_a_grid_of_every_step_fits_80_columns_and_a_long_grid_counts_the_rows_left_out():
    verbs = [step.verb for step in ALL if step.verb != "shadow"]  # off by default
    days = [f"2013-{month:02d}-{day:02d}" for month in (1, 2) for day in range(1, 29)]
    rows = [{"partition": day, **dict.fromkeys(verbs, "fresh")} for day in days]
    rows[3]["watch"] = "-"
    lines = text(grid_table(rows))
    assert ["partition", *verbs] in lines
    assert [days[-1], *["fresh"] * len(verbs)] in lines
    assert ["32", "earlier", "partitions,", "1", "of", "them", "not", "fresh", "in", "every", "step"] in lines
    assert len([line for line in lines if line and line[0].startswith("2013-")]) == 24


def test_a_grid_that_is_too_wide_shortens_its_headings_and_no_partition():
    row = {"partition": "2013-02-01T05", **dict.fromkeys([step.verb for step in ALL], "fresh"), "validate": "BLOCKED"}
    assert ["2013-02-01T05", "fresh", "BLOCKED", *["fresh"] * 8] in text(grid_table([row]))
    everything = text(grid_table([row | dict.fromkeys(list(row)[1:], "missing")]))
    assert any(line[:1] == ["2013-02-01T05"] and len(line) == 11 for line in everything)


def test_the_times_add_up():
    lines = text(time_table({"process": 30.0, "assess": 10.0}))
    assert ["process", "30", "75%"] in lines
    assert ["total", "40"] in lines


def test_the_gate_table_shows_the_verdict_and_last_stage_of_each_version():
    moment = datetime(2013, 6, 2, tzinfo=UTC)

    def of(action: Action, version: str, to: ModelStage, passed: bool, gain: float | None) -> Promotion:
        numbers = {"mean": gain, "lower": gain - 0.01, "upper": gain + 0.01} if gain else None
        evidence = {
            "verdicts": [{"rule": "gain over the champion, lower bound", "passed": passed}],
            "gain": numbers,
            "burden": "refresh",
        }
        previous = "2" if gain else None
        return Promotion("m", 1, action, version, previous, moment, moment, "evergreen", "r", evidence, to_stage=to)

    rows = [
        of("stage", "2", "challenger", True, None),
        Promotion("m", 2, "promote", "2", None, moment, moment, "evergreen", "r", to_stage="champion"),
        of("refuse", "3", "refused", False, 0.0076),
    ]
    lines = text(gate_table(rows))
    assert ["2013-06-02", "v2", "first", "passed,", "champion"] in lines
    assert [
        "2013-06-02",
        "v3",
        "refresh",
        "of",
        "v2",
        "+0.0076",
        "≤+0.0176",
        "refused:",
        "gain",
        "over",
        "the",
    ] in lines
    later = [replace(row, version="4", previous="2", sequence=9) for row in rows[:2]]
    lines = text(gate_table([*rows, *later]))
    assert ["2013-06-02", "v2", "first", "passed,", "earlier"] in lines
    assert ["2013-06-02", "v4", "refresh", "of", "v2", "passed,", "champion"] in lines


def test_each_signal_is_shown_with_its_decision_and_reason():
    signals = (("a", "drift", "2 columns"), ("b", "due", "x"))
    facts = tuple(Fact(n, "flights", kind, "2013-05", AS_OF, {"told": message}) for n, kind, message in signals)
    decision = Decision("a", "flights", AS_OF, "decline", "cool-down", "10 days")
    lines = text(decision_table([row("2013-05", 0.7, 0.5, facts=facts)], {"a": decision}))
    assert ["2013-05", "drift:", "2", "columns", "declined:", "cool-down:", "10", "days"] in lines
    assert ["2013-05", "due:", "x", "no", "decision", "yet"] in lines


def test_the_measured_effect_of_a_promotion_is_one_line():
    helped = Hindsight(
        "flights", 3, "5", "2", AS_OF, "helped", Interval(0.012, 0.001, 0.023), ("2013-08", "2013-09"), 9
    )
    early = Hindsight("flights", 4, "6", "5", AS_OF, "neutral", None, (), 0, "replaced after 0 of 2 partitions")
    lines = text(hindsight_table([helped, early]))
    assert ["v5", "v2", "+0.0120", "+0.0010", "+0.0230", "2013-08", "to", "2013-09", "helped"] in lines
    assert any(line[:2] == ["v6", "v5"] and "neutral" in line for line in lines)


def test_estimated_and_realised_loss_are_in_one_row_and_months_without_estimate_are_left_out():
    rows = [
        row(
            "2013-05",
            0.73,
            0.46,
            loss=0.46,
            skill=0.081,
            estimate=0.43,
            estimate_interval=(0.41, 0.52),
            estimated_auc=0.7,
        ),
        row("2013-06", 0.7, 0.5),
    ]
    lines = text(estimate_table(rows))
    assert ["2013-05", "0.430", "0.410-0.520", "0.460", "+0.030", "8.1%", "0.700", "0.730"] in lines
    assert not any("2013-06" in line for line in lines)
