"""Compare changed models with those of a git revision on history, before the change is merged.

make compare BASE=main [MODEL=flights] [START=2013-04] [END=2013-12] [POLICY=every]

Replays the model of the working tree and that of the revision on the same past partitions, and writes one Markdown comment to standard
output and to `compare.md` in the home folder. Both read the sources as they are. Nothing is written to the lake, the ledger or MLflow: a
replay has its own folder, which is deleted afterwards. Without MODEL, all models are compared whose folder differs.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from configs.errors import ConfigError, UnknownModel
from configs.load import Model, configs_folder, load_model, model_names
from configs.settings import Settings, disable_telemetry, load_settings
from ops.base_revision import commit_of, extract_models, same_model
from ops.play_range import training_partitions
from ops.programs import home_of
from ops.terminal import print_error
from tasks.contracts import PartitionRef
from tasks.contracts.escape import for_markdown
from tasks.errors import EvergreenError
from tasks.source.extent import available_partitions
from tasks.storage.files import digest_json, replacing
from tasks.storage.folders import make_home
from tasks.storage.partitions import NoPartition, partition

MARK = "<!-- evergreen compare -->"
"""First line of the comment, by which the workflow finds it again."""
MODELING = {
    "training",
    "gate",
    "promotion",
    "retraining",
    "replay",
    "description",
    "dictionary",
    "retention",
    "contract",
    "publish",
}
"""Keys of model.yaml on which the ingested and validated rows do not depend."""


@dataclass(frozen=True)
class Request:
    """What to compare. Empty texts stand for the defaults.

    Attributes:
        base: The git revision as it was given.
        commit: Its commit.
        folder: An empty folder, which has the base's models and what the replays write.
    """

    base: str
    commit: str
    folder: Path
    start: str = ""
    end: str = ""
    policy: str = ""

    @property
    def base_name(self) -> str:
        """The revision with its commit, such as `main (1a2b3c4)`. Only the commit if the revision is no branch or tag."""
        short = self.commit[:7]
        return short if self.base.startswith("HEAD") or self.commit.startswith(self.base) else f"{self.base} ({short})"


def compare_model(name: str, request: Request, progress: Console) -> tuple[list[str], bool]:
    """Compare one model.

    Returns:
        Markdown lines, and False if the changed model cannot be loaded or replayed.
    """
    base_configs, configs = request.folder / "configs", configs_folder()
    extract_models(request.commit, configs, base_configs)
    is_known, base_name = name in model_names(base_configs), for_markdown(request.base_name)
    if is_known and same_model(name, base_configs, configs):
        return [f"Nothing has changed since {base_name}."], True
    try:
        change = load_model(name)
    except UnknownModel:
        raise
    except ConfigError as error:
        return ["**The changed model is not valid**:", *quoted(error)], False
    if not is_known:
        return [f"The model is new: {base_name} does not have it, so there is nothing to compare with."], True
    try:
        base = load_model(name, base_configs)
    except ConfigError as error:
        return [
            f"The model of {base_name} is not valid with this code, so there is nothing to compare with:",
            *quoted(error),
        ], True
    return _compare(base, change, request, progress)


def _compare(base: Model, change: Model, request: Request, progress: Console) -> tuple[list[str], bool]:
    """Replay both sides and compare them."""
    from tasks.replay.change import compare_sides, replay_side
    from tasks.reports.replay.change import change_lines, changed_keys

    if not changed_keys(base, change):
        return [
            f"Only comments, layout or descriptions have changed since {for_markdown(request.base_name)}: no result can differ."
        ], True
    sides, settings = [], replay_settings(request.folder)
    for title, model in (("change", change), ("base", base)):
        try:
            start, end = choose_range(model, base, change, request)
            progress.print(f"{model.name}: replaying the {title}, {start} to {end} ...", markup=False)
            sides.append(replay_side(model, lake_settings(model, settings), request.policy, start, end))
        except (EvergreenError, ConfigError, NoPartition) as error:
            if title == "change":
                return ["**The changed model cannot be replayed**:", *quoted(error)], False
            return [
                f"The model of {for_markdown(request.base_name)} cannot be replayed, the changed one can:",
                *quoted(error),
            ], True
    return change_lines(compare_sides(sides[1], sides[0]), request.base_name), True


def replay_settings(folder: Path) -> Settings:
    """Return the settings with lake, ledger and home in a folder of the replay."""
    paths = {"lake": str(folder / "lake"), "home": folder / "home", "database_url": f"sqlite:///{folder}/ledger.db"}
    return load_settings().model_copy(update=paths)


def lake_settings(model: Model, settings: Settings) -> Settings:
    """Return the settings with a lake for all models that have the same rows, so that base and change share them if they can."""
    rules = model.config.model_dump(mode="json", exclude=MODELING)
    return settings.model_copy(
        update={"lake": f"{settings.lake}-{digest_json([rules, model.source_sql, model.labels_sql])[:8]}"}
    )


def choose_range(model: Model, base: Model, change: Model, request: Request) -> tuple[str, str]:
    """Return the first and last partition of a side: those within the range that both sides can score.

    By default it starts after the partitions that the first training needs, and ends with the last one whose labels have matured.

    Raises:
        NoPartition: No partition is in that range.
    """
    ranges = [_scorable(m) for m in (base, change)]
    start, end = max(r[0].start for r in ranges), min(r[-1].end for r in ranges)
    if request.start:
        start = partition(change.config, request.start).start
    if request.end:
        end = partition(change.config, request.end).end
    keys = [
        key
        for key in available_partitions(model)
        if start <= partition(model.config, key).start and partition(model.config, key).end <= end
    ]
    if not keys:
        raise NoPartition(
            f"{model.name}: no partition lies between {start:%Y-%m-%d} and {end:%Y-%m-%d}; choose START and END"
        )
    return keys[0], keys[-1]


def _scorable(model: Model) -> list[PartitionRef]:
    """Return the partitions with matured labels after those that the first training needs.

    Raises:
        NoPartition: There are none.
    """
    refs = [partition(model.config, key) for key in available_partitions(model)]
    matured = [ref for ref in refs if ref.matured <= datetime.now(UTC)]
    first = training_partitions([ref.key for ref in matured], model.config)
    if first >= len(matured):
        raise NoPartition(
            f"{model.name}: of {len(matured)} partitions with matured labels, a first training needs {first}; nothing is left to score"
        )
    return matured[first:]


def quoted(error: Exception) -> list[str]:
    """Return an error message as a block of Markdown code."""
    return ["", *(f"    {line}" for line in str(error).splitlines())]


def compare_all(names: Sequence[str], request: Request, progress: Console) -> tuple[str, bool]:
    """Compare models; return the comment, and False if a changed model cannot be loaded or replayed."""
    lines, valid = [MARK], True
    for name in names:
        own, is_valid = compare_model(name, request, progress)
        lines, valid = (
            [*lines, f"## Comparison of {name} with {for_markdown(request.base_name)}", "", *own, ""],
            valid and is_valid,
        )
    if not names:
        lines.append(f"No model differs from {for_markdown(request.base_name)}.")
    return "\n".join(lines).rstrip() + "\n", valid


def changed_models(commit: str) -> list[str]:
    """Return the models of the working tree whose folder differs from that of the commit."""
    configs = configs_folder()
    with tempfile.TemporaryDirectory() as folder:
        extract_models(commit, configs, Path(folder))
        return [name for name in model_names() if not same_model(name, Path(folder), configs)]


def main() -> int:
    """Compare the models of the command line. Exit status 1 if a changed model cannot be loaded or replayed, 2 for a wrong argument."""
    usage = "make compare BASE=main [MODEL=flights] [START=2013-04] [END=2013-12] [POLICY=every]"
    parser = argparse.ArgumentParser(prog="make compare", usage=usage, description=__doc__)
    parser.add_argument("base")
    for name in ("model", "start", "end", "policy"):
        parser.add_argument(f"--{name}", default="")
    arguments, progress = parser.parse_args(), Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        settings, commit = load_settings(), commit_of(arguments.base, configs_folder())
        names = [arguments.model] if arguments.model else changed_models(commit)
        make_home(home_of(settings))  # Prefect creates a folder in it when it is imported
        with tempfile.TemporaryDirectory() as folder:
            request = Request(arguments.base, commit, Path(folder), arguments.start, arguments.end, arguments.policy)
            comment, valid = compare_all(names, request, progress)
    except (ConfigError, EvergreenError) as error:
        return print_error(error)
    with replacing(home_of(settings) / "compare.md") as draft:
        draft.write_text(comment, encoding="utf-8")
    print(comment, end="")
    return 0 if valid else 1


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    disable_telemetry()
    sys.exit(main())
