"""diffrax on the same method of lines, jitted, double precision, on the CPU."""

from __future__ import annotations

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

from validation.benchmarks._work import T_END, Work, mesh
from validation.benchmarks.peers._lines import Lines, right_hand_side
from validation.benchmarks.peers._peer import Outcome, Peer, Rung, Solve, Variant
from validation.benchmarks.peers.scipy_ivp import CENTRAL, FOURIER, MUSCL

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_platforms", "cpu")

PARTS = {
    "muscl, Tsit5": (Lines.MUSCL, diffrax.Tsit5),
    "central-6, Tsit5": (Lines.CENTRAL_6, diffrax.Tsit5),
    "central-6, Dopri8": (Lines.CENTRAL_6, diffrax.Dopri8),
    "fourier, Dopri8": (Lines.FOURIER, diffrax.Dopri8),
}


def prepare(work: Work, variant: str, rung: Rung) -> Solve:
    lines, solver = PARTS[variant]
    on = mesh(work, rung.n, jnp.asarray)
    rate = right_hand_side(lines, on, jnp)
    rate(on.initial), on.energy(on.initial)  # the mesh makes its arrays once, outside the jit

    @jax.jit
    def run(mu: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: rate(y)),
            solver(),
            t0=0.0,
            t1=T_END,
            dt0=None,
            y0=mu,
            saveat=diffrax.SaveAt(t1=True),
            stepsize_controller=diffrax.PIDController(rtol=rung.tolerance, atol=0.1 * rung.tolerance),
            adjoint=diffrax.ForwardMode(),
            max_steps=1_000_000,
        )
        assert solution.ys is not None
        end = solution.ys[-1]
        return on.energy(end), end.sum() * on.volume, end.min() / end.max()

    def solve(seed: int) -> Outcome:
        return Outcome(*(float(np.asarray(value)) for value in run(on.initial)))

    return solve


PEER = Peer(
    name="diffrax",
    packages=("diffrax", "jax", "equinox"),
    variants=[
        Variant("muscl, Tsit5", MUSCL),
        Variant("central-6, Tsit5", CENTRAL),
        Variant("central-6, Dopri8", CENTRAL),
        Variant("fourier, Dopri8", FOURIER),
    ],
    prepare=prepare,
    compiles=True,
    lacks="positivity (stages are not limited; central and Fourier oscillate); mass only to the tolerance of the walls "
    "(central, Fourier); energy decay",
    method="the whole solve in one jit, float64 on the CPU, PIDController with atol = rtol / 10, end state only",
)
