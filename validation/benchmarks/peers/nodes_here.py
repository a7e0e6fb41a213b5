"""The characteristics of this package, by the rules of the peers: outside the comparison, as they are the reference."""

from __future__ import annotations

import mfpde as mf
from validation.benchmarks._work import Work
from validation.benchmarks.peers._peer import Outcome, Peer, Rung, Solve, Variant

LADDERS = {
    work: [Rung(n, tolerance) for tolerance in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)]
    for work, n in ((Work.BUMPS_1D, 16), (Work.BUMPS_2D, 12), (Work.NETWORK, 12))
}


def prepare(work: Work, variant: str, rung: Rung) -> Solve:
    problem = work.problem()

    def solve(seed: int) -> Outcome:
        result = mf.characteristics(problem, save=2, nodes=rung.n, tolerance=rung.tolerance, progress=False)
        return Outcome(float(result.energy[-1]))

    return solve


PEER = Peer(
    name="mfpde.characteristics",
    packages=("mfpde", "numpy", "scipy"),
    variants=[Variant("refined", LADDERS)],
    prepare=prepare,
    lacks="a density on a mesh, and convergence where the start or the velocity is not smooth; it is the reference "
    "too (more accurately), so it takes no part in the ratios",
    method="mfpde.characteristics, which refines from n nodes an axis until its tolerance is met; problem built once",
)
