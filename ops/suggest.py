"""Learn the expectations of a model again from its newest validated partitions: `make suggest MODEL=trains [PARTITIONS=12] [APPLY=1]`.

Prints the change of model.yaml as a unified diff, and writes nothing without APPLY=1. The expectations are learned as `make model FROM=`
learns them: values from valid rows, numbers of rows from all rows of a partition. Only lines that `make model` or this command has written
are changed. Expectations of a person stay, and count as present. Values of `personal` columns are never learned.
"""

import argparse
import difflib
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from configs.content import read_content
from configs.errors import ConfigError
from configs.load import parse_config
from configs.settings import ROOT
from ops.profiling.relearn import learn
from ops.profiling.rewrite import rewritten
from ops.terminal import print_error
from tasks.errors import EvergreenError
from tasks.resources import Resources, open_resources
from tasks.steps.publish import contract_problem
from tasks.storage.files import replacing
from tasks.storage.published_contract import read_history
from tasks.validation.expectations import check_arguments


def suggestion(res: Resources, partitions: int | None = None) -> tuple[str, str, str]:
    """Return model.yaml with the expectations learned again, from what they were learned, and how they break the published contract.

    Args:
        res: The resources of the model.
        partitions: Number of newest validated partitions. By default those of the training window, or all.

    Raises:
        ConfigError: No partition was validated, or the expectations of model.yaml are not a list of which each line is an entry.
    """
    path = res.model.folder / "model.yaml"
    _require_own_list(res, path)
    checks, source = learn(res, partitions)
    text = rewritten(path, checks, source)
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, suffix=".yaml", encoding="utf-8"
    ) as draft:  # beside it, for `extends`
        draft.write(text)
        draft.flush()
        config = parse_config(Path(draft.name))
    check_arguments(config)
    return text, source, contract_problem(replace(res.model, config=config), read_history(res.lake))


def _require_own_list(res: Resources, path: Path) -> None:
    """Require that the expectations are those of this model alone.

    Raises:
        ConfigError: Other models have them too.
    """
    if res.model.for_each:
        raise ConfigError(
            f"{path}: its expectations are those of all models of its for_each, and one model's rows do not suffice for them; "
            f"give {res.model.name} a folder of its own, with `extends` and its expectations"
        )
    content = read_content(path)
    if (own := content.file_of(("expectations",))) != path and "expectations" in content.merged:
        raise ConfigError(
            f"{path}: its expectations are those of {own}, which other models may extend; copy the list into {path}"
        )


def diff(path: Path, text: str) -> str:
    """Return the change of a file as a unified diff, which `git apply` takes; empty if there is none."""
    name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    before = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(difflib.unified_diff(before, text.splitlines(keepends=True), f"a/{name}", f"b/{name}"))


def suggest(name: str, partitions: int | None, apply: bool) -> None:
    """Print the diff of a model's expectations, and write it with `apply`. Notes go to stderr."""
    res = open_resources(name)
    path = res.model.folder / "model.yaml"
    text, source, problem = suggestion(res, partitions)
    change = diff(path, text)
    print(change, end="")
    if not change:
        print(f"{path}: the expectations are those of {source}; nothing to change", file=sys.stderr)
    elif apply:
        with replacing(path) as copy:
            copy.write_text(text, encoding="utf-8")
        print(f"wrote {path}, learned from {source}. `make lint` checks it", file=sys.stderr)
    else:
        note = (
            f"learned from {source}; nothing is written. Review it, then `make suggest MODEL={name} APPLY=1` writes it"
        )
        print(note, file=sys.stderr)
    if change and problem:
        print(f"note: {problem}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the suggested change. The exit status is 0 also if there is one, 2 if the model or its data do not allow it."""
    parser = argparse.ArgumentParser(
        prog="make suggest", usage="make suggest MODEL=trains [PARTITIONS=12] [APPLY=1]", description=__doc__
    )
    parser.add_argument("model")
    parser.add_argument("--partitions", default="")
    parser.add_argument("--apply", default="")
    given = parser.parse_args(arguments)
    try:
        if given.partitions and not (given.partitions.isdigit() and int(given.partitions)):
            raise ConfigError(f"PARTITIONS={given.partitions}: is not a number of partitions; write one such as 12")
        if given.apply not in ("", "0", "1"):
            raise ConfigError(f"APPLY={given.apply}: write APPLY=1 to write the file, or leave it out")
        suggest(given.model, int(given.partitions) if given.partitions else None, given.apply == "1")
    except (ConfigError, EvergreenError) as error:
        return print_error(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
