"""Terms of one's own: operators that a problem adds to transport and reaction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from mfpde.equation.grid import Grid
from mfpde.equation.measures.base import Measure
from mfpde.support.arrays import Array
from mfpde.support.travel import Portable

__all__ = ["Frozen", "Term"]


@dataclass(frozen=True)
class Frozen:
    """What a term sees of the flow, which stands still while the term acts.

    Attributes
    ----------
    grid : Grid
        The mesh.
    V : (grid.shape) array
        The potential, without the entropy.
    temperature : float
        ``tau``.
    cells : callable
        ``cells(measure)`` gives a measure on the cells, restricted to the box and normalised: as averages or values at
        the centres, whichever the densities of the run are. It is computed once.
    """

    grid: Grid
    V: Array
    temperature: float
    cells: Callable[[Measure], Array]


class Term(Portable, ABC):
    """An operator ``T`` in ``d_t mu = s {transport - alpha R[mu] + T[mu]}``: jumps, decay, sources.

    A problem has them as ``Problem(..., terms=[...])``. They act on a mesh, split from transport and reaction
    (`Strang`, `Lie`, or a `Splitting` with `Operator.OWN`); nodes and particles refuse a problem with terms by name.

    Attributes
    ----------
    balanced : bool
        Whether it conserves mass. Default True; a run watches that.

    Examples
    --------
    Decay into a fixed measure, ``T[mu] = k (nu - mu)``:

    >>> from dataclasses import dataclass
    >>> import numpy as np
    >>> import mfpde as mf
    >>> @dataclass(frozen=True)
    ... class Decay(mf.Term):
    ...     nu: mf.Measure
    ...     k: float
    ...
    ...     def rate(self, mu, at):
    ...         return self.k * (at.cells(self.nu) - mu)
    ...
    ...     def advance(self, mu, at, length):
    ...         return mu + (1 - np.exp(-self.k * length)) * (at.cells(self.nu) - mu)
    """

    balanced: ClassVar[bool] = True

    @abstractmethod
    def rate(self, mu: Array, at: Frozen) -> Array:
        """``T[mu]`` on the cells, from which the energy it dissipates is recorded.

        Parameters
        ----------
        mu : array
            The density on the cells; not to be changed.
        at : Frozen
            What stands still meanwhile.
        """

    @abstractmethod
    def advance(self, mu: Array, at: Frozen, length: float) -> Array:
        """The solution of ``d_t mu = T[mu]`` after a time `length`, as a new array that is not negative.

        Exact where that is possible, and at least of second order in `length` where a run is to be.

        Parameters
        ----------
        mu, at
            As in `rate`.
        length : float
            Of any size above 0, in the PDE's time times the common schedule ``s``.
        """
