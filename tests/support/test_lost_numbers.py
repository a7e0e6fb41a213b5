"""Numbers that NumPy would lose on their way to floats: imaginary parts, and the masks of masked arrays."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import mfpde as mf
from mfpde.equation.schedules import CustomSchedule
from mfpde.support.arguments import floats, numbers, refuse_masked, values_of

AXES = [mf.Axis("x", -2.0, 2.0)]
MASKED = np.ma.array([0.1, 0.2, 0.3], mask=[False, True, False])
COMPLEX = np.array([0.1, 0.2 + 1.0j, 0.3])


def lossy(x, kind):
    """Values of the shape of `x` of which something would be lost."""
    if kind == "complex":
        return x + 1.0j
    return np.ma.array(x, mask=np.arange(np.size(x)).reshape(np.shape(x)) == 0)


class Imaginary(mf.energy.MeshEnergy):
    def evaluate(self, mu, grid):
        return lossy(2.0 * mu, "masked"), float((mu * mu).sum()) * grid.cell_volume


@dataclasses.dataclass(frozen=True)
class Decay(mf.Term):
    kind: str

    def advance(self, mu, frozen, length):
        return lossy(mu, self.kind)

    def rate(self, mu, frozen):
        return np.zeros(mu.shape)


def well(**changes):
    return dataclasses.replace(mf.problems.quadratic_well(), **changes)


def grown(kind):
    mu = well().mu_0.cells(well().grid(40))
    return lossy(mu, kind)


TAKERS = {
    "an initial density": lambda kind: mf.solve(well(), 40, 0.1, initial=grown(kind)),
    "a state": lambda kind: mf.solve(well(), 40, 0.1, initial=mf.State(0.0, grown(kind))),
    "inputs": lambda kind: mf.TwoLayerNetwork(lossy(np.arange(3.0), kind), np.arange(3.0)),
    "targets": lambda kind: mf.TwoLayerNetwork(np.arange(3.0), lossy(np.arange(3.0), kind)),
    "weights of samples": lambda kind: mf.TwoLayerNetwork(np.arange(3.0), np.arange(3.0), lossy(np.ones(3), kind)),
    "particles": lambda kind: mf.Particles(lossy(np.ones((3, 1)), kind)),
    "masses of cells": lambda kind: mf.GridMeasure(mf.Grid(AXES, 4), lossy(np.ones(4), kind)),
    "centres": lambda kind: mf.problems.gaussian_bumps(centres=lossy(np.array([[0.1], [0.2]]), kind)),
    "atoms": lambda kind: mf.Discrepancy(
        mf.SeparableKernel(x=mf.GaussianKernel(1.0)), lossy(np.ones((2, 1)), kind), np.ones(2)
    ),
    "save times": lambda kind: mf.solve(well(), 40, 1.0, save=lossy(np.array([0.5, 1.0]), kind)),
    "a potential": lambda kind: mf.External(lambda x: lossy(x, kind)).bind(AXES).on(mf.Grid(AXES, 8)),
    "its gradient": lambda kind: mf.External(lambda x: 0.5 * x**2, lambda x: lossy(x, kind)).bind(AXES),
    "features": lambda kind: mf.Features(lambda x: lossy(np.stack([x, x]), kind), mf.SquaredLoss(np.ones(2))).bind(
        AXES
    ),
    "a rate": lambda kind: mf.solve(well(rate=lambda V: lossy(V, kind), alpha=1.0), 40, 0.1),
    "a base measure": lambda kind: well(base=lambda x: lossy(1.0 + x * x, kind)).log_base(np.arange(3.0)),
    "a metric": lambda kind: well(metric=[lambda x: lossy(1.0 + x * x, kind)]).mobility(0, np.arange(3.0)),
    "a density": lambda kind: mf.Density(lambda x: lossy(np.exp(-x * x), kind)).restrict(AXES),
    "a term": lambda kind: mf.solve(well(terms=[Decay(kind)]), 40, 0.1),
    "points": lambda kind: well().bound_energy.potential(lossy(np.ones((3, 1)), kind), np.empty(0)),
    "inputs of a prediction": lambda kind: (
        mf.TwoLayerNetwork(np.arange(9.0), np.arange(9.0))
        .bind([mf.Axis(name, -1, 1) for name in "cab"])
        .predict(np.ones(9), lossy(np.arange(3.0), kind))
    ),
}


@pytest.mark.parametrize("kind", ["complex", "masked"])
@pytest.mark.parametrize("name", TAKERS)
def test_what_would_be_lost_is_refused(name, kind):
    """In one line; NumPy warns of an imaginary part at most, and of a mask not at all."""
    with pytest.raises(
        ValueError, match=r"real numbers|masked|array of numbers|list of numbers|sequence of"
    ) as refused:
        TAKERS[name](kind)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("take", [numbers, floats])
def test_the_message_names_the_remedy(take):
    with pytest.raises(ValueError, match=r"^the data has 1 masked entry; fill them, values.filled\(number\), or drop"):
        take(MASKED, "the data")
    with pytest.raises(ValueError, match=r"^the data must be real numbers, not "):
        take(COMPLEX, "the data")
    with pytest.raises(ValueError, match="the data has 2 masked entries"):
        take([MASKED, MASKED], "the data")


def test_a_mask_that_hides_nothing_is_none():
    whole = np.ma.array([1.0, 2.0], mask=False)
    assert numbers(whole, "the data").tolist() == floats(whole, "the data").tolist() == [1.0, 2.0]
    refuse_masked(whole, "the data")


def test_floats_are_not_copied():
    x = np.arange(3.0)
    assert floats(x, "x") is x
    assert floats([1, True], "x").tolist() == [1.0, 1.0]
    for nothing in ("text", None, [[1.0], [1.0, 2.0]]):
        with pytest.raises(ValueError, match="x must be a number or an array of numbers"):
            floats(nothing if nothing is not None else object(), "x")


def test_what_a_function_returns_is_named():
    def my_function(x):
        return np.ma.masked_less(x, 1.0)

    with pytest.raises(ValueError, match=r"^what .*my_function returns has 1 masked entry"):
        values_of(my_function, np.arange(3.0))


def test_an_energy_on_a_mesh_and_a_schedule():
    with pytest.raises(ValueError, match=r"Imaginary\.evaluate returns has 1 masked entry"):
        Imaginary().bind(AXES).on(mf.Grid(AXES, 8))
    with pytest.raises(ValueError, match=r"the value at t = 0.0 must be real numbers"):
        CustomSchedule(lambda t: np.complex128(1.0 + 2.0j))(0.0)
