"""The package itself, by the rules of the peers: from the problem's numbers to the energy."""

from __future__ import annotations

import mfpde as mf
from validation.benchmarks._work import Work
from validation.benchmarks.peers._peer import Outcome, Peer, Rung, Solve, Variant

WENO = {
    Work.BUMPS_1D: [Rung(n) for n in (32, 48, 64, 96, 128, 200, 300)],
    Work.BUMPS_2D: [Rung(n) for n in (24, 32, 48, 64, 96, 128, 192)],
    Work.NETWORK: [Rung(n) for n in (48, 64, 96, 128, 192, 256, 384)],
}
MUSCL = {
    Work.BUMPS_1D: [Rung(n) for n in (50, 100, 200, 400, 800, 1600)],
    Work.BUMPS_2D: [Rung(n) for n in (64, 128, 256, 512)],
    Work.NETWORK: [Rung(n) for n in (64, 128, 256, 512)],
}
SCHEMES: dict[str, mf.Scheme] = {"Weno5": mf.Weno5(), "Muscl": mf.Muscl()}


def prepare(work: Work, variant: str, rung: Rung) -> Solve:
    problem = work.problem()

    def solve(seed: int) -> Outcome:
        shape = (rung.n,) * work.dimension
        solution = mf.solve(problem, shape, scheme=SCHEMES[variant], save=2, progress=False)
        mu = solution.density[-1]
        mass = float(mu.sum()) * solution.grid.cell_volume
        return Outcome(float(solution.energy[-1]), mass, float(mu.min() / mu.max()))

    return solve


PEER = Peer(
    name="mfpde",
    packages=("mfpde", "numpy", "scipy", "numba"),
    variants=[Variant("Weno5", WENO), Variant("Muscl", MUSCL)],
    prepare=prepare,
    compiles=True,
    lacks="nothing of these: mass to round-off, no negative values, energy decay watched at every step",
    method="mfpde.solve with its defaults; the problem with its factorised energy is built once, the solver each time",
)
