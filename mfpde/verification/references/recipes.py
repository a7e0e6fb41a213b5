"""Recipes of the references that come with the package: problem, observables, tolerances, budgets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mfpde.equation.problem import Problem
from mfpde.support.arguments import shown
from mfpde.verification.observables import DecayRate, EnergyAt, Marginal, MassIn, Moment, Observable, OutputAt
from mfpde.verification.references.certified import Reference
from mfpde.verification.references.reference import reference

__all__ = ["Part", "RECIPES", "Recipe", "computed", "recipe", "reference_names"]


@dataclass(frozen=True)
class Part:
    """Observables that are computed together.

    Attributes
    ----------
    tolerance : float
        Largest bar, relative.
    observables : tuple of Observable
        With their times.
    budget, memory : float
        Seconds and bytes, see `mfpde.reference`. Little memory keeps a search from meshes that take minutes.
    shape : tuple of int, optional
        The mesh around which the search begins, instead of the problem's own.
    """

    tolerance: float
    observables: tuple[Observable, ...]
    budget: float = 120.0
    memory: float = 2.0 * 2**30
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Recipe:
    """What a member of the pack is computed from.

    Attributes
    ----------
    name : str
    problem : str
        One of `mfpde.problems.names`.
    parameters : mapping
        Of the problem; what is not named has its default.
    parts : tuple of Part
        Observables that nodes can give are computed apart from those that need a mesh, which cannot be as accurate.
    """

    name: str
    problem: str
    parameters: Mapping[str, Any]
    parts: tuple[Part, ...]

    @property
    def observables(self) -> tuple[Observable, ...]:
        """Those of all parts."""
        return tuple(observable for part in self.parts for observable in part.observables)

    @property
    def command(self) -> str:
        """What computes the member again."""
        return f"mfpde reference --rebuild {self.name}"

    def build(self) -> Problem:
        """The problem."""
        from mfpde import problems

        return problems.get(self.problem, **self.parameters)

    def compute(
        self,
        progress: Callable[[str], None] | None = None,
        *,
        tolerance: float = 0.0,
        budget: float | None = None,
    ) -> Reference:
        """Compute the member.

        Parameters
        ----------
        progress : callable, optional
            Told what is being done.
        tolerance : float
            Tolerances below this one are raised to it: for a quick look.
        budget : float, optional
            Seconds for each part, instead of its own.
        """
        return computed(self.build(), self.parts, progress, tolerance, budget)


def computed(
    problem: Problem,
    parts: Sequence[Part],
    progress: Callable[[str], None] | None,
    tolerance: float,
    budget: float | None,
) -> Reference:
    """The parts as one reference; its tolerance is the largest of theirs."""
    found = [
        reference(
            problem if part.shape is None else replace(problem, shape=part.shape),
            max(part.tolerance, tolerance),
            part.observables,
            budget=part.budget if budget is None else budget,
            memory=part.memory,
            progress=progress or False,
            cache=False,  # computed anew
        )
        for part in parts
    ]
    return Reference(
        problem,
        max(one.tolerance for one in found),
        tuple(certified for one in found for certified in one.observables),
        tuple(level for one in found for level in one.levels),
        all(one.reached for one in found),
        min((one.ancestral_mass for one in found if one.ancestral_mass is not None), default=None),
    )


def _recipes() -> dict[str, Recipe]:
    """The recipes by name, in the order in which they are listed. It is a list of data, however long."""
    late = (1.0, 2.5, 5.0, 10.0)
    x = np.linspace(-4.0, 4.0, 9)
    edges = np.linspace(-4.0, 4.0, 9)
    found = []
    parts: tuple[Part, ...]
    for name, start, alpha in (
        ("three-gaussians", "good", 5.0),
        ("three-gaussians-alpha-0", "good", 0.0),
        ("three-gaussians-bad-start-alpha-5", "bad", 5.0),
        ("three-gaussians-bad-start-alpha-0", "bad", 0.0),
    ):
        wanted: tuple[Observable, ...] = (EnergyAt(late),)
        if start == "good":  # the bad start is too narrow for a mesh that takes seconds
            wanted += (Moment("c", 2, late), Moment("y", 2, late), OutputAt(x, late))
        # without birth-death the measure becomes narrow, and takes more nodes
        tolerance = {("good", 0.0): 1e-6, ("bad", 0.0): 1e-8}.get((start, alpha), 2e-9)
        parts = (Part(tolerance, wanted, 180.0 if alpha else 600.0, 2.0 * 2**30 if start == "good" else 2e7),)
        if start == "good":
            parts += (Part(3e-2 if alpha else 1e-2, (Marginal("y", edges, late),), 120.0 if alpha else 240.0),)
        found.append(Recipe(name, "three-gaussians", {"start": start, "alpha": alpha}, parts))
    times = (0.5, 1.0, 2.0)
    found.append(
        Recipe(
            "gaussian-bumps",
            "gaussian-bumps",
            {},
            (
                Part(3e-8, (EnergyAt(times), Moment("x", 1, times), Moment("x", 2, times), OutputAt(x, times))),
                Part(2e-6, (Marginal("x", edges, times), MassIn({"x": (0.0, 5.0)}, times))),
            ),
        )
    )
    plane = {"centres": ((-1.5, -1.0), (1.5, 0.5), (0.0, 2.0)), "weights": (0.4, 0.35, 0.25)}
    moments = tuple(Moment(axis, power, times) for axis in "xy" for power in (1, 2))
    found.append(
        Recipe(
            "gaussian-bumps-2d",
            "gaussian-bumps",
            plane,
            (
                Part(1e-6, (EnergyAt(times), *moments)),
                Part(1e-3, (Marginal("x", edges, times), Marginal("y", edges, times))),
            ),
        )
    )
    # the start is narrow on the wide box, which only the last one needs
    for delta, radius, tolerance, shape in ((0.2, 4.0, 1e-10, None), (0.4, 4.0, 1e-9, None), (0.8, 8.0, 1e-4, (800,))):
        parts = (Part(tolerance, (EnergyAt(late), Moment("r", 1, late), Moment("r", 2, late)), 150.0, shape=shape),)
        parameters = {"delta": delta, "d": 40, "radius": radius}
        found.append(Recipe(f"isotropic-gaussians-delta-{delta}", "isotropic-gaussians", parameters, parts))
    # all mass is absorbed before t = 0.02: what is left has no moments
    parts = (Part(1e-4, (EnergyAt((0.002, 0.005, 0.01, 1.0)),)),)
    found.append(Recipe("predicting-failure", "predicting-failure", {"kappa": 0.1}, parts))
    parts = (Part(1e-4, (EnergyAt(times), Moment("r", 1, times), Moment("r", 2, times))),)
    found.append(Recipe("predicting-success", "predicting-failure", {"kappa": 0.4}, parts))
    # the first one to look at: Gaussian at all times, and quick to compute again
    simple = (0.25, 0.5, 1.0)
    moments = (Moment("theta", 1, simple), Moment("theta", 2, simple))
    parts = (Part(1e-9, (EnergyAt(simple), *moments, DecayRate(simple))),)
    found.append(Recipe("linear-neuron", "linear-neuron", {}, parts))
    # later the density at the poles is too narrow for a mesh that takes seconds
    for name, k, early in (("single-index", 4, times), ("single-index-k-2", 2, simple)):
        found.append(Recipe(name, "single-index", {"k": k, "d": 16}, (Part(1e-6, (EnergyAt(early),)),)))
    long = (1.0, 5.0, 20.0, math.inf)
    circle = np.linspace(0.0, 2.0 * math.pi, 9)
    parts = (Part(5e-6, (EnergyAt(long),), 300.0), Part(5e-5, (Marginal("theta", circle, long),), 300.0))
    found.append(Recipe("torus-langevin", "torus-langevin", {}, parts))
    short = (0.1, 0.25, 0.5, 1.0)
    line = np.linspace(-2.0, 5.0, 8)
    parts = (
        Part(3e-5, (EnergyAt(short), Moment("x", 1, short), Moment("x", 2, short)), 240.0),
        Part(2.5e-6, (Marginal("x", line, short),), 240.0),
    )
    found.append(Recipe("gaussian-sampling", "gaussian-sampling", {}, parts))
    return {made.name: made for made in found}


RECIPES = _recipes()


def reference_names() -> list[str]:
    """The names of the references that come with the package.

    Examples
    --------
    >>> import mfpde as mf
    >>> mf.reference_names()[0]
    'three-gaussians'
    """
    return list(RECIPES)


def recipe(name: str) -> Recipe:
    """The recipe of a member.

    Raises
    ------
    ValueError
        For an unknown name, with the valid ones.
    """
    if not isinstance(name, str) or name not in RECIPES:
        raise ValueError(f"unknown reference {shown(name)}; valid: {', '.join(RECIPES)}; or the path of an .h5 file")
    return RECIPES[name]
