"""Sweeps as compiled steps call them: with arguments whose types are the same for all schemes.

Sweeps are compiled for the class of the scheme, with a temperature and without one, and what calls them would have to
be compiled as often. Here each is called by a function that is compiled for *kinds*: tuples of one layout, so that a
caller, who has only the function's address, may hand over `Kind` in the place of any of them. Of the sweeps, too, the
addresses are known alone: as parts of these functions they would be compiled again, for half a minute.
"""

from __future__ import annotations

from collections import namedtuple

from mfpde.mesh.compiled.options import addressed, by_structure_uncounted, uncounted
from mfpde.mesh.compiled.structures import Fitted, Heat, Muscl, Upwind, Weno
from mfpde.mesh.constants import LARGEST
from mfpde.support.calls import called

__all__ = ["COLD", "HOT", "KIND", "NARROW", "SCHEMES", "WIDE", "inverse", "move", "outflow"]


# nothing is read of them, but the class of the others chooses among variants
Kind = namedtuple("Kind", ["place"], defaults=[0])
_OfUpwind = namedtuple("_OfUpwind", ["place"], defaults=[0])
_OfFitted = namedtuple("_OfFitted", ["place"], defaults=[0])
_OfMuscl = namedtuple("_OfMuscl", ["place"], defaults=[0])
_OfWeno = namedtuple("_OfWeno", ["place"], defaults=[0])
_Cold = namedtuple("_Cold", ["place"], defaults=[0])
_Hot = namedtuple("_Hot", ["place"], defaults=[0])
_Narrow = namedtuple("_Narrow", ["place"], defaults=[0])
_Wide = namedtuple("_Wide", ["place"], defaults=[0])
KIND, COLD, HOT, NARROW, WIDE = Kind(), _Cold(), _Hot(), _Narrow(), _Wide()
SCHEMES = {Upwind: _OfUpwind(), Fitted: _OfFitted(), Muscl: _OfMuscl(), Weno: _OfWeno()}


# ----- from kinds and numbers to what sweeps read


@by_structure_uncounted
def _scheme(kind, numbers):  # type: ignore[no-untyped-def]
    """The structure of a scheme whose fields are the first numbers."""


@_scheme.register(_OfUpwind)
def _upwind(kind, numbers):  # type: ignore[no-untyped-def]
    return Upwind(int(numbers[0]), int(numbers[1]))


@_scheme.register(_OfFitted)
def _fitted(kind, numbers):  # type: ignore[no-untyped-def]
    return Fitted(int(numbers[0]), int(numbers[1]))


@_scheme.register(_OfMuscl)
def _muscl(kind, numbers):  # type: ignore[no-untyped-def]
    return Muscl(int(numbers[0]), int(numbers[1]), int(numbers[2]))


@_scheme.register(_OfWeno)
def _weno(kind, numbers):  # type: ignore[no-untyped-def]
    return Weno(numbers[0], int(numbers[1]), int(numbers[2]))


@uncounted
def inverse(tau):  # type: ignore[no-untyped-def]
    """``1/tau``, finite."""
    found = 1.0 / tau if tau > 1e-300 else LARGEST
    return found if found < LARGEST else LARGEST


@by_structure_uncounted
def _heat(kind, tau, share):  # type: ignore[no-untyped-def]
    """The temperature, if there is one."""


@_heat.register(_Cold)
def _no_heat(kind, tau, share):  # type: ignore[no-untyped-def]
    return None


@_heat.register(_Hot)
def _some_heat(kind, tau, share):  # type: ignore[no-untyped-def]
    return Heat(tau, inverse(tau), share)


@by_structure_uncounted
def _wide(kind):  # type: ignore[no-untyped-def]
    """True where an axis may be swept by rows, else None."""


@_wide.register(_Narrow)
def _not_wide(kind):  # type: ignore[no-untyped-def]
    return None


@_wide.register(_Wide)
def _is_wide(kind):  # type: ignore[no-untyped-def]
    return True


# ----- the sweeps


@addressed
def outflow(scheme, heat, wide, inner, numbers, tau, ints, floats, metric, band, drive, speeds, work, bands):  # type: ignore[no-untyped-def]
    """How fast cells empty: `outflow.outflow`, whose address is `inner`, on all bands."""
    given = _scheme(scheme, numbers), _heat(heat, tau, numbers[3]), _wide(wide), ints, floats, metric, band
    called(inner, *given, drive, speeds, work, 0, bands)


@addressed
def move(scheme, heat, wide, inner, numbers, tau, ints, floats, metric, band, mu, drive, speeds, dt, out, work, bands):  # type: ignore[no-untyped-def]
    """The rate of change of a density: `sweep.sweep`, whose address is `inner`, on all bands."""
    given = _scheme(scheme, numbers), _heat(heat, tau, numbers[3]), _wide(wide), ints, floats, metric, band
    called(inner, *given, mu, drive, speeds, dt, False, out, work, 0, bands)
