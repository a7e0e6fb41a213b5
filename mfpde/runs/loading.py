"""Solutions with their problems: a file's record and the text of its configuration become one object here."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mfpde.equation.description.stored import rebuilt
from mfpde.equation.equilibrium import Equilibrium
from mfpde.equation.equilibrium_file import read_equilibrium
from mfpde.equation.equilibrium_record import EquilibriumRecord
from mfpde.equation.plain_attributes import plain_attributes
from mfpde.mesh.record import Record
from mfpde.mesh.solution import Solution
from mfpde.mesh.solution_reader import read
from mfpde.support.arguments import one_of, require
from mfpde.support.files.hdf5 import EQUILIBRIUM_MARK, holds
from mfpde.support.files.untrusted import parse_toml
from mfpde.support.provenance import versions
from mfpde.support.session import quiet, warn
from mfpde.support.words import one_line

if TYPE_CHECKING:
    from mfpde.equation.description.whole import Description
    from mfpde.equation.grid import Grid
    from mfpde.equation.problem import Problem

__all__ = ["load", "load_solution", "problem_of", "state_with_problem", "with_problem"]


def load(
    path: str | os.PathLike[str], problem: Problem | None = None, *, thorough: bool = False
) -> Solution | Equilibrium:
    """Read a solution or a stationary state from a file that `Solution.save` or `Equilibrium.save` wrote.

    Parameters
    ----------
    path : path
        The file.
    problem : Problem, optional
        The problem that was solved, where the file does not hold it (one with functions of your own, or with data of
        more than 16 MiB). It must have the fingerprint in the file.
    thorough : bool, optional
        Whether checksums are compared of densities, too, that stay in the file; that reads all of them.

    Returns
    -------
    Solution or Equilibrium
        Arrays bit for bit as they were; densities of more than 64 MiB stay in the file and are read when they are
        indexed (`mfpde.support.files.frames.StoredDensity`). The file of a run that was killed, or is still going on,
        gives what it held at its last save time or checkpoint, with result ``UNFINISHED``. Where parts of such a file
        are not whole, as a crash of the machine leaves them, it is the newest state of which all is whole, and a
        warning of the solution says so.

        Its ``problem`` is the one given; else the one of `mfpde.problems` with the name and parameters in the file,
        if its fingerprint agrees; else the one that the file describes, if all of it is numbers, text and formulas
        (where another version has written the file, only if its fingerprint agrees); else the network on data that
        ``mfpde run`` solved, if the file of data is where it was and the same (its sha256 is in the configuration);
        else None, and ``missing`` says why.

    Raises
    ------
    FileFormatError
        If the file is neither, is damaged, or is of a newer schema.
    OSError
        If the file is missing or cannot be read.
    ValueError
        If `problem` is another one than the one that was solved.

    Warns
    -----
    RunWarning
        If the file of data that a network was trained on is gone or changed since.

    Examples
    --------
    >>> import mfpde as mf, os, tempfile
    >>> solution = mf.solve(mf.problems.linear_neuron(), shape=(50,), t_end=0.1, progress=False)
    >>> path = os.path.join(tempfile.mkdtemp(), "run.h5")
    >>> solution.save(path)
    >>> loaded = mf.load(path)
    >>> bool((loaded.density == solution.density).all())
    True
    >>> further = mf.solve(loaded.problem, shape=(50,), t_end=0.2, initial=loaded.state, progress=False)
    """
    if holds(path, EQUILIBRIUM_MARK):
        return state_with_problem(read_equilibrium(path), path, problem)
    return load_solution(path, problem, thorough=thorough)


def load_solution(path: str | os.PathLike[str], problem: Problem | None = None, *, thorough: bool = False) -> Solution:
    """The solution in a file; parameters and errors as for `load`, which reads stationary states as well."""
    return with_problem(read(path, thorough=thorough), path, problem)


class Stored(Protocol):
    """What a file says of its problem."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def configuration(self) -> dict[str, Any]: ...

    @property
    def grid(self) -> Grid: ...

    @property
    def provenance(self) -> dict[str, Any]: ...

    @property
    def description(self) -> Description | None: ...


def state_with_problem(state: EquilibriumRecord, path: str | os.PathLike[str], problem: Problem | None) -> Equilibrium:
    """A stationary state with its problem; parameters and errors as for `load`."""
    problem, missing = problem_of(state, path, problem)
    return Equilibrium(**vars(state), problem=problem, missing=missing)


