"""An energy of one's own that exists on a mesh only: the porous medium equation, d_t mu = Laplace(mu^2)."""

from dataclasses import dataclass

import numpy as np

import mfpde as mf


@dataclass(frozen=True)
class PorousMedium(mf.energy.MeshEnergy):
    """``E = int mu^2 dx``: no cloud of particles has its first variation ``V = 2 mu``."""

    convex = quadratic = True

    def evaluate(self, mu, grid):
        """V and E of cell averages."""
        return 2 * mu, (mu**2).sum() * grid.cell_volume


def barenblatt(t):
    """The solution of mass 1 that was an atom at time 0: ``t^(-1/3) (C - x^2 t^(-2/3) / 12)_+`` with ``C^3 = 3/64``."""
    return mf.Density(lambda x: np.maximum((3 / 64) ** (1 / 3) - x**2 * t ** (-2 / 3) / 12, 0))


problem = mf.Problem(PorousMedium(), [mf.Axis("x", -4, 4)], barenblatt(1.0), name="porous medium")
solution = mf.solve(problem, 400, 0.5, save=2)
grid = solution.grid
exact = barenblatt(1.5).restrict(grid.axes).cells(grid)
error = np.abs(solution.density[-1] - exact).sum() * grid.cell_volume
energy = 0.8 * (3 / 64) ** (1 / 3) * 1.5 ** (-1 / 3)  # 4 C / 5 at t = 1
print(f"L1 error {error:.1e} on 400 cells, E = {solution.energy[-1]:.6f}, exactly {energy:.6f}")
assert error <= 1e-4
assert abs(solution.energy[-1] - energy) < 1e-4
