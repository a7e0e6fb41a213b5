"""Nodes that move along characteristics, as one compiled program. Imported with the first run that it can make.

`motion` has the right-hand side: velocities and growth of all nodes, from tables of what the potential is made of.
`stepping` integrates it with an embedded Runge-Kutta method, whose coefficients it is told, and returns to Python after
so many evaluations: interruptions, limits and progress live there. There is one program for one axis and for two, for
kernels and for networks: what differs is numbers, which take no time to compile.

All numbers come in few flat arrays, which begin with where things stand in them; compiled code reads them by pointers
and names them in named tuples. Arrays would be counted, sliced and checked, which takes most of the time to compile,
and a good part of the time to run. What changes is written by `put` and read by `peek`; `at` reads what does not.

Sums over functions may be taken in any order and products contracted (``reassoc``, ``contract``): their order has no
meaning, and vectors of processors need it. Nothing is assumed of NaN and infinities, which end a step.
"""
