"""The compiled operations against their definitions in NumPy, in whole runs of every shipped problem."""

import dataclasses

import numpy as np
import pytest
from shared import printed_by

import mfpde as mf

P = mf.problems

pytestmark = pytest.mark.usefixtures("one_thread")

CELLS = {1: (40,), 2: (12, 12), 3: (8, 8, 8), 4: (5, 5, 5, 5)}


def both(problem, shape, steps, **settings):
    """Runs to a time that about so many steps reach; where a run stops after a number of them depends on bits."""
    settings |= {"progress": False, "throw": False}
    t_end = mf.solve(problem, shape, max_steps=steps, **settings).state.t
    return tuple(
        mf.solve(problem, shape, t_end, save=3, algebra=algebra, **settings)
        for algebra in (mf.NumpyAlgebra(), mf.CompiledAlgebra())
    )


def same(plain, compiled, length=1e-8):
    """To 1e-12 of the largest density and energy, after steps that follow an error estimate."""
    assert plain.result is compiled.result
    assert plain.stats["steps"] == compiled.stats["steps"]
    assert plain.stats["redone"] == compiled.stats["redone"]
    scale = np.abs(compiled.density).max()
    np.testing.assert_allclose(plain.density, compiled.density, rtol=0, atol=1e-12 * scale)
    np.testing.assert_allclose(plain.energy, compiled.energy, rtol=0, atol=1e-12 * np.abs(compiled.energy).max())
    # lengths of steps follow an estimate of 1e-5 or less, with the round-off of the density
    mass = 1e-13 if compiled.stats["balanced"] else 1e-8
    for name, share in (
        ("dissipation_transport", 1e-8),
        ("dissipation_reaction", 1e-8),
        ("mass", mass),
        ("dt", length),
    ):
        known = np.isfinite(compiled.diagnostics[name])  # a schedule may begin infinite
        one, other = plain.diagnostics[name][known], compiled.diagnostics[name][known]
        np.testing.assert_allclose(one, other, rtol=0, atol=share * np.abs(other).max(), err_msg=name)


@pytest.mark.filterwarnings("ignore::mfpde.RunWarning")  # of meshes as coarse as these
@pytest.mark.parametrize("scheme", [None, mf.Muscl(), mf.Weno5()], ids=repr)
@pytest.mark.parametrize("name", P.names())
def test_every_shipped_problem(name, scheme):
    """With the scheme and method that it gets where none is named, and with two named ones."""
    problem = P.get(name)
    shape = CELLS[sum(axis.moves for axis in problem.axes)]
    same(*both(problem, shape, 6 if len(shape) > 2 else 25, scheme=scheme))


@pytest.mark.parametrize("alpha", [200.0, 500.0])
def test_stiff_reactions_whose_steps_are_redone(alpha):
    redone = 0
    for problem in (P.linear_neuron(alpha=alpha), P.quadratic_well(alpha=alpha), P.gaussian_bumps(alpha=alpha)):
        for method in (mf.ExponentialSSPRK3(), mf.Strang()):
            plain, compiled = both(
                problem, 40, 60, method=method, controller=mf.ErrorControl(1e-6, reaction=50.0, growth=10.0)
            )
            # an exponential of up to 50 has 50 roundings, of which an estimate of 1e-6 is 1e-8 off in every step; the
            # unsplit method takes exponentials of a third
            same(plain, compiled, 1e-6 if isinstance(method, mf.Strang) else 1e-8)
            redone += compiled.stats["redone"]
    assert redone > 5


@pytest.mark.parametrize("method", [mf.Strang(), mf.Lie(), mf.ImplicitStrang(), mf.ImplicitEuler()], ids=repr)
@pytest.mark.parametrize("reaction", ["balanced", "unbalanced", "free-energy"])
def test_methods_and_reactions_with_a_temperature(method, reaction):
    problem = dataclasses.replace(P.double_well(), temperature=0.3, alpha=3.0, reaction=reaction)
    same(*both(problem, 30, 20, scheme=mf.ScharfetterGummel(), method=method))


@pytest.mark.filterwarnings("ignore::mfpde.RunWarning")
@pytest.mark.parametrize("kind", ["refill", "replace"])
def test_reinjection(kind):
    same(*both(P.three_gaussians(reinjection=kind), (14, 14), 10))


def test_numpy_compiles_nothing():
    """A whole run, its record and its step control, without the compiler."""
    code = (
        "import sys, mfpde as mf; mf.solve(mf.problems.linear_neuron(), 20, t_end=0.1, algebra=mf.NumpyAlgebra()); "
        "print([m for m in ('numba', 'llvmlite') if m in sys.modules])"
    )
    assert printed_by(code) == "[]\n"


def test_the_solver_says_what_it_computes_with():
    problem = P.linear_neuron()
    assert "NumpyAlgebra()" in repr(mf.Solver(problem, 20, algebra=mf.NumpyAlgebra()))
    assert "Algebra" not in repr(mf.Solver(problem, 20))
    with pytest.raises(ValueError, match=r"algebra must be an Algebra object such as mf.NumpyAlgebra\(\), not 'numpy'"):
        mf.solve(problem, 20, algebra="numpy")
