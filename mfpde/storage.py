"""Names for files of solutions: what `load` raises for a file that is none, and how one is read and written."""

from mfpde.hdf5 import FileFormatError
from mfpde.loading import load
from mfpde.solution_writer import SCHEMA, save

__all__ = ["SCHEMA", "FileFormatError", "load", "save"]
