"""Files that others may have written: HDF5, TOML, NPZ."""
