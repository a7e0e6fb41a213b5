"""The reference pack: numbers with error bars that come with the package, and the recipes that they are made from."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mfpde.equation.problem import Problem
from mfpde.support.files import SUFFIXES, hdf5
from mfpde.support.files.locks import held
from mfpde.support.labels import Column, Labelled, Labels
from mfpde.support.words import one_line
from mfpde.verification.observables import Observable
from mfpde.verification.references.certified import Certified, Reference
from mfpde.verification.references.file import StoredReference, read_reference, save_reference
from mfpde.verification.references.file_observables import same_observable
from mfpde.verification.references.recipes import RECIPES, Part, Recipe, computed, recipe
from mfpde.verification.references.search import Disagreement

__all__ = [
    "Checked",
    "FOLDER",
    "StoredReference",
    "check",
    "is_built",
    "load_reference",
    "path_of",
    "read_reference",
    "rebuild",
    "save_reference",
]

FOLDER = Path(__file__).parent / "data"
"""Where the files of the pack are."""


# ---------------------------------------------------------------------------------------------------------------------
# the pack
# ---------------------------------------------------------------------------------------------------------------------


def load_reference(name: str | os.PathLike[str], problem: Problem | None = None) -> StoredReference:
    """A reference that comes with the package, by its name, or one from a file, by its path.

    Parameters
    ----------
    name : str or path
        One of `reference_names`, or the path of an ``.h5`` file that ``mfpde reference --save`` or
        `mfpde.verification.references.pack.save_reference` wrote.
    problem : Problem, optional
        The problem, where a file does not hold it (one with functions of your own).

    Returns
    -------
    StoredReference
        As `mfpde.reference` gives it; the problem is built when it is asked for.

    Raises
    ------
    ValueError
        For an unknown name, with the valid ones; for a damaged file, in one line.
    OSError
        If there is no such file.

    Examples
    --------
    >>> import mfpde as mf
    >>> energy = mf.load_reference("gaussian-bumps")["energy"]
    >>> bool(abs(energy.value[-1] - 0.0398921836) <= energy.bar[-1] + 5e-11)
    True
    """
    return read_reference(name if _is_path(name) else path_of(name), problem)  # type: ignore[arg-type]


def _is_path(name: str | os.PathLike[str]) -> bool:
    if not isinstance(name, str):
        return isinstance(name, os.PathLike)
    return name.endswith(SUFFIXES) or os.sep in name or "/" in name


def path_of(name: str, folder: str | os.PathLike[str] | None = None) -> Path:
    """Where the file of a member is: in a folder, or in the package."""
    return Path(FOLDER if folder is None else folder) / f"{recipe(name).name}.h5"


def rebuild(
    name: str,
    folder: str | os.PathLike[str] | None = None,
    *,
    progress: Callable[[str], None] | None = None,
) -> Reference:
    """Compute a member of the pack and write its file.

    Parameters
    ----------
    name : str
    folder : path, optional
        Where to; default: in the package.
    progress : callable, optional
        Told what is being done.

    Raises
    ------
    ValueError
        For an unknown name.
    OSError
        If the file cannot be written.
    mfpde.Disagreement
        If the discretisations differ by more than their bars; nothing is written.
    """
    made = recipe(name)
    path = path_of(name, folder)
    with held(path):
        found = made.compute(progress)
        save_reference(found, path, command=made.command)
    return found


def is_built(name: str, folder: str | os.PathLike[str] | None = None) -> bool:
    """Whether the file of a member is in a folder, whole and of its recipe."""
    path = path_of(name, folder)
    try:
        return path.is_file() and not differences(recipe(name), read_reference(path))
    except hdf5.FileFormatError:
        return False


def differences(made: Recipe, stored: StoredReference) -> list[str]:
    """What of a file is not of its recipe."""
    problem = made.build()
    found = []
    if stored.configuration.get("problem") != made.problem or stored.fingerprint != problem.fingerprint():
        found.append("the problem is another one")
    elif hdf5.as_plain(problem.parameters, (), [], []) != hdf5.as_plain(
        {k: v for k, v in stored.configuration.get("parameters", {}).items() if v is not None}, (), [], []
    ):
        found.append("the parameters of the problem are others")
    observables = [certified.observable for certified in stored.observables]
    if len(observables) != len(made.observables) or not all(map(same_observable, observables, made.observables)):
        found.append("the observables are others")
    if stored.command != made.command:
        found.append("the command that rebuilds it is another one")
    return found


# ---------------------------------------------------------------------------------------------------------------------
# checks
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checked(Labelled):
    """A reference that was computed again.

    Attributes
    ----------
    name : str
    wrong : tuple of str
        What is not as it should be; empty if all is well.
    apart : float
        The largest difference, relative to the sum of both bars: at most 1 where the two agree.
    identical : bool
        Whether all values and bars are the same bit for bit.
    seconds : float
    """

    name: str
    wrong: tuple[str, ...]
    apart: float = math.nan
    identical: bool = False
    seconds: float = 0.0

    def _labels(self) -> Labels:
        """One row, so that tables of several references are put together."""
        said = {"ok": self.ok, "apart": self.apart, "identical": self.identical, "seconds": self.seconds}
        variables = {name: Column(["reference"], [value]) for name, value in said.items()}
        variables["wrong"] = Column(["reference"], ["; ".join(self.wrong)])
        return Labels({"reference": Column(["reference"], [self.name])}, variables, rows=("reference",))

    @property
    def ok(self) -> bool:
        """Whether all is well."""
        return not self.wrong


def check(
    name: str | os.PathLike[str],
    *,
    tolerance: float = 0.0,
    budget: float | None = None,
    progress: Callable[[str], None] | None = None,
) -> Checked:
    """Read a reference, compute it again, and compare: the two may differ by the sum of their bars.

    Parameters
    ----------
    name : str or path
        A member of the pack, or a file whose problem can be built.
    tolerance : float
        Tolerances below this one are raised to it: quicker, and says less.
    budget : float, optional
        Seconds for each part.
    progress : callable, optional
        Told what is being done.

    Raises
    ------
    ValueError
        For an unknown name, or a file with a problem or an observable that it cannot name.
    OSError
        If there is no such file.
    """
    made = RECIPES.get(name) if isinstance(name, str) else None
    began = time.perf_counter()
    try:
        stored = load_reference(name)
    except hdf5.FileFormatError as error:
        return Checked(str(name), (one_line(error),))
    if made is None:
        parts: tuple[Part, ...] = (Part(stored.tolerance, tuple(_measured(stored)), 120.0),)
    elif wrong := differences(made, stored):
        return Checked(made.name, tuple(wrong))
    else:
        parts = made.parts
    try:
        found = computed(stored.problem, parts, progress, tolerance, budget)
    except Disagreement as error:
        return Checked(str(name), (one_line(error),), seconds=time.perf_counter() - began)
    wrong = [
        f"{one.name} differs by {_apart(one, other):.3g} times the sum of both bars"
        for one, other in zip(stored.observables, found.observables, strict=True)
        if not _apart(one, other) <= 1.0
    ]
    return Checked(
        str(name),
        tuple(wrong),
        max(map(_apart, stored.observables, found.observables)),
        all(map(_identical, stored.observables, found.observables)),
        time.perf_counter() - began,
    )


def _measured(stored: StoredReference) -> Iterator[Observable]:
    """What was measured.

    Raises
    ------
    ValueError
        For an observable that the file cannot name.
    """
    for certified in stored.observables:
        if certified.observable is None:
            raise ValueError(f"{stored.path} cannot name what {certified.name!r} measures, which was made in Python")
        yield certified.observable


def _apart(one: Certified, other: Certified) -> float:
    """The largest difference of two results, relative to the sum of their bars."""
    if one.value.shape != other.value.shape or not np.array_equal(one.times, other.times):
        return math.inf
    difference = np.abs(one.value - other.value)
    # equal is equal, also where a bar is 0
    ratio = np.divide(difference, one.bar + other.bar, out=np.where(difference == 0, 0.0, np.inf), where=difference > 0)
    return float(np.where(np.isnan(difference), np.inf, ratio).max())


def _identical(one: Certified, other: Certified) -> bool:
    return one.value.tobytes() == other.value.tobytes() and one.bar.tobytes() == other.bar.tobytes()
