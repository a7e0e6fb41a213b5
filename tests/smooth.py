"""Smooth problems of one axis and two, one of each kind of thing that moves nodes, with compiled characteristics."""

import math

import numpy as np
from scipy import stats

import mfpde as mf

TANH = {"axes": ("c", "z"), "roles": ("amplitude", "weight"), "activation": "tanh"}
"""A network with one inner axis and an amplitude."""
X = np.linspace(-2, 2, 40)


def on_a_box(energy, **options):
    """A problem in amplitude and weight."""
    axes = [mf.Axis("c", -4, 4), mf.Axis("z", -5, 5)]
    start = mf.Product(c=stats.norm(0.3, 0.5), z=stats.norm(0.5, 0.8))
    return mf.Problem(energy=energy, axes=axes, initial=start, **{"t_end": 1.0, "alpha": 1.0, **options})


def on_a_line(energy, **options):
    axes, start = [mf.Axis("x", -4, 4)], mf.Product(x=stats.norm(0.4, 0.6))
    return mf.Problem(energy=energy, axes=axes, **{"initial": start, "t_end": 1.0, "alpha": 1.0, **options})


def network(loss="squared", data=X, **options):
    y = np.sign(np.sin(2 * data)) if loss == "logistic" else np.sin(2 * data)
    return mf.TwoLayerNetwork(data, y, loss=loss, **{**TANH, **options})


BUMPS = mf.Discrepancy(mf.SeparableKernel(x=mf.GaussianKernel(1.0)), np.array([[-1.0], [1.5]]), np.array([0.6, 0.4]))
PLANE = mf.Discrepancy(
    mf.SeparableKernel(c=mf.GaussianKernel(1.5), z=mf.GaussianKernel(0.8)), np.array([[0.5, -1.0]]), np.array([1.0])
)


def saddle(c, z):
    return 0.2 * np.sin(c) * np.cos(z) + 0.05 * z**2


PROBLEMS = {
    "kernel": on_a_line(BUMPS),
    "without birth and death": on_a_line(BUMPS, alpha=0.0),
    "kernel in the plane": on_a_box(PLANE),
    "external": on_a_line(mf.External(lambda x: np.cos(x) + 0.1 * x**2)),
    "external in the plane": on_a_box(PLANE + mf.External(saddle)),
    "network": on_a_box(network() + mf.Confinement(c=0.05, z=0.02)),
    "few data": on_a_box(network(data=np.array([-1.0, 0.2, 1.0]))),
    "logistic": on_a_box(network("logistic") + mf.Confinement(c=0.1)),
    "logistic, few data": on_a_box(network("logistic", np.array([-1.0, 0.2, 1.0]))),
    "huber": on_a_box(network(lambda y, w: mf.HuberLoss(y, w, 0.3))),
    "network and kernel": on_a_box(network() + PLANE),
    "two inner axes": on_a_box(
        mf.TwoLayerNetwork(X, np.sin(X), axes=("c", "z"), roles=("weight", "bias")) + mf.Confinement(c=0.1)
    ),
    "moments": on_a_line(mf.Features(lambda x: np.stack([np.sin(x), x * x]), mf.SquaredLoss([0.2, 1.0]))),
    "unbalanced": on_a_line(BUMPS, reaction="unbalanced"),
    "rate": on_a_box(PLANE, rate=lambda V: np.sinh(V) + V),
    "metric": on_a_line(BUMPS, metric=[lambda x: 1 / (1 + x**2)]),
    "metric in the plane": on_a_box(PLANE, metric=[lambda c, z: 1 + 0.1 * np.sin(c + z), 0.3]),
    "schedules": on_a_line(BUMPS, schedule=mf.PowerLaw(-0.5), alpha=mf.ExponentialDecay(2.0, 0.5)),
    "jumps of the rate": on_a_line(BUMPS, alpha=mf.PiecewiseLinear([0, 0.3, 0.3, 0.7], [1, 2, 0.5, 1.5])),
    "periodic": mf.Problem(
        energy=mf.Interaction(mf.SeparableKernel(x=mf.CosineKernel((1.0, 0.3)))) + mf.External(lambda x: np.cos(x)),
        axes=[mf.Axis("x", 0, 2 * math.pi, mf.End.PERIODIC)],
        initial=mf.Product(x=stats.norm(5.5, 0.6)),
        alpha=0.5,
        t_end=1.0,
    ),
    "walls": mf.Problem(
        energy=BUMPS, axes=[mf.Axis("x", -1, 1)], initial=mf.Product(x=stats.uniform(-1, 2)), alpha=0.5, t_end=1.0
    ),
}
"""One of each kind of thing that moves nodes."""
