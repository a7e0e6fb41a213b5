"""Sweeps over the mesh that numba compiles."""
