"""The published contract while partitions are processed: refuse what breaks it undeclared, and record its versions.

A variant and a replay publish nothing: their config is not that of production.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

from configs.load import Model
from tasks.contracts import PartitionRef, Stage
from tasks.errors import ContractBroken, EvergreenError
from tasks.ledger.claims import Claims
from tasks.resources import Resources
from tasks.storage.contract_changes import breaking_changes
from tasks.storage.published_contract import (
    KEY,
    PUBLISHED_STAGES,
    History,
    published_contract,
    read_history,
    updated_history,
    write_history,
)


@contextmanager
def publishing(stage: Stage, ref: PartitionRef, res: Resources) -> Iterator[Mapping[str, int]]:
    """Write an output in the body. When valid rows are written, the contract is recorded.

    Yields:
        What the output's record has about the contract: its version. Empty if the output is not published.

    Raises:
        ContractBroken: model.yaml breaks the contract under its version. Only the failure is noted.
        UnreadableContract: the recorded contract is damaged.
    """
    if not res.lake.publishes or stage not in PUBLISHED_STAGES:
        yield {}
        return
    version, history = {KEY: res.config.contract.version}, _kept_history(stage, ref, res)
    if stage is not Stage.VALID or _with_present(history, ref, res) == history:
        yield version
        return
    with Claims(res.settings.database, f"{res.title}: contract", res.flow_run).hold(KEY):
        history = _kept_history(stage, ref, res)  # another process may have recorded another version in the meantime
        yield version
        record = res.lake.record(Stage.VALID, ref.key)
        if record and record.status == "done":
            write_history(res.lake, _with_present(history, ref, res))


def _kept_history(stage: Stage, ref: PartitionRef, res: Resources) -> History:
    """Return the recorded contract, which model.yaml must keep. Otherwise note the failure of the step, and raise it."""
    try:
        history = read_history(res.lake)
        if problem := contract_problem(res.model, history):
            raise ContractBroken(f"{problem}. Nothing was written")
    except EvergreenError as error:
        res.lake.write_failure(ref, stage, error)
        raise
    return history


def _with_present(history: History, ref: PartitionRef, res: Resources) -> History:
    """Return the history with the contract of the present model.yaml."""
    first = ref.key if history else min([ref.key, *res.lake.keys(Stage.VALID)])
    return updated_history(history, res.config, first, datetime.now(UTC))


def contract_problem(model: Model, history: History) -> str:
    """Return how model.yaml breaks the newest recorded contract undeclared, and the way out; empty if it keeps it."""
    if not history:
        return ""
    published, version, path = history[-1], model.config.contract.version, model.folder / "model.yaml"
    next_version = f"raise contract.version to {published.version + 1} or more"
    if version < published.version:
        return (
            f"{path}: contract.version: is {version}, but version {published.version} is published since {published.first}. Versions "
            f"only go up: write {published.version}, or {next_version} if the contract is to be another one"
        )
    if version > published.version:
        return ""
    changes = "; ".join(map(str, breaking_changes(published.contract, published_contract(model.config))))
    if not changes:
        return ""
    return (
        f"{path}: breaks version {version} of the published contract, on which other teams rely: {changes}. If that is meant, "
        f"{next_version}; otherwise take the change back"
    )
