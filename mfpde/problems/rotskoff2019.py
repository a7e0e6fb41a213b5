"""Neuron birth-death dynamics: the mixture of three Gaussians, and a student that learns from a teacher."""

from __future__ import annotations

import enum
import math

import numpy as np

from mfpde.equation.energy import External, GaussianKernel, Interaction, LinearKernel, SeparableKernel, TwoLayerNetwork
from mfpde.equation.grid import Axis
from mfpde.equation.measures.product import Product
from mfpde.equation.problem import Network, Problem, Reinjection, ReinjectionKind, beside
from mfpde.problems.parameters import with_parameters
from mfpde.problems.ranges import at_least, positive
from mfpde.support.arrays import Array

__all__ = ["CITATION", "Start", "student_teacher", "three_gaussians"]


CITATION = """@inproceedings{rotskoff2019global,
  title     = {Global convergence of neuron birth-death dynamics},
  author    = {Rotskoff, Grant M. and Jelassi, Samy and Bruna, Joan and Vanden-Eijnden, Eric},
  booktitle = {Proceedings of the 36th International Conference on Machine Learning},
  year      = {2019},
  eprint    = {1902.01843}
}"""

# the target: f = sum_k weight_k N(x; centre_k, variance_k)
WEIGHTS = np.array([1.0, -2.0, 1.0]) / 3.0
CENTRES = np.array([-2.0, 0.0, 2.0])
VARIANCES = np.array([0.5, 1.0, 0.5])
UNIT_VARIANCE = 0.5


class Start(enum.Enum):
    """Where the neurons start."""

    GOOD = "good"
    """y uniform on [-2, 2]: all modes of the target are covered."""
    BAD = "bad"
    """y ~ N(-2, 0.1^2): two modes are out of sight."""


def _normal(x: Array, variance: Array | float) -> Array:
    return np.exp(-(x**2) / (2 * variance)) / np.sqrt(2 * math.pi * np.asarray(variance))


@with_parameters
def three_gaussians(
    start: Start | str = Start.GOOD,
    alpha: float = 5.0,
    reinjection: ReinjectionKind | str | None = None,
    amplitude: float | None = None,
    half_width: float = 5.0,
    t_end: float = 10.0,
) -> Problem:
    r"""A two-layer network of Gaussian units learns a mixture of three Gaussians.

    The unit is ``c N(x; y, 1/2)`` with amplitude ``c`` and position ``y``, the target

    .. math:: f(x) = \tfrac13 [N(x; -2, \tfrac12) - 2 N(x; 0, 1) + N(x; 2, \tfrac12)],

    and the loss ``1/2 int (f - f_mu)^2 dx`` over the real line, so that

    .. math:: V(c, y) = c \Big(\int c' N(y - y'; 1)\, d\mu - \tfrac13 [N(y+2; 1) - 2 N(y; \tfrac32) + N(y-2; 1)]\Big).

    Parameters
    ----------
    start : {"good", "bad"}
        ``y`` uniform on [-2, 2], or ``N(-2, 0.1^2)``; ``c ~ N(0, 1)`` in both.
    alpha : float
        Birth-death rate; 0 is gradient flow.
    reinjection : {None, "refill", "replace"}
        Birth of neurons with ``c = 0``, ``y ~ N(0, 1)``.
    amplitude, half_width : float
        The box is ``[-amplitude, amplitude] x [-half_width, half_width]``. By default the amplitude is 7 for the
        good start, and 10 for the bad one, where a few neurons have to fit a mode each.
    t_end : float
        10 for the good start; the bad start needs 40 to show its plateau.

    Notes
    -----
    **Exact.** ``E(0) = 1/2 int f^2 = 0.0688682701`` (the start has ``int c dmu = 0``) and ``min E = 0``
    (the target is realisable). The bad start stalls at the best fit by two atoms, 0.0137234: a
    measure that has no mass near ``y = 2`` gets none from birth-death, and its density there, about
    ``e^{-800}``, is beyond what a mesh in double precision holds. A mesh therefore decides whether a
    run *stays* on the plateau for as long as no scheme feeds mass into empty cells, and says nothing
    about the escape of the continuum density after a time that grows like the logarithm of that
    density. With 96 to 160 cells an axis it stays until t = 50 at least, and has left by t = 100.

    **Good values.** 96 x 96 for pictures: the energy at t = 10 is then 4 % off, on 192 x 192 cells 2 % and on
    384 x 384 1 %. The good start jumps at ``y = +-2``: refinement is first order whatever the scheme.
    """
    from scipy import stats

    start = _start(start)
    if amplitude is None:
        amplitude = 7.0 if start is Start.GOOD else 10.0
    position = stats.uniform(-2, 4) if start is Start.GOOD else stats.norm(-2, 0.1)

    def external(c: Array, y: Array) -> Array:
        target = sum(w * _normal(y - m, v + UNIT_VARIANCE) for w, m, v in zip(WEIGHTS, CENTRES, VARIANCES, strict=True))
        return -c * target

    def gradient(c: Array, y: Array) -> tuple[Array, Array]:
        modes = list(zip(WEIGHTS, CENTRES, VARIANCES, strict=True))
        target = sum(w * _normal(y - m, v + UNIT_VARIANCE) for w, m, v in modes)
        slope = sum(-w * (y - m) / (v + UNIT_VARIANCE) * _normal(y - m, v + UNIT_VARIANCE) for w, m, v in modes)
        return -target + 0.0 * c, -c * slope

    pairs = _normal(CENTRES[:, None] - CENTRES, VARIANCES[:, None] + VARIANCES)
    constant = 0.5 * float(WEIGHTS @ pairs @ WEIGHTS)
    kernel = SeparableKernel(c=LinearKernel(), y=GaussianKernel(variance=1.0, amplitude=1 / math.sqrt(2 * math.pi)))
    birth = None
    if reinjection is not None:
        birth = Reinjection(Product(c=0.0, y=stats.norm(0, 1)), reinjection)  # type: ignore[arg-type]
    return Problem(
        energy=External(external, gradient, constant=constant) + Interaction(kernel),
        axes=[Axis("c", -amplitude, amplitude), Axis("y", -half_width, half_width)],
        initial=Product(c=stats.norm(0, 1), y=position),
        alpha=alpha,
        reinjection=birth,
        t_end=t_end,
        name="three-gaussians",
        citation=CITATION,
        shape=(96, 96),
        network=Network(
            unit=lambda x, c, y: c * _normal(beside(x, c, y) - y, UNIT_VARIANCE),
            target=lambda x: sum(w * _normal(x - m, v) for w, m, v in zip(WEIGHTS, CENTRES, VARIANCES, strict=True)),
            inputs=np.linspace(-5, 5, 201),
        ),
        exact={"initial_energy": constant, "minimum_energy": 0.0},
        parameters={"amplitude": amplitude},
    )


