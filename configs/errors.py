"""Errors of configuration: each message names the file, the key, the value and the way out."""


class ConfigError(ValueError):
    """A file under `configs/` says something that cannot be meant. Nothing has run yet."""


class UnknownModel(ConfigError):
    """No folder under `configs/` has this name. The message lists those that exist."""
