"""Zero-sum games of two players with mixed strategies: measures that descend and ascend one payoff."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from mfpde.equation.energy import BySpecies, Features, Loss
from mfpde.equation.grid import Axis, End
from mfpde.equation.measures.base import Measure
from mfpde.equation.measures.density import Density
from mfpde.equation.measures.product import Product
from mfpde.equation.measures.species import PerSpecies
from mfpde.equation.problem import Problem, Reaction
from mfpde.equation.species import Species
from mfpde.problems.parameters import with_parameters
from mfpde.problems.ranges import not_negative, positive
from mfpde.support.arguments import shown
from mfpde.support.arrays import Array

__all__ = ["two_player_game"]

CITATION = """@inproceedings{domingoenrich2020mean,
  title     = {A mean-field analysis of two-player zero-sum games},
  author    = {Domingo-Enrich, Carles and Jelassi, Samy and Mensch, Arthur and Rotskoff, Grant M. and Bruna, Joan},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2020},
  eprint    = {2002.06277}
}
@inproceedings{lu2023twoscale,
  title     = {Two-scale gradient descent ascent dynamics finds mixed {N}ash equilibria of continuous games: a
               mean-field perspective},
  author    = {Lu, Yulong},
  booktitle = {International Conference on Machine Learning},
  year      = {2023},
  eprint    = {2212.08791}
}"""
PAYOFFS = ("cosine", "quadratic", "polynomial")


class _Payoff(Loss):
    """``4 u' C v``, u and v the moments of both players by the measure of mass 1: the payoff ``l = f(x)' C f(y)``."""

    convex, quadratic = False, True

    def __init__(self, coefficients: Array) -> None:
        self.coefficients = coefficients

    def __repr__(self) -> str:
        return f"payoff of {' x '.join(map(str, self.coefficients.shape))} functions"

    def value(self, u: Array) -> float:
        """The payoff."""
        C = self.coefficients
        return 4.0 * float(u[: len(C)] @ C @ u[len(C) :])

    def gradient(self, u: Array) -> Array:
        """Its derivative by the moments."""
        C = self.coefficients
        return 4.0 * np.concatenate([C @ u[len(C) :], u[: len(C)] @ C])

    def curvature(self, u: Array) -> Array:
        """The same everywhere."""
        C = 4.0 * self.coefficients
        return np.block([[np.zeros((len(C), len(C))), C], [C.T, np.zeros((C.shape[1], C.shape[1]))]])


def _features(shape: tuple[int, int], periodic: bool, player: Array, x: Array) -> Array:
    """The functions of each player's strategy that the payoff is made of, 0 for the other player."""
    parts = []
    for number, count in enumerate(shape):
        values = [np.cos(x), np.sin(x)] if periodic else [x**i for i in range(count)]
        parts += [np.where(player == number, value, 0.0) for value in values]
    return np.stack(parts)


def _slopes(shape: tuple[int, int], periodic: bool, player: Array, x: Array) -> tuple[Array, Array]:
    parts = []
    for number, count in enumerate(shape):
        values = [-np.sin(x), np.cos(x)] if periodic else [i * x ** max(i - 1, 0) for i in range(count)]
        parts += [np.where(player == number, value, 0.0) for value in values]
    along = np.stack(parts)
    return np.zeros_like(along), along


def _decay_and_turn(scales: Sequence[float], rate: float, coupling: float) -> tuple[float, complex]:
    """How fast a spiral shrinks and how fast it turns; the latter is imaginary where it does not."""
    s, r = scales
    return 0.5 * rate * (s + r), cmath.sqrt(coupling**2 * s * r - (0.5 * rate * (s - r)) ** 2)


def _spiral(scales: Sequence[float], rate: float, coupling: float, start: Sequence[float], t: float) -> Array:
    """The solution of ``A' = -s (rate A + coupling B), B' = r (coupling A - rate B)``, s and r the scales."""
    (s, r), (decay, turn) = scales, _decay_and_turn(scales, rate, coupling)
    cos, sinc = cmath.cos(turn * t), (cmath.sin(turn * t) / turn if turn else t)
    lean, (A, B) = 0.5 * rate * (r - s), start
    pair = cos * A + sinc * (lean * A - coupling * s * B), cos * B + sinc * (coupling * r * A - lean * B)
    return math.exp(-decay * t) * np.array([pair[0].real, pair[1].real])


