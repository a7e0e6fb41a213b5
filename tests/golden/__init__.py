"""Golden numbers: what the package computes, recorded, so that code can be moved about and held against it bit for bit.

`cases` lists what is computed, `recording` says what is kept of it and how two records are compared. The record is
`golden.json` beside this folder.
"""
