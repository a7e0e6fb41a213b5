"""Files that earlier versions wrote: committed, so that a change of the format cannot pass unseen."""

from pathlib import Path

import numpy as np
import pytest

import mfpde as mf

FILES = Path(__file__).parent / "files"


def test_schema_1():
    """Written before temperatures: three-gaussians on 16 x 12 cells to t = 1. It has no entropy column."""
    solution = mf.load(FILES / "schema-1.h5")
    assert solution.result is mf.Result.SUCCESS
    assert solution.grid.shape == (16, 12)
    assert solution.density.shape == (3, 16, 12)
    np.testing.assert_array_equal(solution.times, [0.0, 0.5, 1.0])
    assert "entropy" not in solution.diagnostics
    np.testing.assert_array_equal(solution.energy_without_entropy, solution.energy)
    # what it says of itself
    bound = solution.problem.bound_energy.on(solution.grid)
    for mu, energy in zip(solution.density, solution.energy, strict=True):
        assert bound.evaluate(mu)[1] == pytest.approx(energy, rel=1e-12)
        assert mu.sum() * solution.grid.cell_volume == pytest.approx(1.0, rel=1e-13)
    assert "energy" in str(solution)


def test_a_run_goes_on_from_it():
    solution = mf.load(FILES / "schema-1.h5")
    more = mf.solve(solution.problem, solution.grid.shape, 1.2, initial=solution, save=2, progress=False)
    assert more.times[0] == 1.0
    assert more.energy[0] == pytest.approx(solution.energy[-1], rel=1e-12)
    assert more.energy[-1] < more.energy[0]
