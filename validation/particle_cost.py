"""What a step of n particles costs, against the loop over particles that one would write first."""

from __future__ import annotations

import math
import statistics
import time

import numpy as np

import mfpde as mf
from validation._runner import Progress, Study

HEADLINE = "times faster than the loop"

N = 10_000
REPLICAS = 32


def run(quick: bool, progress: Progress) -> Study:
    """Algorithm 1 on three-gaussians, both ways, in one process and one thread."""
    study = Study(
        "Cost of particles",
        f"Algorithm 1 on three-gaussians with n = {N}. The loop computes V and its gradient particle by particle from "
        "the closed-form kernel, each by one NumPy expression over all others, before and after the gradient step.",
        quick,
        progress,
    )
    steps = 4 if quick else 12
    problem = mf.problems.three_gaussians()
    dt = 0.01

    def cloud(count: int) -> float:
        began = time.perf_counter()
        mf.particles.simulate(problem, N, dt=dt, t_end=count * dt, save=2, seed=0, replicas=REPLICAS, progress=False)
        return time.perf_counter() - began

    study.progress(0.0, "warm-up")
    cloud(1)
    study.progress(0.1, "particles")
    # the difference of two lengths leaves out the start; medians against a busy machine
    ours = statistics.median((cloud(1 + steps) - cloud(1)) / steps for _ in range(3)) / REPLICAS
    study.progress(0.7, "loop")
    loop = statistics.median(_loop_step(dt) for _ in range(1 if quick else 3))
    study.at_least(
        "times faster than the loop, one replica and step",
        "both measured in this run",
        10.0,
        loop / ours,
        note=f"{REPLICAS} replicas x {N} particles against one replica of the loop; medians of wall times",
    )
    study.table(
        "Time of a step",
        ("what", "ms a replica and step", f"{REPLICAS} replicas to t = 10, s"),
        [
            ("mfpde.particles.simulate", f"{1e3 * ours:.2f}", f"{ours * REPLICAS * 10 / dt:.0f}"),
            ("loop over particles, O(n^2)", f"{1e3 * loop:.0f}", f"{loop * REPLICAS * 10 / dt:.0f} (extrapolated)"),
        ],
    )
    study.progress(1.0, "")
    return study


def _loop_step(dt: float) -> float:
    """One step as a plain NumPy loop over particles; gives the seconds it took."""
    rng = np.random.default_rng(0)
    c, y = rng.normal(size=N), rng.uniform(-2, 2, N)

    def normal(x: np.ndarray, variance: float) -> np.ndarray:
        return np.exp(-(x**2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)

    def target(x: float) -> float:
        return (normal(x + 2, 1.0) - 2 * normal(x, 1.5) + normal(x - 2, 1.0)) / 3

    def slope(x: float) -> float:
        return (-(x + 2) * normal(x + 2, 1.0) + 2 * x / 1.5 * normal(x, 1.5) - (x - 2) * normal(x - 2, 1.0)) / 3

    began = time.perf_counter()
    dc, dy = np.empty(N), np.empty(N)
    for i in range(N):
        row = normal(y[i] - y, 1.0)
        dc[i] = row @ c / N - target(y[i])
        dy[i] = c[i] * ((-(y[i] - y) * row) @ c / N - slope(y[i]))
    c, y = c - dt * dc, y - dt * dy
    V = np.empty(N)
    for i in range(N):
        V[i] = c[i] * (normal(y[i] - y, 1.0) @ c / N - target(y[i]))
    excess = V - V.mean()
    event = rng.random(N) < -np.expm1(-5.0 * dt * np.abs(excess))
    keep = np.repeat(np.arange(N), np.where(event, np.where(excess > 0, 0, 2), 1))
    keep = rng.permutation(keep)[:N] if keep.size >= N else np.append(keep, rng.choice(keep, N - keep.size))
    c, y = c[keep], y[keep]
    return time.perf_counter() - began
