"""Random number generators of a run, one a purpose, and their states."""

from __future__ import annotations

import json

import numpy as np

from mfpde.support.arrays import Array

__all__ = ["generator", "generator_state", "set_generators"]


def generator_state(generators: list[np.random.Generator]) -> Array:
    """Generators in text."""
    return np.array([json.dumps(rng.bit_generator.state) for rng in generators])


def set_generators(generators: list[np.random.Generator], states: Array) -> None:
    """Put generators where they were."""
    for rng, state in zip(generators, states.tolist(), strict=True):
        rng.bit_generator.state = json.loads(state)


def generator(seed: np.random.SeedSequence, purpose: int) -> np.random.Generator:
    """An independent stream of a replica: 0 its start, 1 its dynamics, 2 its batches."""
    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, purpose)))
    )
