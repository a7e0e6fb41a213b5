"""Terms of a problem's own: closed forms, orders of the splitting, mass, energy, and who refuses them."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from scipy import stats
from shared import PassByPass

import mfpde as mf

FRESH = mf.Product(x=stats.norm(-0.4, 0.5))


@dataclass(frozen=True)
class Replacement(mf.Term):
    """``T[mu] = k (nu - mu)``."""

    k: float = 2.0

    def rate(self, mu, at):
        return self.k * (at.cells(FRESH) - mu)

    def advance(self, mu, at, length):
        return mu - np.expm1(-self.k * length) * (at.cells(FRESH) - mu)


@dataclass(frozen=True)
class Loss(mf.Term):
    """``T[mu] = -k mu``: mass leaves."""

    k: float = 2.0
    balanced: ClassVar[bool] = False

    def rate(self, mu, at):
        return -self.k * mu

    def advance(self, mu, at, length):
        return mu * np.exp(-self.k * length)


class Nothing(mf.Term):
    """``T[mu] = 0``."""

    def rate(self, mu, at):
        return np.zeros(mu.shape)

    def advance(self, mu, at, length):
        return mu.copy()


def problem(*terms, **changes):
    """Half a square well, with terms."""
    settings = {"axes": [mf.Axis("x", -4, 4)], "initial": mf.Product(x=stats.norm(0.5, 0.5)), **changes}
    return mf.Problem(mf.External(lambda x: x**2 / 2), terms=terms, **settings)


def moments(solution):
    x = solution.grid.centres(0)
    return np.array([solution.grid.integrate(x**k * solution.density[-1]) for k in (0, 1, 2)])


@pytest.mark.parametrize("scheme", [mf.Weno5(), mf.Muscl(), mf.ScharfetterGummel()], ids=lambda s: s.name)
@pytest.mark.parametrize("s", [1.0, 0.5])
def test_closed_form(scheme, s):
    """``m' = s (-m + k (m_nu - m))``, and for the second moment ``q' = s (-2 q + 2 tau + k (q_nu - q))``."""
    k, tau = 2.0, 0.1
    solution = mf.solve(
        problem(Replacement(k), temperature=tau, schedule=s),
        400,
        scheme=scheme,
        controller=mf.ErrorControl(1e-6),
        progress=False,
    )
    m, q = k * -0.4 / (1 + k), (2 * tau + k * (0.25 + 0.16)) / (2 + k)
    expected = [1.0, m + (0.5 - m) * np.exp(-s * (1 + k)), q + (0.5 - q) * np.exp(-s * (2 + k))]
    # second order at h = 0.02: a half of h^2
    np.testing.assert_allclose(moments(solution), expected, rtol=0, atol=2e-4 if scheme.order < 5 else 2e-6)
    assert solution.stats["mass_drift"] < 1e-13


@pytest.mark.parametrize(("method", "order"), [(mf.Lie(), 1), (mf.Strang(), 2)])
def test_order_of_the_splitting(method, order):
    """With a reaction and a term that do not commute with the transport, against short steps."""
    well = problem(Replacement(), alpha=1.5)
    runs = [
        mf.solve(
            well, 60, 0.4, scheme=mf.Muscl(), method=method, controller=mf.FixedStep(0.4 / n), progress=False, save=2
        )
        for n in (32, 64, 128, 1024)
    ]
    errors = [np.abs(run.density[-1] - runs[-1].density[-1]).sum() * run.grid.cell_volume for run in runs[:-1]]
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert orders.min() > order - 0.15
    assert errors[-1] < (4e-3, 2e-5)[order - 1]


def test_dissipation_is_that_of_all_operators():
    """``-dE/dt`` from what is recorded, against differences of the energy; here energy comes in with fresh mass."""
    well = problem(Replacement(), alpha=1.5)
    solution = mf.solve(well, 200, 0.3, controller=mf.FixedStep(1e-3), progress=False)
    d = solution.diagnostics
    dissipation = d["dissipation_transport"] + d["dissipation_reaction"]
    change = -np.gradient(d["energy"], d["time"])
    np.testing.assert_allclose(dissipation[1:-1], change[1:-1], rtol=2e-4)


def test_terms_act_one_after_the_other_and_mass_follows():
    both = mf.solve(problem(Replacement(1.0), Loss(0.5)), 100, 1.0, controller=mf.ErrorControl(1e-6), progress=False)
    # m' = 1 - (1 + 0.5) m: fresh mass comes at rate 1, whatever is there
    assert moments(both)[0] == pytest.approx(1 / 1.5 + (1 - 1 / 1.5) * np.exp(-1.5), abs=1e-5)
    assert both.stats["balanced"] is False
    assert not both.warnings


def test_a_term_that_does_nothing_changes_no_bit():
    """Where both go from pass to pass; what has no terms is one program on small meshes, whose sums are others."""
    settings = {"scheme": mf.Muscl(), "controller": mf.FixedStep(0.01)}
    for method in (mf.Strang(), mf.Lie()):
        plain, zero = (
            mf.solve(p, 50, 0.3, algebra=PassByPass(), progress=False, **settings | {"method": method})
            for p in (problem(alpha=1.0), problem(Nothing(), alpha=1.0))
        )
        np.testing.assert_array_equal(plain.density[-1], zero.density[-1])
        np.testing.assert_array_equal(plain.energy, zero.energy)


def test_methods_that_have_no_place_for_terms_say_so():
    own = problem(Replacement())
    assert "terms of the problem's own" in repr(mf.Solver(own, 20))
    for scheme, method in ((mf.Muscl(), mf.ExponentialSSPRK3()), (mf.ScharfetterGummel(), mf.ImplicitStrang())):
        with pytest.raises(ValueError, match=r"does not integrate terms of the problem's own; use Strang\(\)"):
            mf.Solver(own, 20, scheme=scheme, method=method)
    without = mf.Splitting([(mf.Operator.REACTION, 1.0), (mf.Operator.TRANSPORT, 1.0)], order=1)
    with pytest.raises(ValueError, match=r"no step for terms of the problem's own; give it \(Operator.OWN, fraction\)"):
        mf.Solver(own, 20, method=without)
    with pytest.raises(ValueError, match=r"the own fractions of the splitting sum to 0.5"):
        mf.Splitting([(mf.Operator.OWN, 0.5), (mf.Operator.REACTION, 1.0), (mf.Operator.TRANSPORT, 1.0)], order=1)


def test_bad_terms():
    with pytest.raises(ValueError, match="terms must be Term objects, not 3"):
        problem(3)

    class Wrong(mf.Term):
        def rate(self, mu, at):
            return mu

        def advance(self, mu, at, length):
            return mu[1:]

    with pytest.raises(ValueError, match=r"Wrong.advance gave shape \(19,\), the mesh has \(20,\)"):
        mf.solve(problem(Wrong()), 20, progress=False)


def test_a_term_is_part_of_what_a_problem_is():
    prints = {problem().fingerprint(), problem(Replacement()).fingerprint(), problem(Replacement(1.0)).fingerprint()}
    assert len(prints) == 3
    assert "Replacement(k=2.0)" in repr(problem(Replacement()))


def test_the_energy_may_rise_without_a_warning():
    """Fresh mass comes in where V is large; nothing is certified of a flow that does not descend."""
    start = mf.Product(x=stats.norm(0.0, 0.3))
    far = mf.solve(problem(Replacement(5.0), initial=start), 100, 0.2, controller=mf.ErrorControl(1e-5), progress=False)
    assert far.energy[-1] > far.energy[0]
    assert not far.warnings


@pytest.mark.parametrize(
    "other",
    [
        lambda p: mf.characteristics(p),
        lambda p: mf.particles.simulate(p, 10),
        lambda p: mf.stationary(p, 20),
        lambda p: mf.fluctuations(p),
    ],
)
def test_other_discretisations_refuse_terms_by_name(other):
    with pytest.raises(ValueError, match=r"terms of the problem's own \(Replacement\(k=2.0\)\) act on a mesh only"):
        other(problem(Replacement(), temperature=0.0))


class Broken(mf.Term):
    """A term whose ``advance`` is given."""

    def __init__(self, advance):
        self._advance = advance

    def rate(self, mu, at):
        return -mu

    def advance(self, mu, at, length):
        return self._advance(mu)


@pytest.mark.parametrize(
    ("advance", "message"),
    [
        (lambda mu: mu - 1.0, r"Broken.advance gave a negative density \(minimum -1\)"),
        (lambda mu: 0.9 * mu, r"Broken.advance changed the mass by -0.1 of it; a term .* says balanced = False"),
        (lambda mu: 1j * mu, "Broken.advance must give real numbers, not complex128"),
        (lambda mu: np.multiply(mu, 0.5, out=mu), "read-only"),
    ],
)
def test_what_a_term_does_wrong_is_said(advance, message):
    with pytest.raises(ValueError, match=message):
        mf.solve(problem(Broken(advance)), 20, progress=False)
