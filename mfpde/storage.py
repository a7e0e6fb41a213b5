"""Names for files of solutions: what `load` raises for a file that is none, and how one is read and written."""

from mfpde.mesh.solution_writer import SCHEMA, save
from mfpde.runs.loading import load
from mfpde.support.files.hdf5 import FileFormatError

__all__ = ["SCHEMA", "FileFormatError", "load", "save"]
