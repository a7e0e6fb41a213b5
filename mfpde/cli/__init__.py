"""The command line."""

from mfpde.cli.app import app, main

__all__ = ["app", "main"]
