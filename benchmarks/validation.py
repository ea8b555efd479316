"""Validating a month of flights: our two passes against one pass of Great Expectations that lists every row."""

from benchmarks.harness import Row, compare
from configs.load import load_model
from tasks.partitions import partition
from tasks.source.rows import read_source
from tasks.validation.expectations import _batch, _each, _run, check, structural

MONTH = "2013-05"


def rows() -> list[Row]:
    model = load_model("flights")
    frame = read_source(model, partition(model.config, MONTH)).to_pandas()
    rules = structural(model.config) + model.config.expectations
    checks = list(_each(rules))

    def ours() -> object:
        return check(frame, rules, model.config.key)

    def theirs() -> object:
        return _run(_batch(frame), frame, checks, "COMPLETE")

    return [compare(f"validation of flights {MONTH}", "one COMPLETE run", ours, theirs)]
