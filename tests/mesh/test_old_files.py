"""Files that earlier versions wrote: committed, so that a change of the format cannot pass unseen."""

import numpy as np
import pytest
from shared import FILES

import mfpde as mf


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


@pytest.mark.filterwarnings("ignore:packages have changed")
def test_the_run_itself_goes_on():
    solution = mf.load(FILES / "schema-1.h5")
    more = mf.resume(solution, 1.5, progress=False)
    assert more.times.tolist() == [0.0, 0.5, 1.0, 1.5]
    np.testing.assert_array_equal(more.density[:3], solution.density)
    steps = solution.stats["steps"]
    assert more.stats["steps"] > steps
    np.testing.assert_array_equal(more.diagnostics["energy"][: steps + 1], solution.diagnostics["energy"])
    assert np.isnan(more.diagnostics["entropy"]).all()


def test_it_verifies_but_for_its_checksums():
    found = mf.verify(FILES / "schema-1.h5")
    assert found.ok
    assert [text.partition(":")[0] for text in found.unchecked] == ["checksums"]


def test_schema_1_with_checksums():
    """Written with checksums: gaussian-bumps on 24 cells to t = 1."""
    solution = mf.load(FILES / "schema-1-checksums.h5")
    assert solution.result is mf.Result.SUCCESS
    np.testing.assert_array_equal(solution.times, [0.0, 0.5, 1.0])
    found = mf.verify(FILES / "schema-1-checksums.h5")
    assert found.ok
    assert found.unchecked == ()


@pytest.mark.filterwarnings("ignore:packages have changed")
def test_schema_1_of_a_run_that_was_killed():
    """The same run killed after step 9, with a checkpoint at every step."""
    solution = mf.load(FILES / "schema-1-killed.h5")
    assert solution.result is mf.Result.UNFINISHED
    assert solution.state.n_steps == 8
    assert solution.times[-1] < solution.state.t
    done = mf.resume(solution, progress=False)
    whole = mf.load(FILES / "schema-1-checksums.h5")
    assert done.times.tolist() == whole.times.tolist()
    # the tails of `Weno5` have changed since: it goes on as a run from that state does today
    options = {"scheme": mf.Weno5(), "method": mf.ExponentialSSPRK3(), "controller": mf.ErrorControl()}
    today = mf.solve(
        solution.problem, 24, initial=solution.state, save=whole.times[whole.times > solution.state.t].tolist(),
        t_end=1.0, progress=False, **options,
    )  # fmt: skip
    np.testing.assert_allclose(done.density[-1], today.density[-1], rtol=1e-9)
