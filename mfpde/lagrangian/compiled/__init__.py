"""Nodes that move along characteristics, as one compiled program. Imported with the first run that it can make.

`motion` has the right-hand side: velocities and growth of all nodes, from tables of what the potential is made of.
`stepping` integrates it with an embedded Runge-Kutta method, whose coefficients it is told, and returns to Python after
so many evaluations: interruptions, limits and progress live there. There is one program for one axis and for two, for
kernels and for networks: what differs is numbers, which take no time to compile.

All numbers come in few flat arrays, which begin with where things stand in them; compiled code reads them by pointers
and names them in named tuples. Arrays would be counted, sliced and checked, which takes most of the time to compile,
and a good part of the time to run. What changes is written by `put` and read by `peek`; `at` reads what does not.

Nothing is contracted or reordered but what is called `fused`. A function exists by itself and as part of those that
call it; which of them runs depends on whether the program was compiled just now or comes from the cache, and bits may
not.
"""
