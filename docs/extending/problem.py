"""A problem of one's own: neurons that repel each other in a double well, die and duplicate."""

from scipy import stats

import mfpde as mf

problem = mf.Problem(
    energy=mf.External(lambda x: (x**2 - 1) ** 2 / 4) + mf.Interaction(mf.SeparableKernel(x=mf.GaussianKernel(0.3))),
    axes=[mf.Axis("x", -2.5, 2.5)],
    initial=mf.Product(x=stats.norm(0.2, 0.3)),
    alpha=1.0,
    t_end=0.5,
    name="repelling double well",
)

mesh = mf.solve(problem, shape=(200,))
nodes = mf.characteristics(problem, save=mesh.times)
print(f"E(0.5) = {mesh.energy[-1]:.6f} on 200 cells, {nodes.energy[-1]:.6f} along characteristics")
assert mesh.energy[-1] < mesh.energy[0]
assert abs(mesh.energy[-1] - nodes.energy[-1]) < 1e-5