def _closed_forms(
    payoff: str, a: float, b: float, start: tuple[float, float, float], rates: tuple[float, float], scales: Array
) -> dict[str, Any]:
    """What is known exactly: near the uniform laws of "cosine"; of normal laws in "quadratic" without reaction."""
    (temperature, alpha), (first, second, variance) = rates, start
    both = (float(scales[0]), float(scales[1]))
    if payoff == "cosine":
        rate, coupling = temperature * (1 + alpha), 0.5 * b * (1 + alpha)
        decay, turn = _decay_and_turn(both, rate, coupling)
        linear = partial(_spiral, both, rate, coupling, (first, 0.0))
        return {"coefficients": linear, "decay_rate": decay, "frequency": turn.real}
    if payoff != "quadratic" or alpha:
        return {}
    means: Callable[[float], Array] = partial(_spiral, both, a, b, (first, second))

    def variances(t: float) -> Array:
        fades = np.exp(-2 * a * np.array(both) * t)
        grown = (1 - fades) / (2 * a) if a else np.array(both) * t
        return variance * fades + 2 * temperature * grown

    found: dict[str, Any] = {"means": means, "variances": variances}
    if a:
        found["equilibrium_variance"] = temperature / a
        gain = 0.5 * (a + b * b / a)
        found["nikaido_isoda"] = lambda t: gain * float(means(t) @ means(t)) + 0.5 * a * float(variances(t).sum())
    return found


