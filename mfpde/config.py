"""Names for runs described in TOML: how they are read, and the error where something does not fit."""

from mfpde.configuration import Configuration, ConfigurationError, load_config, named_config

__all__ = ["Configuration", "ConfigurationError", "load_config", "named_config"]
