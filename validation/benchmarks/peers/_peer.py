"""What a peer is: variants, rungs of a ladder, and a function that solves one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from validation.benchmarks._work import Work

__all__ = ["Outcome", "Peer", "Rung", "Solve", "Variant"]


@dataclass(frozen=True)
class Outcome:
    """What a run gives.

    Attributes
    ----------
    energy : float
        At the end time.
    mass : float
        At the end time; 1 at the start.
    minimum : float
        Smallest value of the density at the end relative to the largest.
    """

    energy: float
    mass: float = 1.0
    minimum: float = 0.0


@dataclass(frozen=True)
class Rung:
    """One size.

    Parameters
    ----------
    n : int
        Cells along each axis, or particles.
    tolerance : float
        Of the time integration, where it adapts.
    steps : int
        Time steps, where they are given.
    """

    n: int
    tolerance: float = 0.0
    steps: int = 0

    def __str__(self) -> str:
        parts = [f"n = {self.n}"]
        if self.tolerance:
            parts.append(f"rtol = {self.tolerance:.0e}")
        if self.steps:
            parts.append(f"{self.steps} steps")
        return ", ".join(parts)


Solve = Callable[[int], Outcome]
"""Solves a rung from the seed (which only random methods look at)."""


@dataclass(frozen=True)
class Variant:
    """One way to use a peer, and its ladder for each work, in the order of cost."""

    name: str
    ladders: Mapping[Work, Sequence[Rung]]


@dataclass(frozen=True)
class Peer:
    """A package and what is known about it.

    Parameters
    ----------
    name : str
    packages : sequence of str
        Distributions whose versions are reported.
    variants : sequence of Variant
    prepare : callable
        ``prepare(work, variant, rung)`` gives the `Solve`; what it does once (compiling) is not timed as warm.
    lacks : str
        What it does not guarantee.
    method : str
        How it was used, in a sentence.
    samples : int
        Seeds over which the error is the root mean square; 1 for deterministic methods.
    compiles : bool
        Whether a first call costs much more than the next; otherwise a first call of seconds is measurement enough.
    """

    name: str
    packages: Sequence[str]
    variants: Sequence[Variant]
    prepare: Callable[[Work, str, Rung], Solve]
    lacks: str
    method: str
    samples: int = 1
    compiles: bool = False
