"""Two measures in one problem: players of a game whose mean strategies spiral into its equilibrium."""

import numpy as np
from scipy import stats

import mfpde as mf

# the payoff l(x, y) = a x^2/2 + b x y - a y^2/2, which the left player lowers and the right one raises
a, b, t_end = 0.5, 2.0, 1.0
pairs = mf.SeparableKernel(player=mf.SpeciesKernel([[0, 1], [1, 0]]), x=mf.LinearKernel())
game = mf.Problem(
    mf.BySpecies(mf.Interaction(pairs, 2 * b), left=1, right=-1) + mf.Confinement(x=a),
    [mf.Species("player", ("left", "right")), mf.Axis("x", -5, 5)],
    mf.PerSpecies(left=mf.Product(x=stats.norm(1, 0.5)), right=mf.Product(x=stats.norm(0, 0.5))),
)
solution = mf.solve(game, shape=200, t_end=t_end, controller=mf.ErrorControl(1e-7))
means = (
    solution.moment(lambda player, x: x * (player == 0)) * 2,
    solution.moment(lambda player, x: x * (player == 1)) * 2,
)
exact = np.exp(-a * t_end) * np.array([np.cos(b * t_end), np.sin(b * t_end)])  # m' = -a m + b R m, R a rotation
print(f"means {means[0]:.6f}, {means[1]:.6f}, exactly {exact[0]:.6f}, {exact[1]:.6f}")
assert np.abs(means - exact).max() < 1e-5
assert np.abs(solution.diagnostics["mass_left"] - 0.5).max() < 1e-12
