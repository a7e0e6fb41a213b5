"""A transport scheme of one's own: third order, upwind-biased, without a limiter."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

import mfpde as mf


@dataclass(frozen=True)
class UpwindBiased(mf.Scheme):
    """Quadratic reconstruction of cell averages, from two cells upwind and one downwind."""

    name, order, ghost, positive = "upwind-biased", 3, 2, False

    @staticmethod
    def row(mu, V, g, h, tau):
        """The flux through a face, from the two cells on its left and the two on its right."""
        v = -g * (V[0] - 27 * V[1] + 27 * V[2] - V[3]) / (24 * h)
        left, right = -mu[0] + 5 * mu[1] + 2 * mu[2], 2 * mu[1] + 5 * mu[2] - mu[3]
        diffusion = -tau * g * (mu[0] - 15 * mu[1] + 15 * mu[2] - mu[3]) / (12 * h)
        return (np.maximum(v, 0) * left + np.minimum(v, 0) * right) / 6 + diffusion


# In V = x^2/2 everything moves to 0 as exp(-t): a Gaussian stays one, and so do its cell averages.
problem = mf.Problem(mf.External(lambda x: x**2 / 2), [mf.Axis("x", -5, 5)], mf.Product(x=stats.norm(0.5, 0.8)))
exact = mf.Product(x=stats.norm(0.5 * np.exp(-0.5), 0.8 * np.exp(-0.5)))
errors, drifts = [], []
for cells in (100, 200):
    solution = mf.solve(problem, cells, 0.5, scheme=UpwindBiased(), controller=mf.ErrorControl(1e-8))
    grid = solution.grid
    errors.append(np.abs(solution.density[-1] - exact.restrict(grid.axes).cells(grid)).sum() * grid.cell_volume)
    drifts.append(solution.stats["mass_drift"])

order = np.log2(errors[0] / errors[1])
print(f"L1 errors {errors[0]:.2e}, {errors[1]:.2e}: order {order:.2f}; mass kept to {max(drifts):.0e}")
assert order > 2.9
assert errors[1] < 2e-4
assert max(drifts) < 1e-14
