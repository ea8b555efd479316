"""Configuration errors. Each message names the file, the key, the value and what to do."""


class ConfigError(ValueError):
    """A configuration file or setting is not valid. Nothing has run yet."""


class UnknownModel(ConfigError):
    """No folder of `configs/` has this name. The message lists the existing ones."""