@with_parameters
def two_player_game(
    payoff: str = "cosine",
    a: float = 0.5,
    b: float = 1.0,
    coefficients: Sequence[Sequence[float]] | None = None,
    perturbation: float = 0.5,
    mean: Sequence[float] = (1.0, 0.0),
    variance: float = 0.25,
    half_width: float = 6.0,
    alpha: float = 0.0,
    temperature: float = 0.0,
    scales: Sequence[float] = (1.0, 1.0),
    t_end: float = 4 * math.pi,
) -> Problem:
    r"""Two players with mixed strategies ``m`` and ``n``: the left one lowers a payoff, the right one raises it.

    .. math::

       \partial_t m = s_1\{\nabla\cdot(m \nabla V_1) + \tau \Delta m - \alpha (V_1 - \bar V_1) m\}, \qquad
       \partial_t n = s_2\{-\nabla\cdot(n \nabla V_2) + \tau \Delta n + \alpha (V_2 - \bar V_2) n\},

    with ``V_1(x) = int l(x, y) n(dy)`` and ``V_2(y) = int l(x, y) m(dx)``: Langevin descent-ascent at ``alpha = 0``,
    Wasserstein-Fisher-Rao descent-ascent without noise. With both, the reaction is that of the free energy,
    ``V_1 + tau log m`` and ``V_2 - tau log n``.

    Parameters
    ----------
    payoff : str
        ``"cosine"``, ``l = b cos(x - y)`` on the circle; ``"quadratic"``, ``a x^2/2 + b x y - a y^2/2``; or
        ``"polynomial"``, ``sum_ij c_ij x^i y^j``.
    a, b : float
        The curvature, at least 0, and the strength of the coupling.
    coefficients : sequence of sequence of float, optional
        ``c_ij`` of ``"polynomial"``: one row a power of x. Default: that of "quadratic" less ``x^4 / 8 - y^4 / 8``
        with the sign turned, a double well for each.
    perturbation : float
        ``epsilon`` of the left start ``(1 + epsilon cos x) / 2 pi`` of "cosine", below 1 in size; the right one is
        uniform, as the equilibrium of both is.
    mean, variance : sequence of float, float
        Of the normal starts of the other payoffs: two means, one variance.
    half_width : float
        Their box.
    alpha, temperature : float
        Birth-death rate and ``tau``.
    scales : sequence of float
        ``s_1, s_2``, factors of the whole right sides.
    t_end : float

    Notes
    -----
    **Nothing falls**: there is no energy. `energy` is the payoff (with a temperature plus ``tau`` times the entropy),
    no gap is recorded, and ``diagnostics["regret"]`` is the Nikaido-Isoda error ``max V_2 - min V_1`` over the cells,
    0 at an equilibrium of the game without noise.

    **Exact** (``problem.exact``). "cosine": ``coefficients(t)``, ``2 int cos x dm`` and ``2 int cos y dn`` to first
    order in epsilon, which decay at ``decay_rate`` :math:`\tau (s_1 + s_2)/2` and turn at ``frequency``
    :math:`\sqrt{s_1 s_2 b^2/4 - (\tau (s_1 - s_2)/2)^2}` (``tau`` and ``b`` times ``1 + alpha``). Without noise and
    reaction, at equal scales, the period is :math:`(4\pi/b) (1 - \varepsilon^2/16 + ...)`.
    "quadratic" at ``alpha = 0``: ``means(t)``, a spiral, ``variances(t)``, ``equilibrium_variance`` and
    ``nikaido_isoda(t)`` (in a box that holds both best replies).

    **Good values.** 64 cells for "cosine", 200 for the others. Rotation without noise is neutrally stable: the default
    accuracy of steps loses a percent of a small amplitude in a turn; ``FixedStep(0.05)`` loses 1e-5.
    """
    if payoff not in PAYOFFS:
        raise ValueError(f"payoff must be one of {', '.join(PAYOFFS)}, not {shown(payoff)}")
    if coefficients is not None and payoff != "polynomial":
        raise ValueError(f"coefficients are those of payoff='polynomial', not of {payoff!r}; leave them out")
    not_negative(a=a, alpha=alpha, temperature=temperature)
    positive(variance=variance, half_width=half_width, t_end=t_end)
    if payoff == "cosine":
        if not abs(perturbation) < 1:
            raise ValueError(f"perturbation must be below 1 in size, not {perturbation!r}")
        axis, C = Axis("x", 0.0, 2 * math.pi, End.PERIODIC), b * np.eye(2)
        laws: list[Measure] = [Density(partial(_tilted, size)) for size in (perturbation, 0.0)]
    else:
        axis, C = Axis("x", -half_width, half_width), _matrix(payoff, a, b, coefficients)
        laws = _normal(mean, variance)
    made_of = C.shape, payoff == "cosine"
    features = Features(partial(_features, *made_of), _Payoff(C), partial(_slopes, *made_of))
    start = (perturbation, 0.0, variance) if payoff == "cosine" else (float(mean[0]), float(mean[1]), variance)
    return Problem(
        energy=BySpecies(features, left=0.5, right=-0.5),
        axes=[Species("player", ("left", "right"), scales), axis],
        initial=PerSpecies(left=laws[0], right=laws[1]),
        alpha=alpha,
        temperature=temperature,
        reaction=Reaction.FREE_ENERGY if temperature > 0 and alpha > 0 else Reaction.BALANCED,
        t_end=t_end,
        name="two-player-game",
        citation=CITATION,
        shape=(64,) if payoff == "cosine" else (200,),
        exact=_closed_forms(payoff, a, b, start, (temperature, alpha), np.asarray(scales, dtype=float)),
        parameters={"coefficients": C.tolist() if payoff == "polynomial" else None},
    )


def _tilted(size: float, x: Array) -> Array:
    return 1.0 + size * np.cos(x)


def _normal(mean: Sequence[float], variance: float) -> list[Measure]:
    """The normal laws that both players start with."""
    from scipy import stats

    if np.shape(mean) != (2,) or not np.all(np.isfinite(mean)):
        raise ValueError(f"mean is two numbers, one a player, not {shown(mean)}")
    return [Product(x=stats.norm(float(m), math.sqrt(variance))) for m in mean]


def _matrix(payoff: str, a: float, b: float, coefficients: Sequence[Sequence[float]] | None) -> Array:
    """``c_ij`` of a payoff that is a polynomial."""
    if coefficients is None:
        C = np.zeros((5, 5))
        C[2, 0], C[1, 1], C[0, 2] = 0.5 * a, b, -0.5 * a
        if payoff == "quadratic":
            return C[:3, :3].copy()
        C[2, 0], C[4, 0], C[0, 2], C[0, 4] = -0.5 * a, 0.125, 0.5 * a, -0.125
        return C
    C = np.array(coefficients, dtype=float)
    if C.ndim != 2 or not C.size or not np.isfinite(C).all():
        raise ValueError(f"coefficients are rows of finite numbers, one row a power of x, not {shown(coefficients)}")
    return C
