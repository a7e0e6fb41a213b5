"""Smooth problems of one axis to four, one of each kind of thing that moves nodes, with compiled characteristics."""

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


def in_space(energy, **options):
    """A problem of three axes."""
    axes = [mf.Axis("x", -4, 4), mf.Axis("y", -4, 4), mf.Axis("z", -3.5, 3.5)]
    start = mf.Product(x=stats.norm(0.3, 0.5), y=stats.norm(-0.2, 0.55), z=stats.norm(0.1, 0.45))
    return mf.Problem(energy=energy, axes=axes, initial=start, **{"t_end": 1.0, "alpha": 1.0, **options})


def in_four(energy, **options):
    """A problem of four axes."""
    axes = [mf.Axis(name, -3, 3) for name in "abcd"]
    start = mf.Product(**{name: stats.norm(0.1 * i, 0.35) for i, name in enumerate("abcd")})
    return mf.Problem(energy=energy, axes=axes, initial=start, **{"t_end": 1.0, "alpha": 1.0, **options})


BUMPS = mf.Discrepancy(mf.SeparableKernel(x=mf.GaussianKernel(1.0)), np.array([[-1.0], [1.5]]), np.array([0.6, 0.4]))
PLANE = mf.Discrepancy(
    mf.SeparableKernel(c=mf.GaussianKernel(1.5), z=mf.GaussianKernel(0.8)), np.array([[0.5, -1.0]]), np.array([1.0])
)

SPACE = mf.Discrepancy(
    mf.SeparableKernel(x=mf.GaussianKernel(2.0), y=mf.GaussianKernel(3.0), z=mf.GaussianKernel(2.0)),
    np.array([[0.5, -1.0, 0.3], [-0.5, 0.6, 0.0]]),
    np.array([0.7, 0.3]),
)
FOUR = mf.Discrepancy(
    mf.SeparableKernel(**dict.fromkeys("abcd", mf.GaussianKernel(4.0))),
    np.array([[0.5, -0.6, 0.3, 0.0]]),
    np.array([1.0]),
)


def moments_in_space(x, y, z):
    return np.stack([np.sin(x) * y, np.cos(y + z), x * z * z + 0.3 * x, np.sin(x + y - z)])


def moments_of_four(a, b, c, d):
    return np.stack([np.sin(a) * b, np.cos(b + c), a * d])


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
"""One of each kind of thing that moves nodes, with one axis or two."""
SEVERAL = {
    "kernel in space": in_space(SPACE),
    "external in space": in_space(SPACE + mf.External(lambda x, y, z: 0.2 * np.sin(x + y) * np.cos(z) + 0.05 * z**2)),
    "confinement in space": in_space(SPACE + mf.Confinement(x=0.1, z=0.05), alpha=0.0),
    "moments in space": in_space(mf.Features(moments_in_space, mf.SquaredLoss([0.2, 1.0, -0.3, 0.4]))),
    "logistic in space": in_space(
        mf.Features(moments_in_space, mf.LogisticLoss([1.0, -1.0, 1.0, 1.0])) + mf.Confinement(x=0.1, y=0.2, z=0.1)
    ),
    "huber in space": in_space(mf.Features(moments_in_space, mf.HuberLoss([0.2, 1.0, -0.3, 0.4], delta=0.3)) + SPACE),
    "metric in space": in_space(SPACE, metric=[lambda x, y, z: 1 + 0.1 * np.sin(x + y), None, 0.3]),
    "rate in space": in_space(SPACE, rate=lambda V: np.sinh(V) + V),
    "unbalanced in space": in_space(SPACE, reaction="unbalanced"),
    "schedules in space": in_space(SPACE, schedule=mf.PowerLaw(-0.5), alpha=mf.ExponentialDecay(2.0, 0.5)),
    "walls in space": mf.Problem(
        energy=SPACE,
        axes=[mf.Axis("x", -1, 1), mf.Axis("y", -2, 2), mf.Axis("z", -1, 1)],
        initial=mf.Product(x=stats.uniform(-1, 2), y=stats.norm(0, 0.25), z=stats.uniform(-1, 2)),
        alpha=0.5,
        t_end=1.0,
    ),
    "torus of three axes": mf.Problem(
        energy=mf.Interaction(mf.SeparableKernel(**dict.fromkeys("xyz", mf.CosineKernel((1.0, 0.3)))))
        + mf.External(lambda x, y, z: np.cos(x) + np.sin(y - z)),
        axes=[mf.Axis(name, 0, 2 * math.pi, mf.End.PERIODIC) for name in "xyz"],
        initial=mf.Product(x=stats.norm(5.5, 0.6), y=stats.norm(3.0, 0.6), z=stats.norm(1.0, 0.6)),
        alpha=0.5,
        t_end=1.0,
    ),
    "kernel of four axes": in_four(FOUR),
    "moments of four axes": in_four(
        mf.Features(moments_of_four, mf.SquaredLoss([0.2, 1.0, -0.3])) + mf.Confinement(a=0.1, d=0.05),
        metric=[None, 0.5, lambda a, b, c, d: 1 + 0.1 * np.sin(c + d), None],
    ),
}
"""The same with three axes and four."""
