"""Read the folders of the models, and again when they change, so that a new or changed model needs no restart."""

import logging
import time
from pathlib import Path

from configs.errors import ConfigError
from configs.fleets import files_of
from configs.load import configs_folder, model_names
from configs.schema import ModelConfig
from tasks.resources import LiveResources, open_resources

log = logging.getLogger("serving")

RETRY_SECONDS = 10.0
"""Seconds until what failed is tried again: a folder that cannot be read, a version that cannot be loaded."""


class ModelFolders:
    """The models of this server by the folders in `configs/`."""

    def __init__(self) -> None:
        self.resources: dict[str, LiveResources] = {}
        self.configs: dict[str, ModelConfig] = {}
        """The last readable configuration of every model. Removed models keep theirs, because some of their rows may not be written yet."""
        self.errors: dict[str, str] = {}
        """Why the folder of a model cannot be read, by model."""
        self._stamps: dict[str, object] = {}
        self._retry_at: dict[str, float] = {}

    def read(self) -> tuple[list[str], list[str]]:
        """Read the folders that are new or changed. If one cannot be read, its previous configuration stays.

        Returns:
            The names of all models, and of those whose configuration was read now.
        """
        names, changed = list(model_names()), []
        for name in names:
            stamp = self._stamp(name)
            if stamp == self._stamps.get(name) and not self._is_due(name):
                continue
            self._stamps[name] = stamp
            try:
                res = open_resources(name)
            except Exception as error:  # noqa: BLE001  (an invalid file must not stop the other models)
                self._record_failure(name, error)
                continue
            self.errors.pop(name, None)
            self._retry_at.pop(name, None)
            self.resources[name], self.configs[name] = res, res.config
            changed.append(name)
        for removed in self._stamps.keys() - set(names):
            for mapping in (self.resources, self.errors, self._stamps, self._retry_at):
                mapping.pop(removed, None)
        return names, changed

    def _stamp(self, name: str) -> object:
        """Return a value that changes when model.yaml changes, or a file that it extends or that makes the model."""
        return [_stamp(path) for path in files_of(name, configs_folder())]

    def _record_failure(self, name: str, error: Exception) -> None:
        message = str(error) if isinstance(error, ConfigError) else type(error).__name__
        if name not in self.errors:
            log.error("the folder of %s cannot be read: %s", name, message, extra={"model": name})
        self.errors[name] = f"its folder cannot be read: {message}"
        self._retry_at[name] = time.monotonic() + RETRY_SECONDS

    def _is_due(self, name: str) -> bool:
        """Whether to read an unreadable folder again although model.yaml is unchanged: its other files may have changed."""
        return self._retry_at.get(name, float("inf")) <= time.monotonic()


def _stamp(path: Path) -> object:
    """Return a value that changes when a file changes, or None if it does not exist."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
