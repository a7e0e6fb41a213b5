"""Two-timescale training, whose outer weights are optimal at all times, and its limit, an ultra-fast diffusion."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfpde.equation.energy import Features, Loss, MeshEnergy
from mfpde.equation.grid import Axis, End, Grid
from mfpde.equation.measures.density import Density
from mfpde.equation.measures.product import Product
from mfpde.equation.problem import Problem
from mfpde.problems.monotone import inverse
from mfpde.problems.parameters import with_parameters
from mfpde.problems.ranges import not_negative, positive
from mfpde.support.arrays import Array

__all__ = ["two_timescale", "ultra_fast_diffusion"]


CITATION = """@article{barboni2025ultra,
  title  = {Ultra-fast feature learning for the training of two-layer neural networks in the two-timescale regime},
  author = {Barboni, Rapha{\\"e}l and Peyr{\\'e}, Gabriel and Vialard, Fran{\\c{c}}ois-Xavier},
  year   = {2025},
  eprint = {2504.18208}
}"""

APART = 0.4 * math.pi
"""Where the smaller of the target's two peaks is."""
NEGLIGIBLE = 1e-10
"""Harmonics of the kernel below this fraction of the regularisation are left out: they change u as much."""


@dataclass(frozen=True)
class _Peaks:
    """The target ``2/3 P(x) + 1/3 P(x - 0.4 pi)``, ``P ~ 1/(1 + g sin^2(x/2))``, which is a wrapped Cauchy law."""

    sharpness: float

    @property
    def ratio(self) -> float:
        """``r``: the k-th coefficient of P is ``r^|k|``."""
        return self.sharpness / (math.sqrt(1 + self.sharpness) + 1) ** 2

    def density(self, x: Array) -> Array:
        """Of mass 1 on a circle of length 2 pi."""
        r = self.ratio
        one, other = (1 / (1 - 2 * r * np.cos(y) + r * r) for y in (x, x - APART))
        return np.asarray((1 - r * r) / (6 * math.pi) * (2 * one + other))

    def coefficients(self, k: NDArray[np.intp]) -> NDArray[np.complex128]:
        """``int e^{-ikx} dmu*``."""
        return self.ratio ** np.abs(k) * (2 + np.exp(-1j * APART * k)) / 3

    def square(self) -> float:
        """``2 pi int mu*^2``, the sum of the squares of all coefficients."""
        q = self.ratio**2
        return (5 * (1 + q) / (1 - q) + 4 * (1 - q * q) / (1 - 2 * q * math.cos(APART) + q * q)) / 9


@dataclass(frozen=True, eq=False)
class VariableProjection(Loss):
    """The least squares over u, of the moments ``int cos kx dmu``, k = 0 .. 2 J, and ``int sin kx dmu``, k = 1 .. 2 J.

    With ``m_k = int e^{-ikx} dmu``, ``c_j`` the kernel's coefficients and ``u = b + sum_j sqrt(c_j) q_j e^{ijx}``,
    b = 1 where it is unbiased and else 0, ``(lambda + U) q = d``, ``U_jl = sqrt(c_j c_l) m_{j-l}`` and
    ``d_j = sqrt(c_j) (m*_j - b m_j)``; the least value is ``<d, q>/2`` and its first variation ``(b - u^2)/2``.
    """

    roots: Array
    target: NDArray[np.complex128]
    regularisation: float
    unbiased: bool

    def _solved(self, moments: Array) -> tuple[Array, Array, Array]:
        """``lambda + U``, d and q."""
        most, n = len(moments) // 2, len(self.roots)
        m = moments[: most + 1] + 0j
        m[1:] -= 1j * moments[most + 1 :]
        m = np.concatenate([np.conj(m[:0:-1]), m])  # from -2 J to 2 J
        order = np.arange(n)
        matrix = self.roots[:, None] * self.roots * m[most + order[:, None] - order]
        matrix[order, order] += self.regularisation
        d = self.roots * (self.target - m[most + order - n // 2] * self.unbiased)
        return matrix, d, np.linalg.solve(matrix, d)

    def _coefficients(self, q: Array) -> Array:
        """Those of u, of the harmonics from -J to J."""
        p = self.roots * q
        p[len(p) // 2] += self.unbiased
        return p

    def value(self, u: Array) -> float:
        """The least value."""
        _, d, q = self._solved(u)
        return 0.5 * float(np.vdot(d, q).real)

    def gradient(self, u: Array) -> Array:
        """The coefficients of its first variation."""
        p = self._coefficients(self._solved(u)[2])
        square = np.convolve(p, p)[len(p) - 1 :]
        slope = np.concatenate([-square.real, square[1:].imag])
        slope[0] = 0.5 * (self.unbiased - square[0].real)
        return slope

    def curvature(self, u: Array) -> Array:
        """``Re G^H (lambda + U)^-1 G``, G the change of ``d - U q`` with each of the moments."""
        matrix, _, q = self._solved(u)
        n = len(q)
        p = np.pad(self._coefficients(q), n - 1)
        lag = np.arange(n)[:, None] - np.arange(1 - n, n) + n - 1
        G = self.roots[:, None] * p[lag]
        plus, minus = G[:, n:], G[:, n - 2 :: -1]
        G = np.concatenate([G[:, n - 1 : n], plus + minus, 1j * (minus - plus)], axis=1)
        return np.asarray((np.conj(G.T) @ np.linalg.solve(matrix, G)).real)


@with_parameters
def two_timescale(
    sharpness: float = 10.0,
    regularisation: float = 0.01,
    concentration: float = 8.0,
    unbiased: bool = False,
    alpha: float = 0.0,
    t_end: float = 1.0,
) -> Problem:
    r"""Features on the circle move while their outer weights are optimal at all times (variable projection).

    With units ``phi`` whose kernel is :math:`k = e^{\kappa(\cos(\theta - \theta') - 1)}` and a target network
    :math:`\int \varphi\, d\mu^*`,

    .. math::

       E[\mu] = \min_u \; \frac{1}{2\lambda} \Big| \int u \varphi\, d\mu - \int \varphi\, d\mu^* \Big|^2
                + \frac12 \int (u - b)^2 d\mu, \qquad V = \tfrac12 (b - u^2), \qquad
       \mu^* \propto \frac{1}{1 + g \sin^2 \frac{\theta}{2}}
                     + \frac{1/2}{1 + g \sin^2 \frac{\theta - 0.4\pi}{2}},

    from the uniform measure, with b = 0 or, `unbiased`, b = 1. The outer weights ``u`` solve
    :math:`\lambda u + \int k u\, d\mu = \int k\, d\mu^* + \lambda b`. E is convex. For :math:`\lambda \to 0`, u tends
    to :math:`d\mu^*/d\mu` and the flow to that of `ultra_fast_diffusion`.

    Parameters
    ----------
    sharpness : float
        ``g >= 0``, at most 1e4; 0 makes the target uniform.
    regularisation : float
        ``lambda > 0``, at least 1e-8.
    concentration : float
        ``kappa > 0``, at most 100.
    unbiased : bool
        Whether the outer weights are drawn to 1 instead of 0. Then the target is stationary.
    alpha : float
        Birth-death rate.
    t_end : float

    Notes
    -----
    **Exact** (``problem.exact``): ``initial_energy``; unbiased ``minimum_energy = 0``, of the target.

    **Good values.** 128 cells for ``g = 10``, 512 for 100 and more; u has harmonics of the kernel above ``lambda``
    only, so that time steps do not become shorter with the cells. The kernel must see every harmonic: a ReLU without
    bias sees no odd ones from 3 on, and does not learn this target.
    """
    from scipy import stats
    from scipy.special import ive

    _check(sharpness)
    positive(regularisation=regularisation, concentration=concentration)
    if regularisation < 1e-8:
        raise ValueError(f"regularisation must be at least 1e-8, not {regularisation!r}; see ultra_fast_diffusion")
    if concentration > 100:
        raise ValueError(f"concentration must be at most 100, not {concentration!r}")
    decay = ive(np.arange(400), concentration)
    most = max(1, int(np.count_nonzero(decay > NEGLIGIBLE * regularisation)) - 1)
    k = np.arange(-most, most + 1)
    c, target = decay[np.abs(k)], _Peaks(sharpness).coefficients(k)
    cosines, sines = np.arange(2 * most + 1), np.arange(1, 2 * most + 1)

    def harmonics(x: Array) -> Array:
        return np.concatenate([np.cos(np.multiply.outer(cosines, x)), np.sin(np.multiply.outer(sines, x))])

    def slopes(x: Array) -> tuple[Array]:
        values = harmonics(x)
        of_cosines, of_sines = -values[2 * most + 1 :].T * sines, values[1 : 2 * most + 1].T * sines
        return (np.concatenate([0 * values[:1], of_cosines.T, of_sines.T]),)

    seen = np.abs(target) ** 2 * c / (regularisation + c)
    exact = {"initial_energy": 0.5 * float(seen.sum() - unbiased * seen[most])}
    if unbiased:
        exact["minimum_energy"] = 0.0
    return Problem(
        energy=Features(harmonics, VariableProjection(np.sqrt(c), target, regularisation, unbiased), slopes),
        axes=[Axis("theta", -math.pi, math.pi, End.PERIODIC)],
        initial=Product(theta=stats.uniform(-math.pi, 2 * math.pi)),
        alpha=alpha,
        t_end=t_end,
        name="two-timescale",
        citation=CITATION,
        shape=(128,),
        exact=exact,
    )


@dataclass(frozen=True)
class UltraFastDiffusion(MeshEnergy):
    """``1/2 int mu*^2 / mu``."""

    target: _Peaks
    convex = True

    def evaluate(self, mu: Array, grid: Grid) -> tuple[Array, float]:
        """V and E of values at the centres."""
        ratio = self.target.density(grid.centres(0)) / mu
        return -0.5 * ratio**2, 0.5 * float(np.dot(ratio**2, mu)) * grid.cell_volume

    def second_variation(self, mu: Array, change: Array, grid: Grid) -> Array:
        """``mu*^2 / mu^3``."""
        return np.asarray(self.target.density(grid.centres(0)) ** 2 / mu**3 * change)


@with_parameters
def ultra_fast_diffusion(
    sharpness: float = 10.0, amplitude: float = 0.0, alpha: float = 0.0, t_end: float = 2.0
) -> Problem:
    r"""The limit of `two_timescale` without regularisation: mass flies to where the target has more of it.

    .. math::

       \partial_t \mu = -\tfrac12 \nabla\cdot\Big(\mu \nabla \Big(\frac{\mu^*}{\mu}\Big)^2\Big), \qquad
       E[\mu] = \tfrac12 \int \frac{(\mu^*)^2}{\mu}, \qquad V = -\tfrac12 \Big(\frac{\mu^*}{\mu}\Big)^2,

    with the target ``mu*`` of `two_timescale`. Quantiles X(s, t), s their level, obey :math:`\partial_t X = \mu^*(X)\,
    \partial_s(\mu^*(X)\, \partial_s X)`: the heat equation where the target is uniform.

    Parameters
    ----------
    sharpness : float
        ``g >= 0``, at most 1e4; 0 makes the target uniform.
    amplitude : float
        ``a``, below 1 in size, of the start :math:`X(s, 0) = 2\pi s - \pi + a \sin 2\pi s`; 0 is the uniform measure.
    alpha : float
        Birth-death rate.
    t_end : float

    Notes
    -----
    **Exact** (``problem.exact``): ``minimum_energy = 1/2``, of the target. From the uniform measure
    ``initial_energy`` = :math:`\pi \int (\mu^*)^2`: 0.727711, 1.527699, 4.438952 for g = 10, 100, 1000. With a uniform
    target and ``alpha = 0``: ``quantile(s, t)`` = :math:`2\pi s - \pi + a e^{-t} \sin 2\pi s`, ``density(x, t)`` and
    ``energy(t)`` = :math:`\tfrac12 + \tfrac14 a^2 e^{-2t}`.

    Near the target the equation is the Fokker-Planck equation of ``mu*``: ``E - 1/2`` decays at twice its spectral gap,
    1.06097, 0.99737, 0.39433 for g = 10, 100, 1000, and 1 for 0. Where there is far more mass than the target has, it
    leaves slowly: from the uniform measure that rate is seen from t = 4 on for g = 10, and not before t = 8 for 100.

    The potential is a function of the density in a cell: it exists on a mesh only.

    **Good values.** 128 cells for ``g = 10``. Time steps are bound by the diffusion ``(mu*/mu)^2`` that is hidden in V,
    which `mfpde.ErrorControl` sees: four times as many for half the cells' width, and for large g as many again at the
    start, where the target's peaks are far above the uniform measure. The largest stable steps leave a checkerboard of
    the size of the tolerance: give ``ErrorControl(1e-8)`` for more than six digits.
    """
    from scipy import stats

    _check(sharpness)
    if not abs(amplitude) < 1:
        raise ValueError(f"amplitude must be below 1 in size, not {amplitude!r}")
    target = _Peaks(sharpness)

    def density(x: Array, t: float) -> Array:
        a = amplitude * math.exp(-t)
        z = np.asarray(x, dtype=float) + math.pi
        level = inverse(lambda y: y + a * np.sin(y), z, 0.0, 2 * math.pi)
        return np.asarray(1 / (2 * math.pi * (1 + a * np.cos(level))))

    exact: dict[str, Any] = {"minimum_energy": 0.5}
    if amplitude == 0:
        exact["initial_energy"] = 0.5 * target.square()
    if sharpness == 0 and alpha == 0:
        exact |= {
            "quantile": lambda s, t: 2 * math.pi * (s - 0.5) + amplitude * math.exp(-t) * np.sin(2 * math.pi * s),
            "density": density,
            "energy": lambda t: 0.5 + 0.25 * amplitude**2 * math.exp(-2 * t),
        }
    uniform = Product(theta=stats.uniform(-math.pi, 2 * math.pi))
    return Problem(
        energy=UltraFastDiffusion(target),
        axes=[Axis("theta", -math.pi, math.pi, End.PERIODIC)],
        initial=uniform if amplitude == 0 else Density(lambda x: density(x, 0.0)),
        alpha=alpha,
        t_end=t_end,
        name="ultra-fast-diffusion",
        citation=CITATION,
        shape=(128,),
        exact=exact,
    )


def _check(sharpness: float) -> None:
    """Refuse targets that no mesh carries."""
    not_negative(sharpness=sharpness)
    if sharpness > 1e4:
        raise ValueError(f"sharpness must be at most 1e4, not {sharpness!r}: peaks are 2/sqrt(sharpness) wide")
