"""References whose nodes a compiled program moves: what gives the value, what checks it, and how much is made."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import mfpde as mf
from mfpde.lagrangian import assembly, lane, node_flow
from mfpde.lagrangian.node_flow import NodeFlow
from mfpde.verification import observables
from mfpde.verification.references import refinement, routes, search

NODES, OTHER_NODES, MESH = "characteristics", "characteristics, other nodes", "mesh, Weno5"

PLANE = mf.problems.gaussian_bumps(centres=[[-1.5, -1.0], [1.5, 1.0]], alpha=1.0, t_end=2.0)
LINE = mf.problems.gaussian_bumps(centres=[-2.0, 1.5], alpha=1.0, t_end=2.0)


def wells():
    """``V = x^2 / 4 + y^2 / 8`` without birth-death: x shrinks by exp(-t / 2), y by exp(-t / 4)."""
    axes = [mf.Axis("x", -6, 6), mf.Axis("y", -6, 6)]  # ten spreads: nothing is cut off
    start = mf.Product(x=stats.norm(0.6, 0.5), y=stats.norm(-0.4, 0.5))
    return mf.Problem(
        mf.External(lambda x, y: x**2 / 4 + y**2 / 8, lambda x, y: (x / 2, y / 4)), axes, start, t_end=1.0
    )


def in_wells(t):
    """The energy of the two: second moments ``0.36 + 0.25`` and ``0.16 + 0.25`` at the start."""
    return 0.61 / 4 * math.exp(-t) + 0.41 / 8 * math.exp(-t / 2)


def without_program(monkeypatch):
    """Nodes move in Python, as those of problems without tables do."""
    for module in (lane, assembly, node_flow):
        monkeypatch.setattr(module, "lane_of", lambda *of, **options: "a test says so")


def runs(found):
    """The runs of a reference by their routes, in their order: names and numbers of runs."""
    return [(name, len(list(group))) for name, group in itertools.groupby(found.levels, lambda level: level.route)]


@pytest.mark.parametrize("problem", [LINE, PLANE], ids=["line", "plane"])
@pytest.mark.parametrize("tolerance", [1e-4, 1e-6])
def test_nodes_then_other_nodes_then_a_rough_mesh(problem, tolerance):
    """The mesh has nothing to do with the value: each route is begun once, and a mesh has one run of finer steps."""
    found = mf.reference(problem, tolerance)
    assert found.reached
    assert found.confirmed
    energy = found["energy"]
    assert (energy.route, energy.check, energy.other) == (NODES, OTHER_NODES, MESH)
    # what is asked of a mesh that confirms compiled nodes: three digits, or a hundred tolerances
    assert energy.confirmed_to <= max(search.NARROWEST_OF_MESH, search.CONFIRMS * tolerance)
    (first, _), (second, checks), (third, meshes) = runs(found)
    assert (first, second, third) == (NODES, OTHER_NODES, MESH)
    value, check, mesh = ([level.cells for level in found.levels if level.route == name] for name, _ in runs(found))
    # three levels and the finer steps of the first; one more of nodes where three are not enough for a bar as small
    assert meshes == 4
    assert checks in (4, 5)
    for cells in (check, mesh):
        assert [cells.count(one) for one in sorted(set(cells))] == [2] + [1] * (len(cells) - 2)
    # nothing that is too coarse to be compared with the value
    assert check[0] > value[0]
    assert check[3][0] >= routes.MORE * max(value)[0]
    assert (check[3][0] - max(value)[0]) % 2 == 1


@pytest.mark.parametrize("tolerance", [1e-4, 1e-6, 1e-8])
def test_closed_forms_are_within_the_bars_of_all_three(tolerance):
    plane, times = wells(), [0.3, 1.0]
    line = mf.problems.quadratic_well(alpha=1.0, mean=0.4)
    (axis,) = line.axes  # in a box twice as long, which cuts off nothing that these bars would see
    line = replace(line, axes=[mf.Axis(axis.name, 2 * axis.lower, 2 * axis.upper)], parameters=None)
    for problem, energy_at in ((line, line.exact["energy"]), (plane, in_wells)):
        found = mf.reference(problem, tolerance, times=times)
        assert found.reached
        assert found.confirmed
        energy, exact = found["energy"], np.array([energy_at(t) for t in times])
        assert energy.relative <= tolerance
        assert np.all(np.abs(energy.value - exact) <= energy.bar)
        assert np.all(np.abs(energy.check_value - exact) <= energy.check_bar)
        assert np.all(np.abs(energy.other_value - exact) <= energy.other_bar)
        assert runs(found)[0][0] == NODES


def test_a_reference_is_the_same_twice():
    one, two = (mf.reference(replace(PLANE), 1e-5) for _ in range(2))
    assert [level[:2] for level in one.levels] == [level[:2] for level in two.levels]
    for name in ("value", "bar", "check_value", "check_bar", "other_value", "other_bar"):
        assert getattr(one["energy"], name).tobytes() == getattr(two["energy"], name).tobytes()


@pytest.mark.parametrize("wrong", [1.02, 0.98])
def test_tables_that_are_wrong_are_found_by_the_mesh(monkeypatch, wrong):
    """Both sorts of nodes read tables of a potential that is off by two hundredths, and agree with each other."""
    made = assembly._assembled

    def off(*arguments):
        lane = made(*arguments)
        motion = lane.motion._replace(weights=wrong * lane.motion.weights, targets=wrong * lane.motion.targets)
        return replace(lane, motion=motion, packed=motion.packed())

    monkeypatch.setattr(assembly, "_assembled", off)
    monkeypatch.setattr(assembly, "_check", lambda *arguments: None)
    monkeypatch.setattr(search, "FAR", 0.5)  # meshes would be refined for long, to see whether finer ones agree
    with pytest.raises(mf.Disagreement, match=r"'gaussian-bumps', energy: characteristics says .* mesh, Weno5 "):
        mf.reference(replace(LINE), 1e-5)


def test_places_are_looked_for_once(monkeypatch):
    looked = []

    def counted(*arguments):
        looked.append(1)
        return node_flow_find(*arguments)

    node_flow_find = node_flow.find_ancestors
    monkeypatch.setattr(node_flow, "find_ancestors", counted)
    found = mf.reference(LINE, 1e-4)
    assert found["energy"].check == OTHER_NODES
    assert len(looked) == 1


def test_work_is_what_the_program_costs(monkeypatch):
    """In Python an evaluation costs 0.1 ms however few nodes there are; the program makes ten of them in that time."""
    problem, times = replace(LINE), np.array([2.0])
    spent = {}
    for name in ("compiled", "Python"):
        flow = NodeFlow(problem, times)
        assert flow.compiled(1e-6) is (name == "compiled")
        spent[name] = []
        for n in (200, 400):
            list(flow.run((n,), 1e-6))
            spent[name].append(flow.work)
        without_program(monkeypatch)
    assert spent["compiled"][1] < spent["Python"][1]
    # what grows with the nodes is most of what the program does
    assert spent["compiled"][1] - spent["compiled"][0] > 0.2 * spent["compiled"][0]
    assert spent["Python"][1] - spent["Python"][0] < 0.1 * spent["Python"][0]


def test_without_a_program_all_is_as_it_was(monkeypatch):
    """Nodes in Python: the mesh gets its turn after a tenth of a second of work, and confirms to a tenth of that."""
    without_program(monkeypatch)
    problem = replace(PLANE)
    first, second = routes.routes(problem, np.array([2.0]), False)
    assert not first.compiled
    assert second.first_cost == routes.SECOND
    check = first.other(3)
    assert check.cells(0) == (7, 7)
    assert not second.settles_once


class Rough(routes.Route):
    """``1 + 0.1 * 4^-level + 0.02 * step``: second order in space, first in time."""

    step, least_step, finer, left, fastest = 1.0, 1e-9, 0.125, 1 / 3, 0.0
    settles_once = True

    def __init__(self):
        super().__init__(mf.problems.quadratic_well(), np.array([1.0]))
        self.name, self.made = "stub", []

    def cells(self, level):
        return (10 * 2**level,)

    def bytes(self, level):
        return 0.0

    def run(self, level, step, deadline):
        raise AssertionError("the values are given")


def rough_ladder(in_time=0.02):
    def runner(ladder, level, step):
        ladder.route.made.append((level, step))
        value = 1.0 + 0.1 * 4.0**-level + in_time * step
        return refinement.Level([np.array([value]), np.array([value]), np.array([[value, value]])], 1.0, 0.0)

    return refinement.Ladder(Rough(), [mf.EnergyAt()], [np.array([0])], runner)


class TestErrorInTimeThatIsSeenOnce:
    def test_stands_for_that_of_all_levels(self):
        found = rough_ladder(1e-3)
        while not found.reached(0.02):
            found.advance(0.02)
        # on the first level, and on no other
        steps = [level for level, step in found.route.made if step < 1.0]
        assert steps == [0]
        assert found.settled == 1
        assert not found.unsettled
        error = abs(found.best[0][0] - 1.0)
        assert error <= found.bars()[0][0][0]
        # the last level has nothing of its own: all that finer steps changed on the first, and what they left
        assert found.time_bars()[0][0] == pytest.approx(3.0 * (1 + 1 / 3) * 1e-3 * 7 / 8, rel=1e-12)

    def test_is_made_small_where_it_is_most_of_the_bar(self):
        found = rough_ladder(0.02)
        while not found.reached(1e-3):
            found.advance(1e-3)
        assert abs(found.best[0][0] - 1.0) <= found.bars()[0][0][0] <= 1e-3 * 1.1
        assert found.settled > 1
        assert min(step for _, step in found.route.made) < 0.125


def test_rough_steps_are_off_by_no_more_than_their_part_of_the_bar():
    times = np.array([2.0])
    route = routes.MeshRoute(LINE, times, mf.Weno5(), 5)
    rough = route.rough()
    assert rough.step == routes.ROUGH_STEP
    assert rough.cells(0) == route.cells(0)
    assert rough.settles_once
    assert not route.settles_once
    values = {}
    for name, one, step in (("rough", rough, rough.step), ("finer", rough, rough.step / 8), ("fine", route, 1e-7)):
        (at,) = one.run(1, step, math.inf)
        assert isinstance(at, observables.Measured)
        values[name] = at.energy
    # a third of what half the steps change is what is left, three times that is the bar
    change = abs(values["finer"] - values["rough"])
    assert abs(values["rough"] - values["fine"]) <= 4.0 * change
    assert change <= 1e-4 * values["fine"]