@with_parameters
def student_teacher(
    teachers: int = 3,
    alpha: float = 2.0,
    reinjection: ReinjectionKind | str | None = None,
    samples: int = 48,
    std: float = 0.4,
    amplitude: float = 4.0,
    half_width: float = 3.5,
    seed: int = 1,
    t_end: float = 10.0,
) -> Problem:
    r"""A wide ReLU network learns from a narrow one, in two input dimensions.

    Student units :math:`c\,(a \cdot x)_+` with amplitude ``c`` and weight ``a`` in the plane learn
    :math:`y(x) = \frac1m \sum_{k=1}^m c_k (a_k \cdot x)_+`, where :math:`|c_k| |a_k| = 1` with random directions and
    signs. The loss is ``1/2`` of the mean square error over inputs on the unit circle,

    .. math:: V(c, a) = c\, g(a), \qquad g(a) = \frac1M \sum_j (f(x_j) - y_j) (a \cdot x_j)_+ .

    Parameters
    ----------
    teachers : int
        ``m``, at least 1.
    alpha : float
        Birth-death rate; 0 is gradient flow.
    reinjection : {None, "refill", "replace"}
        Birth of neurons with ``c = 0`` and the weights of the start.
    samples : int
        ``M`` inputs, equally spaced on the circle; at least 8.
    std : float
        ``c``, ``a_1`` and ``a_2`` start as independent centred Gaussians of this standard deviation.
    amplitude, half_width : float
        The box is ``[-amplitude, amplitude] x [-half_width, half_width]^2``.
    seed : int
        Of the teacher.
    t_end : float

    Notes
    -----
    The experiment of that name in the authors' public code has 50 input dimensions and 10 teacher units. This is its
    smallest relative, chosen such that a mesh of three dimensions holds it; no number here is the paper's.

    **Exact** (``problem.exact``): ``initial_energy``, half the mean square of the teacher's output, as the start has
    ``int c dmu = 0``; ``minimum_energy = 0`` if the box holds the teacher with ``|c_k| = 1``; ``invariant``, the value
    of ``int (c^2 - |a|^2) dmu`` along gradient flow, which conserves ``c^2 - |a|^2`` of every neuron: its unit is
    homogeneous of degree one in both.

    **Good values.** 32 cells along an axis for pictures, 64 for two digits. The velocity of a ReLU jumps, so that there
    are no characteristics.
    """
    from scipy import stats

    at_least(1, teachers=teachers)
    at_least(8, samples=samples)
    at_least(0, seed=seed)
    positive(std=std)
    rng = np.random.default_rng(seed)
    directions, signs = rng.uniform(0, 2 * math.pi, teachers), rng.choice([-1.0, 1.0], teachers)
    angles = 2 * math.pi * np.arange(samples) / samples
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    y = np.maximum(np.cos(angles[:, None] - directions), 0.0) @ signs / teachers
    weights = {"a1": stats.norm(0, std), "a2": stats.norm(0, std)}
    birth = None
    if reinjection is not None:
        birth = Reinjection(Product(c=0.0, **weights), reinjection)  # type: ignore[arg-type]
    exact: dict[str, float] = {"initial_energy": 0.5 * float(np.mean(y**2)), "invariant": -(std**2)}
    if min(amplitude, half_width) >= 1:
        exact["minimum_energy"] = 0.0
    return Problem(
        energy=TwoLayerNetwork(
            x, y, activation="relu", axes=("c", "a1", "a2"), roles=("amplitude", "weight", "weight")
        ),
        axes=[Axis("c", -amplitude, amplitude)] + [Axis(name, -half_width, half_width) for name in weights],
        initial=Product(c=stats.norm(0, std), **weights),
        alpha=alpha,
        reinjection=birth,
        t_end=t_end,
        name="student-teacher",
        citation=CITATION,
        shape=(32, 32, 32),
        exact=exact,
    )


def _start(start: Start | str) -> Start:
    try:
        return Start(start)
    except ValueError:
        raise ValueError(f"unknown start {start!r}; valid: {', '.join(repr(s.value) for s in Start)}") from None
