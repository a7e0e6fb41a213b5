"""Finite volumes on a mesh: the first discretisation."""
