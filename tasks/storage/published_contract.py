"""The published contract of a model: derived from model.yaml, and recorded beside the lake.

    <root>/<model>/contract.json    its versions, oldest first

The record of each published output has the version that it was written under, `contract` in its data. One without it is older than the
first recorded version, and counts as that.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from configs.expectations import Expectation
from configs.schema import ModelConfig
from tasks.contracts import Record, Stage
from tasks.contracts.published import ContractVersion, Promise, PublishedColumn, PublishedContract, Role
from tasks.errors import UnreadableContract
from tasks.storage.files import replacing
from tasks.storage.lake import STAGES_WITH_ROWS, Lake

FILE = "contract.json"
KEY = "contract"
"""Key in a record's data with the version of the contract."""
PUBLISHED_STAGES = tuple(stage for stage in STAGES_WITH_ROWS if stage is not Stage.SKETCHES)
"""Datasets that other teams read."""
NOT_NULL = "expect_column_values_to_not_be_null"
COLUMN_ARGUMENTS = ("column", "column_A", "column_B")
History = tuple[ContractVersion, ...]
"""The versions of a contract, oldest first."""
_HISTORY = TypeAdapter(History)


def published_contract(config: ModelConfig) -> PublishedContract:
    """Return what a model.yaml promises to readers."""
    target = config.target
    promises = tuple(p for p in promises_of(config.expectations) if p.severity != "info")  # those only report
    return PublishedContract(
        columns={name: _column(name, role, config, promises) for name, role in column_roles(config).items()},
        every=config.partition.every,
        timezone=config.partition.timezone,
        grace=config.partition.grace,
        delay=target.delay,
        key_meaning=" ".join(config.dictionary.get(config.key, "").split()),
        target_kind=target.kind,
        classes=target.classes,
        promises=promises,
    )


def column_roles(config: ModelConfig) -> dict[str, Role]:
    """Return the role of each column, in the order of the valid rows. The target is last. Retired features are features."""
    roles: dict[str, Role] = {config.key: "key", config.time: "time"}
    roles |= dict.fromkeys(config.features.all, "feature")
    return roles | dict.fromkeys(config.groups, "group") | {config.target.column: "target"}


def _column(name: str, role: Role, config: ModelConfig, promises: Sequence[Promise]) -> PublishedColumn:
    number = name in config.features.numeric or (role == "target" and config.target.kind != "multiclass")
    never_null = any(
        p.type == NOT_NULL and p.columns == (name,) and p.arguments.get("mostly", 1) == 1 for p in promises
    )
    return PublishedColumn(
        type="timestamp[us, tz=UTC]" if role == "time" else "double" if number else "string",
        role=role,
        nullable=not (never_null or role in ("key", "time")),
        personal=name in config.personal,
        whole=name in config.features.whole,
    )


def promises_of(expectations: Iterable[Expectation]) -> Iterator[Promise]:
    """Yield each check of some expectations."""
    for expectation in expectations:
        for arguments in expectation.checks():
            plain: dict[str, Any] = json.loads(
                json.dumps(arguments, default=str), parse_constant=str
            )  # dates and infinity as text
            columns = [plain.pop(name) for name in COLUMN_ARGUMENTS if name in plain] + plain.pop("column_list", [])
            yield Promise(expectation.type, tuple(columns), expectation.severity, plain)


def read_history(lake: Lake) -> History:
    """Return the recorded versions of the contract, oldest first; none if nothing was published yet.

    Raises:
        UnreadableContract: the file is damaged.
    """
    path = lake.root / FILE
    try:
        return _HISTORY.validate_python(json.loads(path.read_bytes())["versions"])
    except FileNotFoundError:
        return ()
    except (ValueError, TypeError, KeyError) as error:
        raise UnreadableContract(
            f"{path} cannot be read: {type(error).__name__}. It has the versions of the published contract, which are not known "
            f"without it. Restore it from a backup. If there is none, delete it: the present model.yaml is then published"
        ) from error


def write_history(lake: Lake, history: History) -> None:
    """Write the versions of the contract. A reader finds the file as it was before or as it is after."""
    content = {"model": lake.model, "versions": _HISTORY.dump_python(history, mode="json")}
    with replacing(lake.root / FILE) as draft:
        draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def updated_history(history: History, config: ModelConfig, first: str, now: datetime) -> History:
    """Return the history with the contract of a model.yaml, which must not break it.

    A version that is already there gets the present content: columns and promises that were added under the same version hold too.

    Args:
        history: The versions so far, oldest first.
        config: The model's config.
        first: The first partition of a new version.
        now: The moment of a new version.
    """
    newest, contract, keys = history[-1] if history else None, published_contract(config), config.contract
    if newest is None or keys.version > newest.version:
        return (*history, ContractVersion(keys.version, first, now, keys.owner, contract))
    same = ContractVersion(newest.version, newest.first, newest.recorded_at, keys.owner, contract)
    return (*history[:-1], same)


def version_of(record: Record, history: History, config: ModelConfig) -> int:
    """Return the version of the contract that an output was written under."""
    return int(record.data.get(KEY) or (history[0].version if history else config.contract.version))
