"""What the gate costs or saves: retraining at every partition with the gate, without it, and never, on each data set.

    python -m benchmarks always

Replays flights by the month and by the week, and electricity by the week, from the bundled files. Every policy learns and scores with
the functions of production. `every` and `always` start the same trainings: `every` promotes what passes the gate, `always` promotes
everything. Losses are means over labelled rows. The difference to `always` is on the same rows, with a 95 % interval (bootstrap over
days, with their measured autocorrelation). Below 0, the policy is better than promoting everything. Writes the tables into
docs/results.md and README.md. Takes about an hour on two cores.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from configs.settings import ROOT

if TYPE_CHECKING:
    from configs.schema import ModelConfig
    from tasks.contracts import PolicyRun

POLICIES = ("never", "every", "every_3rd", "always", "always_3rd")
PAGES = {"docs/results.md": POLICIES, "README.md": ("never", "every", "always")}
"""The pages with the tables, and the policies that each shows."""
BEGIN, END = "<!-- made by `python -m benchmarks always` -->\n", "<!-- end -->\n"


def by_the_week() -> dict[str, Any]:
    """Return the override of flights that makes weekly partitions. Its rule on their number of rows is for months."""
    import yaml

    content = yaml.safe_load((ROOT / "configs" / "flights" / "model.yaml").read_text())
    rows = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1000, "max_value": 30000}}
    return {"partition": {"every": "W"}, "expectations": [rows, *content["expectations"][1:]]}


@dataclass(frozen=True)
class DataSet:
    """A model on a range of partitions."""

    title: str
    model: str
    start: str
    end: str
    override: Callable[[], dict[str, Any]] = dict


DATA_SETS = {
    "flights by the month": DataSet("flights by the month", "flights", "2013-04", "2013-12"),
    "flights by the week": DataSet("flights by the week", "flights", "2013-W14", "2013-W52", by_the_week),
    "electricity by the week": DataSet("electricity by the week", "electricity", "1996-W45", "1998-W49"),
}


@dataclass(frozen=True)
class Row:
    """The result of one policy."""

    policy: str
    loss: float
    retrainings: int
    refused: int
    difference: str
    """Loss minus that of `always`, with its 95 % interval. Empty for `always`."""


@contextmanager
def empty_lake() -> Iterator[None]:
    """Read and write a lake of its own, with one thread, so that the results are the same on each machine."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        os.environ |= {
            "EVERGREEN_LAKE": str(home / "lake"),
            "EVERGREEN_HOME": str(home / "home"),
            "EVERGREEN_THREADS": "1",
            "EVERGREEN_DATABASE_URL": f"sqlite:///{home}/ledger.db",
        }
        yield


def measure(data: DataSet, names: Sequence[str] = POLICIES) -> "tuple[dict[str, PolicyRun], ModelConfig]":
    """Replay each policy on a data set."""
    from tasks.replay.policies import policies
    from tasks.replay.setup import open_replayed_model, prepare_replay, prepare_variant
    from tasks.replay.simulate import simulate_policy

    live = open_replayed_model(data.model, data.override())
    prepare_variant(live.ref(data.end).end, live)
    setup = prepare_replay(data.start, data.end, live)
    chosen = policies(live.config, names, {})
    return {name: simulate_policy(name, chosen[name], setup.begin, setup.refs, live) for name in names}, live.config


def rows_of(runs: "Mapping[str, PolicyRun]", config: "ModelConfig") -> list[Row]:
    """Return each policy's loss, and its difference to `always`."""
    from tasks.replay.standings import compare, counted_retrainings, mean_loss

    rows = []
    for name, run in runs.items():
        gain = compare(runs["always"], run, config) if name != "always" else None
        difference = f"{gain.value:+.4f} [{gain.lower:+.4f}, {gain.upper:+.4f}]" if gain else ""
        retrainings = counted_retrainings(run)
        refused = len([d for d in retrainings if d.outcome == "refused"])
        rows.append(Row(name, mean_loss(run, config.target.eval_loss), len(retrainings), refused, difference))
    return rows


def markdown(tables: Mapping[str, Sequence[Row]], shown: Sequence[str]) -> str:
    """Return the results of some policies on all data sets as one markdown table."""
    lines = [
        "| data | policy | log loss | retrained | refused | minus `always`, 95 % |",
        "|---|---|---:|---:|---:|---|",
    ]
    for title, rows in tables.items():
        lines += [
            f"| {title} | `{row.policy}` | {row.loss:.4f} | {row.retrainings} | {row.refused} | {row.difference} |"
            for row in rows
            if row.policy in shown
        ]
    return "\n".join(lines) + "\n"


def write(tables: Mapping[str, Sequence[Row]]) -> None:
    """Replace the tables in the pages."""
    for name, shown in PAGES.items():
        before, _, rest = (ROOT / name).read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        (ROOT / name).write_text(before + BEGIN + markdown(tables, shown) + END + after)


def report(console: Console) -> None:
    """Print a table for each data set, and write them into the pages."""
    tables = {}
    with empty_lake():
        for data in DATA_SETS.values():
            began = time.monotonic()
            runs, config = measure(data)
            tables[data.title] = rows = rows_of(runs, config)
            table = Table(data.title, "loss", "retrained", "refused", "minus always, 95 %", box=None)
            for row in rows:
                table.add_row(row.policy, f"{row.loss:.4f}", str(row.retrainings), str(row.refused), row.difference)
            console.print(table)
            console.print(f"{time.monotonic() - began:.0f} s\n")
    write(tables)
    console.print(f"Written: {' and '.join(PAGES)}")
