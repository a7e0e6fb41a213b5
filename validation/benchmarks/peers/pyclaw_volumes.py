"""PyClaw: SharpClaw (WENO5, SSP Runge-Kutta) on the advection equation with the divergence as a source."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
from clawpack import pyclaw, riemann

from validation.benchmarks._work import ALPHA, T_END, Work, mesh
from validation.benchmarks.peers._peer import Outcome, Peer, Rung, Solve, Variant

logging.getLogger("pyclaw").setLevel(logging.CRITICAL)

LADDERS = {
    Work.BUMPS_1D: [Rung(n) for n in (50, 100, 200, 400, 800, 1600)],
    Work.BUMPS_2D: [Rung(n) for n in (32, 64, 128, 256, 512)],
    Work.NETWORK: [Rung(n) for n in (32, 64, 128, 256, 512)],
}


def prepare(work: Work, variant: str, rung: Rung) -> Solve:
    d = work.dimension

    def solve(seed: int) -> Outcome:
        on = mesh(work, rung.n)
        if d == 1:
            solver: Any = pyclaw.SharpClawSolver1D(riemann.advection_color_1D)
        else:
            solver = pyclaw.SharpClawSolver2D(riemann.vc_advection_2D)
        solver.time_integrator = variant.split()[-1]
        if solver.time_integrator == "SSP104":
            solver.cfl_max, solver.cfl_desired = 2.5, 2.0
        else:
            solver.cfl_max, solver.cfl_desired = 1.0, 0.8
        solver.all_bcs = pyclaw.BC.extrap
        solver.aux_bc_lower = [pyclaw.BC.extrap] * d
        solver.aux_bc_upper = [pyclaw.BC.extrap] * d
        solver.max_steps = 10**7
        domain = pyclaw.Domain([pyclaw.Dimension(-work.box, work.box, rung.n, name=name) for name in "xy"[:d]])
        state = pyclaw.State(domain, 1, num_aux=d)
        state.q[0] = on.initial
        source = np.zeros(on.shape)

        def velocity(solver: Any, state: Any) -> None:
            # called before each stage: the velocity at the centres, and what the equation has beyond u . grad mu
            mu = state.q[0]
            V, *gradient = on.gradient(mu)
            source[...] = -ALPHA * (V - (V * mu).sum() / mu.sum())
            for axis, slope in enumerate(gradient):
                state.aux[axis] = -slope
                source[...] += np.gradient(slope, on.h, axis=axis, edge_order=2)

        def reaction(solver: Any, state: Any, dt: float) -> Any:
            return dt * (source * state.q[0])[None]

        solver.before_step = velocity
        solver.call_before_step_each_stage = True
        solver.dq_src = reaction
        fastest = max(float(np.abs(slope).max()) for slope in on.gradient(on.initial)[1:])
        solver.dt_initial = 0.2 * on.h / (d * max(fastest, math.ulp(1.0)))
        run = pyclaw.Controller()
        run.solution = pyclaw.Solution(state, domain)
        run.solver = solver
        run.tfinal, run.num_output_times = T_END, 1
        run.output_format, run.keep_copy, run.verbosity = None, False, 0
        run.run()
        mu = run.solution.state.q[0]
        return Outcome(float(on.energy(mu)), float(mu.sum() * on.volume), float(mu.min() / mu.max()))

    return solve


PEER = Peer(
    name="PyClaw",
    packages=("clawpack",),
    variants=[Variant("SharpClaw SSP104", LADDERS), Variant("SharpClaw SSP33", LADDERS)],
    prepare=prepare,
    lacks="conservation of mass (its variable-coefficient solvers are of the colour equation; div u is a source), "
    "positivity, energy decay",
    method="SharpClaw with WENO5 and Fortran Riemann solvers (colour equation), velocity before each stage, reaction "
    "and div u as dq_src; second order since the velocity is constant in a cell",
)
