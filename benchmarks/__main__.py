"""Run every benchmark and print its ratio: python -m benchmarks [subject ...]."""

import importlib
import pkgutil
import sys

from rich.console import Console
from rich.table import Table

import benchmarks
from configs.settings import silence_vendors

NOT_SUBJECTS = {"harness", "__main__"}


def main() -> int:
    console = Console(highlight=False)
    known = [m.name for m in pkgutil.iter_modules(benchmarks.__path__) if m.name not in NOT_SUBJECTS]
    unknown = set(sys.argv[1:]) - set(known)
    if unknown:
        console.print(f"error: no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
        return 2
    silence_vendors()
    table = Table("subject", "against", "ours, CPU s", "theirs, CPU s", "ratio", "range of ratios", box=None)
    for name in sys.argv[1:] or known:
        subject = importlib.import_module(f"benchmarks.{name}")
        with console.status(name):
            if hasattr(subject, "report"):  # rates, not ratios of time
                subject.report(console)
                continue
            rows = subject.rows()
        for row in rows:
            low, high = row.spread
            table.add_row(
                row.subject,
                row.against,
                f"{row.ours:.2f}",
                f"{row.theirs:.2f}",
                f"{row.ratio:.2f}",
                f"{low:.2f}-{high:.2f}",
            )
    if table.row_count:
        console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
