"""What a test of somebody else's particle code looks like: NumPy, pytest, and the public face of mfpde.

The code under test trains a network of Gaussian units, ``f(x) = mean_i exp(-(x - z_i)^2 / 2)``, on the target
``0.6 exp(-(x + 2)^2 / 2) + 0.4 exp(-(x - 1.5)^2 / 2)``, by gradient descent on ``1/2 int (f - target)^2 dx`` with
birth and death of neurons at rate 1. It knows nothing of mfpde. One mistake after the other is planted in it.
"""

from __future__ import annotations

import enum

import numpy as np
import pytest

import mfpde as mf

STEP = 0.02
SIZES = (100, 600)
STEP_ERROR = 0.01
REPLICAS = 16
TIMES = (0.5, 1.0)


class Mistake(enum.Enum):
    """What can be wrong with it."""

    GRADIENT_HALVED = "a factor 2 is missing in the gradient"
    GRADIENT_OF_THE_SUM = "the loss of the mean is differentiated as if it were a sum: n times too fast"
    ASCENT = "the sign of the gradient"
    TIME = "the loss has no 1/2, so that time runs twice as fast"
    START = "the variance is taken for the standard deviation"
    OUTPUT = "the output is divided by another number than that of the neurons"
    STEP_FORGOTTEN = "birth and death with probability |V|, whatever the step"
    SELECTION_REVERSED = "good neurons die and bad ones are duplicated"
    DEATHS_ONLY = "those who die are not replaced: mass is lost"
    BIRTHS_ONLY = "a duplicated neuron replaces none: mass is gained"
    HALF_THE_INPUTS = "the batch is always the same half of the inputs"
    BATCH_OF_ONE = "each step sees one input, drawn at random, the same for all neurons"


def train(n, seed, recorder, mistake=None, t_end=TIMES[-1]):
    """Train n neurons and record them."""
    rng = np.random.default_rng(seed)
    x, dx = np.linspace(-7.0, 7.0, 29, retstep=True)
    target = 0.6 * np.exp(-((x + 2.0) ** 2) / 2) + 0.4 * np.exp(-((x - 1.5) ** 2) / 2)
    z = rng.normal(0.0, 0.64 if mistake is Mistake.START else 0.8, n)
    weights = np.full(n, 1.0 / n)
    count = 1.25 * n if mistake is Mistake.OUTPUT else n
    speed = {Mistake.GRADIENT_HALVED: 0.5, Mistake.GRADIENT_OF_THE_SUM: n, Mistake.ASCENT: -1.0, Mistake.TIME: 2.0}
    for k in range(round(t_end / STEP) + 1):
        if recorder.wants(k * STEP):
            recorder.record(k * STEP, z, weights if mistake in (Mistake.DEATHS_ONLY, Mistake.BIRTHS_ONLY) else None)
        units = np.exp(-((x - z[:, None]) ** 2) / 2)
        gap = (units.sum(axis=0) / count - target) * dx
        if mistake is Mistake.HALF_THE_INPUTS:
            gap *= 2.0 * (x < 0)
        if mistake is Mistake.BATCH_OF_ONE:
            gap *= len(x) * (np.arange(len(x)) == rng.integers(len(x)))
        V, slope = units @ gap, ((x - z[:, None]) * units) @ gap
        z = z - STEP * speed.get(mistake, 1.0) * slope
        # birth and death: one who dies is replaced by a copy of any, one who is duplicated replaces any
        rate = V - V.mean()
        if mistake is Mistake.SELECTION_REVERSED:
            rate = -rate
        happens = rng.random(n) < (np.abs(rate) if mistake is Mistake.STEP_FORGOTTEN else STEP * np.abs(rate))
        if mistake is Mistake.TIME:
            happens = rng.random(n) < 2 * STEP * np.abs(rate)
        dies, doubles = np.flatnonzero(happens & (rate > 0)), np.flatnonzero(happens & (rate < 0))
        if mistake is Mistake.DEATHS_ONLY:
            weights[dies] = 0.0
        elif mistake is not Mistake.BIRTHS_ONLY:
            z[dies] = z[rng.integers(n, size=len(dies))]
        if mistake is Mistake.BIRTHS_ONLY:
            weights[doubles] += 1.0 / n
        elif mistake is not Mistake.DEATHS_ONLY:
            z[rng.integers(n, size=len(doubles))] = z[doubles]
    return recorder


@pytest.fixture(scope="module")
def reference():
    """The mean-field limit, with error bars."""
    return mf.load_reference("gaussian-bumps")


def runs(reference, mistake=None, sizes=SIZES):
    """Independent runs of each size."""
    return {
        n: [train(n, (n, seed), mf.testing.ParticleRecorder(reference), mistake) for seed in range(REPLICAS)]
        for n in sizes
    }


def test_the_code_follows_the_mean_field_equation(reference):
    report = mf.testing.assert_matches(reference, runs(reference), error=STEP_ERROR, times=TIMES)
    print(report)
    assert report.visible["energy"] < 0.03


def test_the_code_converges(reference):
    report = mf.testing.assert_converges(
        reference, runs(reference, sizes=(50, 200, 800)), error=STEP_ERROR, times=TIMES
    )
    print(report)
    assert report.false_alarm == 1e-3


@pytest.mark.parametrize("mistake", [m for m in Mistake if m is not Mistake.BATCH_OF_ONE])
def test_mistakes_are_caught(reference, mistake):
    with pytest.raises(AssertionError, match="do not match the reference for 'gaussian-bumps'"):
        mf.testing.assert_matches(reference, runs(reference, mistake), error=STEP_ERROR, times=TIMES)


def test_noise_that_does_not_fall_with_the_size_is_caught(reference):
    """Its mean over replicas may be right: the rate is what shows it."""
    with pytest.raises(AssertionError, match=r"! .*n\^-0\.\d\d +\[") as caught:
        mf.testing.assert_converges(
            reference, runs(reference, Mistake.BATCH_OF_ONE, sizes=(50, 200, 800)), error=STEP_ERROR, times=TIMES
        )
    print(caught.value)
