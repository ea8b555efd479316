"""The demo's tables: every number where a reader looks for it, and gains with the right sign."""

import io
from datetime import UTC, datetime

from rich.console import Console

from ops.tables import gate_table, grid_table, never_table, time_table, year_table
from tasks.contracts import Decision, Fact, Promotion
from tasks.summary import PartitionSummary

AS_OF = datetime(2013, 6, 2, tzinfo=UTC)


def text(table) -> list[list[str]]:
    """The cells of a table as it is printed 80 columns wide, row by row."""
    console = Console(file=io.StringIO(), width=80)
    console.print(table)
    return [line.split() for line in console.file.getvalue().splitlines()]


def row(key: str, auc: float | None, loss: float | None, **changes) -> PartitionSummary:
    given = {
        "rows": 28796, "quarantined": 3, "blocked": "", "version": "2", "mature": 28000,
        "drift_share": 0.6,
    }  # fmt: skip
    return PartitionSummary(key=key, roc_auc=auc, log_loss=loss, **(given | changes))


def test_a_month_is_one_line_of_80_columns_with_what_retraining_decided():
    fact = Fact("f", "flights", "drift", "2013-05", AS_OF, {})
    decision = Decision("f", "flights", AS_OF, "retrain", "drift", "why", outcome="refused", version="3")
    lines = text(year_table([row("2013-05", 0.7321, 0.4664, facts=(fact,), decision=decision)]))
    expected = ["2013-05", "28,796", "3", "v2", "0.732", "0.466", "60%", "drift", "retrained:", "refused"]
    assert expected in lines


def test_a_month_without_predictions_or_labels_has_gaps_and_no_false_numbers():
    lines = text(year_table([row("2013-05", None, None, rows=None, version=None, drift_share=None, quarantined=None)]))
    assert ["2013-05", "blocked", "0", "-"] in lines


def test_gains_count_what_retraining_made_better():
    rows = [row("2013-05", 0.73, 0.46), row("2013-06", 0.70, 0.52), row("2013-07", None, None)]
    never = {"2013-05": {"roc_auc": 0.70, "log_loss": 0.50}, "2013-06": {"roc_auc": 0.72, "log_loss": 0.50}}
    lines = text(never_table(rows, never, "2"))
    assert ["2013-05", "0.700", "0.500", "+0.030", "+0.040"] in lines
    assert ["2013-06", "0.720", "0.500", "-0.020", "-0.020"] in lines
    assert ["mean", "0.710", "0.500", "+0.005", "+0.010"] in lines
    assert not any("2013-07" in line for line in lines)


def test_the_grid_has_a_line_a_partition():
    assert ["2013-01", "fresh", "BLOCKED"] in text(
        grid_table("", [{"partition": "2013-01", "raw": "fresh", "valid": "BLOCKED"}])
    )


def test_the_times_add_up():
    lines = text(time_table({"process": 30.0, "assess": 10.0}))
    assert ["process", "30", "75%"] in lines
    assert ["together", "40"] in lines


def test_the_gates_table_says_what_became_of_each_version():
    moment = datetime(2013, 6, 2, tzinfo=UTC)

    def of(action: str, version: str, to: str, passed: bool, gain: float | None) -> Promotion:
        numbers = {"mean": gain, "lower": gain - 0.01} if gain else None
        evidence = {"verdicts": [{"rule": "gain over the champion, lower bound", "passed": passed}], "gain": numbers}
        previous = "2" if gain else None
        return Promotion("m", 1, action, version, previous, moment, moment, "evergreen", "r", evidence, to_stage=to)

    rows = [
        of("stage", "2", "challenger", True, None),
        Promotion("m", 2, "promote", "2", None, moment, moment, "evergreen", "r", to_stage="champion"),
        of("refuse", "3", "refused", False, 0.0076),
    ]
    lines = text(gate_table(rows))
    assert ["2013-06-02", "v2", "-", "passed,", "champion"] in lines
    assert ["2013-06-02", "v3", "v2", "+0.0076", "-0.0024", "refused:", "gain", "over", "the"] in lines
