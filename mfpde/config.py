"""Names for runs described in TOML: how they are read, and the error where something does not fit."""

from mfpde.runs.configuration import Configuration, load_config, named_config
from mfpde.runs.tables import ConfigurationError

__all__ = ["Configuration", "ConfigurationError", "load_config", "named_config"]
