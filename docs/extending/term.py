"""An operator of one's own: neurons are replaced at a constant rate by fresh ones from a fixed measure."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

import mfpde as mf


@dataclass(frozen=True)
class Replacement(mf.Term):
    """``T[mu] = k (nu - mu)``, solved exactly over a step."""

    nu: mf.Measure
    k: float

    def rate(self, mu, at):
        """``T[mu]`` on the cells."""
        return self.k * (at.cells(self.nu) - mu)

    def advance(self, mu, at, length):
        """The solution after a time `length`."""
        return mu - np.expm1(-self.k * length) * (at.cells(self.nu) - mu)


# In V = x^2/2 the mean obeys m' = -m + k (m_nu - m): it tends to k m_nu / (1 + k).
k, start, fresh = 2.0, 0.5, -0.4
problem = mf.Problem(
    mf.External(lambda x: x**2 / 2),
    [mf.Axis("x", -4, 4)],
    mf.Product(x=stats.norm(start, 0.5)),
    terms=[Replacement(mf.Product(x=stats.norm(fresh, 0.5)), k)],
)
solution = mf.solve(problem, 400, 1.0, controller=mf.ErrorControl(1e-7))
mean = float(solution.grid.integrate(solution.grid.centres(0) * solution.density[-1]))
rest = k * fresh / (1 + k)
exact = rest + (start - rest) * np.exp(-(1 + k))
print(f"mean {mean:.8f}, exactly {exact:.8f}; mass kept to {solution.stats['mass_drift']:.0e}")
assert abs(mean - exact) < 1e-6
assert solution.stats["mass_drift"] < 1e-13