def with_problem(record: Record, path: str | os.PathLike[str], problem: Problem | None) -> Solution:
    """The solution that a file's record is, with its problem; parameters and errors as for `load`."""
    problem, missing = problem_of(record, path, problem)
    solution = Solution(**vars(record), problem=problem, missing=missing)
    if not record.plain:  # a file of an early version
        solution.plain = plain_attributes(problem, record.grid, record.configuration)
    return solution


def problem_of(record: Stored, path: str | os.PathLike[str], problem: Problem | None) -> tuple[Problem | None, str]:
    """The problem that was given, or the one that a file can name; else why there is none.

    Raises
    ------
    ValueError
        If the problem that was given is another one.
    """
    if problem is not None:
        from mfpde.equation.problem import Problem

        require(problem=(problem, one_of(Problem)))
        if problem.fingerprint() != record.fingerprint:
            raise ValueError(
                f"problem {problem.name!r} is not the one that {path} holds a result of ({record.name!r}): "
                "their fingerprints differ; pass the problem as it was solved"
            )
        return problem, ""
    if not record.fingerprint:
        return None, ""
    problem, missing = _named(record) if record.description is None else _described(record, record.description)
    if problem is None:
        problem, missing = _network(record, Path(path).parent, missing)
    if moved := _moved(record, Path(path).parent):
        where = f"the problem is made of those in {path}" if problem is not None else "there is no problem"
        warn(f"{moved}; {where}", stacklevel=4)
    return problem, missing


def _named(record: Stored) -> tuple[Problem | None, str]:
    """The problem that has a name in `mfpde.problems`, if its parameters still make the one that was solved."""
    from mfpde import problems

    parameters, own = record.configuration.get("parameters", {}), "its problem was made of your own functions or data"
    if not isinstance(parameters, dict) or record.name not in problems.names():
        return None, own
    # what there is to say was said when the problem was solved; parameters of another version, or only described by a
    # repr: the file still holds all the data
    with quiet(), contextlib.suppress(Exception):
        problem = _as_solved(problems.get(record.name, **parameters), record)
        return problem, "" if problem is not None else own
    return None, own


def _described(record: Stored, description: Description) -> tuple[Problem | None, str]:
    """The problem that the file describes, if it is still the one that was solved; else why there is none.

    A fingerprint takes the energy on the box, which of a network on many data takes seconds. The version that has
    written a description makes the same problem of it; who goes on with the run looks all the same.
    """
    from mfpde import problems

    problem, missing = rebuilt(description, problems.get)
    if problem is None:
        return None, missing
    if record.provenance.get("versions", {}).get("mfpde") == versions().get("mfpde"):
        return problem, description.silent
    with quiet():
        problem = _as_solved(problem, record)
    return problem, description.silent if problem is not None else "this version makes another problem of its words"


def _moved(record: Stored, directory: Path) -> str:
    """Which file of data a run was made of that is not where it was, or another one; empty where it is as it was."""
    from mfpde.runs.data import data_moved

    with contextlib.suppress(ValueError, TypeError, LookupError):
        table = parse_toml(str(record.configuration["toml"]))["network"]
        return data_moved(directory / str(table["data"]), str(table["sha256"]))
    return ""


def _network(record: Stored, directory: Path, own: str) -> tuple[Problem | None, str]:
    """The network of a TOML file, if its data are where the file says and the same; else why there is none."""
    text = record.configuration.get("toml")
    if not isinstance(text, str) or "[network]" not in text:
        return None, own
    from mfpde.runs.configuration import Configuration

    with quiet():  # what there is to say was said when the problem was solved
        try:
            made = Configuration.from_toml(text, directory)
            # named problems are made from their parameters; other data than those of the run are of no use
            if made.tables.network is None or made.tables.network.sha256 is None:
                return None, own
            problem = _as_solved(made.problem(), record)
        except Exception as error:  # the data may be gone: the solution is read without them
            return None, f"the data of its network are gone or changed ({one_line(error)}); put the file back as it was"
    return problem, "" if problem is not None else "its network is not made of these data by this version"


def _as_solved(problem: Problem, record: Stored) -> Problem | None:
    """The problem, on the axes of the record's mesh (a run may have extended them), if it is the one solved."""
    for candidate in (problem, dataclasses.replace(problem, axes=record.grid.axes)):
        if candidate.fingerprint() == record.fingerprint:
            return candidate
    return None
