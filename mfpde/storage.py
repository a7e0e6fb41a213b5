"""Names for files of solutions: what `load` raises for a file that is none, and how one is read and written."""

from mfpde.hdf5 import SCHEMA, FileFormatError, as_plain, check_target, load, one_line, save

__all__ = ["SCHEMA", "FileFormatError", "as_plain", "check_target", "load", "one_line", "save"]
