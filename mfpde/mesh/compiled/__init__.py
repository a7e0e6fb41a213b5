"""Sweeps over the mesh that numba compiles. Imported when the first sweep is made, never by ``import mfpde``.

One kernel serves every dimension and axis. An array is seen as ``(outer, rows, inner)`` along the axis in hand. A pass
is a flat loop over entries whose neighbours along the axis are reached by pointers of their own, so that it vectorises
the same way whatever lies between them. There are two walks through the mesh, and one stencil for both:

- **by rows**, where `inner` is long: strips of columns are walked along the axis. The last rows of whatever is needed
  again stand in rings of `RING` rows, in the second cache; the potential is read where it is. Memory for the rows to
  come is asked for a piece at a time, between pieces of computing.
- **by tiles**, where `inner` is short: lines with their ghost rows are copied into a buffer of `TILE` entries, in
  which the neighbour along the axis is `inner` entries away. Entries across the seam of two lines are computed and
  never used. Long lines of van Leer's `Muscl` need no buffer.

Entry ``k`` of a face buffer is the face on the left of cell ``k``. Ghost rows wrap on periodic axes and mirror
at walls; every formula is written so that mirrored data give the mirrored flux bit for bit, hence the flux
through a wall is exactly zero without being told, and the face shared by two tiles has one value. That needs
IEEE arithmetic as written, without reassociation; products and sums are contracted only where the mirrored formula is
the same one. Selections are written so that a NaN stays one.

What the functions are told stands in `structures` and `run_structures`. The class of a scheme chooses among functions
when a kernel is compiled: each scheme compiles what it uses. The temperature does so by being `structures.Heat` or
None, and the walk by rows by a flag that is True or None, because a kernel with both cases would take longer to compile
for those who use one. Functions that do nothing but call others are inlined before they are compiled, which takes less
time too.

`faces` has the formulae, pointer by pointer; `stencils` applies them to the faces of a block; `sweep` and `outflow`
walk through the mesh; `tridiagonal` takes implicit steps, and `passes` has what a step does besides. `stepping` makes
whole runs on small meshes, by the methods of `exponential`, `implicit` and `splitting`, with the `potential` of
energies that are made of tables; `markers` follows what descends.
"""
