"""Files that others may have written: HDF5, TOML, NPZ."""

__all__ = ["SUFFIXES"]

SUFFIXES = (".h5", ".hdf5")
"""What the names of HDF5 files end in."""
