"""The race on smooth problems: the energy curve to an accuracy, every way at its best, in processor time.

Here peers may do all that a user who writes a method of lines by hand may do: central differences that nothing limits,
few modes of the kernel, the best order, size, method, tolerance and first step *in hindsight*. All of a work runs in
one process on one thread, and what is compared takes turns.

`choice` says what the cheapest way to an accuracy is, `lines` has the peers, `ours` this package, `reference` the
curve that all are held against, `worker` the race itself, `table` what is said of it.
"""
