"""Try a written model on the data: it loads, its first and last partition can be read, and no rule is one that cannot work."""

from typing import TYPE_CHECKING

from configs.load import load_model
from ops.profiling.values import UnusableData
from tasks.errors import EvergreenError
from tasks.storage.partitions import partition

if TYPE_CHECKING:
    from pathlib import Path

    from configs.load import Model


def try_model(name: str, folder: "Path", keys: tuple[str, ...]) -> None:
    """Read rows and outcomes of the first and the last of some partitions.

    Raises:
        UnusableData: They cannot be read, or have no rows.
    """
    from tasks.validation.expectations import check_arguments

    model = load_model(name, folder)
    check_arguments(model.config)
    for key in dict.fromkeys((keys[0], keys[-1])):
        try:
            _read(model, key)
        except EvergreenError as error:
            raise UnusableData(f"the model that was written cannot read partition {key}: {error}") from error


def _read(model: "Model", key: str) -> None:
    from tasks.source.rows import read_labels, read_source

    ref = partition(model.config, key)
    rows, labels = read_source(model, ref), read_labels(model, ref)
    if not rows.num_rows:
        raise UnusableData(f"the model that was written reads no rows of partition {key}")
    unknown = set(labels.column(model.config.key).to_pylist()) - set(rows.column(model.config.key).to_pylist())
    if unknown:
        raise UnusableData(f"the model that was written reads {len(unknown):,} outcomes of {key} without their rows")
