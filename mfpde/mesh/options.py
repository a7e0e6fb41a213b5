"""The options of a run: one list, for `mfpde.solve`, `mfpde.resume`, TOML files and the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from mfpde.equation.measures.base import Measure
from mfpde.equation.problem import Problem
from mfpde.mesh.algebra import Algebra
from mfpde.mesh.controllers import Controller, ErrorControl
from mfpde.mesh.methods.base import Method
from mfpde.mesh.record import State
from mfpde.mesh.schemes import Scheme
from mfpde.mesh.solution import Solution
from mfpde.mesh.stopping import Limits, OnEndMass, StopCondition
from mfpde.support.arguments import (
    ARRAY,
    FLAG,
    FUNCTION,
    INFINITE,
    NONE,
    POSITIVE,
    member,
    one_of,
    real,
    require,
    shown,
    whole,
)
from mfpde.support.arrays import Array
from mfpde.support.saves import same_time

if TYPE_CHECKING:
    from mfpde.mesh.stream import Stream

__all__ = ["ESTIMATE", "OPTIONS", "Absent", "Default", "Option", "RunOptions", "end_time"]


INITIAL = one_of(Measure, State, Solution) | ARRAY | NONE
LIMITS = one_of(Limits)
MAYBE_FLAG, MAYBE_FUNCTION, SECONDS = FLAG | NONE, FUNCTION | NONE, POSITIVE | INFINITE
ESTIMATE = True
"""Whether a run says how accurate it is where nobody asks: what is about other things may set it to False."""


@dataclass(frozen=True)
class Absent:
    """Why an option cannot be given at a place."""

    reason: str


@dataclass(frozen=True)
class Default:
    """Another default than that of `mfpde.solve`."""

    value: Any


FILE = Absent("the file of the run has it")
CODE = Absent("text cannot hold a function")
EXIT = Absent("a command has an exit code")
COMPILED = Absent("a run from text is compiled")
WARNS = Absent("a run from text warns")


@dataclass(frozen=True)
class Option:
    """What one option means, and where it may be given besides `mfpde.solve`, which has all of them.

    Attributes
    ----------
    meaning : str
    toml : str or Absent
        The dotted key of a TOML file.
    run, resume : str or Absent
        The flags of the commands ``mfpde run`` and ``mfpde resume``.
    again : Absent, Default or None
        Why `mfpde.resume` has no such argument, or its default, where that is another.
    unit : str
        Of its numbers.
    settles : bool
        Whether it settles what is computed, and not only how: a run that goes on keeps it.
    name : str
        The argument, and the field of `RunOptions`.
    default : object
        That of `mfpde.solve`.
    """

    meaning: str
    toml: str | Absent
    run: str | Absent
    resume: str | Absent
    again: Absent | Default | None = None
    unit: str = ""
    settles: bool = True
    name: str = ""
    default: Any = None


def _is(meaning: str, toml: str | Absent, run: str | Absent, resume: str | Absent, **more: Any) -> Mapping[str, Option]:
    """What the field of an option says of it: its meaning, TOML key, flag of run, flag of resume, and what else."""
    return {"option": Option(meaning, toml, run, resume, **more)}


@dataclass(frozen=True, eq=False)
class RunOptions:
    """How a run is to be made: `mfpde.solve` explains each option, `OPTIONS` says where it may be given.

    A new option is a field here and an argument of `mfpde.solve` and, unless the field says why not, of
    `mfpde.resume`. One with a TOML key has a field of `mfpde.runs.tables`, too, and one with a flag an argument of the
    command. A test fails where one is forgotten.

    Raises
    ------
    ValueError
        For what an option cannot be; what depends on the problem is checked where it is used.
    """

    shape: Sequence[int] | int | None = field(
        default=None, metadata=_is("Cells along each axis.", "shape", "--shape", FILE, again=FILE)
    )
    t_end: float | None = field(
        default=None, metadata=_is("The time to run to.", "t_end", "--t-end", "--until", unit="the problem's time")
    )
    tolerance: float | None = field(
        default=None,
        metadata=_is(
            "An accuracy instead of a mesh: what the error of the energy may be.",
            "tolerance",
            "--tolerance",
            FILE,
            again=FILE,
            unit="the scale of the energy",
        ),
    )
    scheme: Scheme | None = field(
        default=None, metadata=_is("How face values are made.", "scheme.transport", "--scheme", FILE)
    )
    method: Method | None = field(default=None, metadata=_is("How a step is made.", "scheme.method", "--method", FILE))
    controller: Controller | None = field(
        default=None,
        metadata=_is("How long steps are.", "scheme.controller", Absent("--set scheme.controller=courant"), FILE),
    )
    save: int | Sequence[float] = field(
        default=11,
        metadata=_is(
            "How many save times, or which.",
            "output.save",
            "--save",
            "--save",
            unit="the problem's time",
            again=Default(None),
        ),
    )
    initial: Measure | State | Solution | Array | None = field(
        default=None,
        metadata=_is(
            "Another start than the problem's.",
            Absent("there a start is the problem's: [parameters], [network.initial]"),
            Absent("there a start is the problem's: --set"),
            FILE,
            again=FILE,
        ),
    )
    stop: StopCondition | None = field(
        default=None, metadata=_is("What ends the run early.", CODE, CODE, CODE, settles=False)
    )
    max_steps: int = field(
        default=10_000_000,
        metadata=_is(
            "Limit on the number of steps of this call.",
            "max_steps",
            "--max-steps",
            Absent("a run that failed at its limit goes on; --time-limit ends it"),
            settles=False,
        ),
    )
    progress: bool | None = field(
        default=None,
        metadata=_is(
            "Whether a progress bar is shown.", Absent("it is the terminal's"), "--quiet", "--quiet", settles=False
        ),
    )
    threads: int | None = field(
        default=None, metadata=_is("Number of threads.", "threads", "--threads", "--threads", settles=False)
    )
    throw: bool = field(
        default=True, metadata=_is("Whether a run that fails raises an error.", EXIT, EXIT, EXIT, settles=False)
    )
    output: str | os.PathLike[str] | Stream | None = field(
        default=None,
        metadata=_is("The file that saved densities go to.", "output.path", "--output", "--output", settles=False),
    )
    overwrite: bool = field(
        default=False,
        metadata=_is(
            "Whether a file that is there may be replaced.",
            Absent("whoever starts the run says so"),
            "--force",
            "--force",
            again=Absent("the file of a run is replaced by that of the whole run"),
            settles=False,
        ),
    )
    checkpoint: float | None = field(
        default=60.0,
        metadata=_is(
            "After what time the state goes to the file between save times.",
            "output.checkpoint",
            "--checkpoint-every",
            "--checkpoint-every",
            unit="seconds",
            settles=False,
        ),
    )
    time_limit: float | None = field(
        default=None,
        metadata=_is(
            "After what time the run stops and saves.",
            "time_limit",
            "--time-limit",
            "--time-limit",
            unit="seconds",
            settles=False,
        ),
    )
    limits: Limits = field(
        default_factory=Limits, metadata=_is("What ends a run with a named result.", WARNS, WARNS, FILE, again=FILE)
    )
    on_end_mass: OnEndMass = field(
        default=OnEndMass.WARN,
        metadata=_is(
            "What is done when mass reaches an end of the mesh.", "on_end_mass", "--on-end-mass", FILE, again=FILE
        ),
    )
    estimate: bool | None = field(
        default=None,
        metadata=_is(
            "Whether the run says how accurate it is.",
            "estimate",
            "--no-estimate",
            FILE,
            again=FILE,
        ),
    )
    algebra: Algebra | None = field(
        default=None,
        metadata=_is("What arrays are worked on with.", COMPILED, COMPILED, COMPILED, settles=False),
    )

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> RunOptions:
        """The options among the arguments of a function; None stands for a default that is made for each run."""
        given = arguments.items()
        return cls(**{k: v for k, v in given if k in OPTIONS and not (v is None and k in MADE)})

    @property
    def with_parts(self) -> bool:
        """Whether a part of the solver is named."""
        return any(part is not None for part in (self.scheme, self.method, self.controller, self.algebra))

    def __post_init__(self) -> None:
        if self.initial is not None:  # to ask whether nothing is an array takes longer than all the rest
            require(initial=(self.initial, INITIAL))
        require(
            throw=(self.throw, FLAG),
            overwrite=(self.overwrite, FLAG),
            estimate=(self.estimate, MAYBE_FLAG),
        )
        if self.estimate is None:
            object.__setattr__(self, "estimate", ESTIMATE or self.tolerance is not None)
        object.__setattr__(self, "on_end_mass", member(OnEndMass, self.on_end_mass, "on_end_mass"))
        require(
            stop=(self.stop, MAYBE_FUNCTION),
            progress=(self.progress, MAYBE_FLAG),
            limits=(self.limits, LIMITS),
        )
        # what a run takes of memory depends on it, and is asked before the start of the run is known
        if self.t_end is not None and not (real(self.t_end) and self.t_end > 0.0):
            raise ValueError(f"t_end = {shown(self.t_end)} must be finite and lie after the start of the run")
        if not whole(self.max_steps) or self.max_steps < 1:
            raise ValueError(f"max_steps must be an integer of at least 1, not {shown(self.max_steps)}")
        for name in ("checkpoint", "time_limit"):
            value = getattr(self, name)
            if value is not None and not SECONDS.fits(value):
                raise ValueError(f"{name} must be a positive number of seconds or None, not {shown(value)}")
        if self.on_end_mass is OnEndMass.EXTEND and not (self.initial is None or isinstance(self.initial, Measure)):
            raise ValueError(
                'on_end_mass = "extend" starts again on a larger mesh: initial must be a measure, or left out'
            )
        if self.tolerance is not None:
            self._check_tolerance(self.tolerance)

    def _check_tolerance(self, tolerance: float) -> None:
        """Refuse an accuracy that none can have, and what contradicts that meshes and steps follow it."""
        if not (real(tolerance) and 0.0 < tolerance < 1.0):
            raise ValueError(
                f"tolerance = {shown(tolerance)} must lie between 0 and 1: the error of the energy as a share of "
                "its scale, 1e-3 is a good value"
            )
        if not (self.controller is None or isinstance(self.controller, ErrorControl)):
            raise ValueError(
                f"tolerance = {tolerance:g} settles how long steps are: controller must be an ErrorControl, or "
                f"left out, not {shown(self.controller)}"
            )
        if not self.estimate:
            raise ValueError(
                f"tolerance = {tolerance:g} is what estimated errors are held against: leave out estimate = False"
            )
        if not (self.initial is None or isinstance(self.initial, Measure)):
            raise ValueError(
                f"tolerance = {tolerance:g} runs on several meshes: initial must be a measure, such as "
                "solution.measure(), or left out"
            )


def end_time(problem: Problem, t_end: float | None, start: float) -> float:
    """When a run ends, by default the problem's end.

    Raises
    ------
    ValueError
        If that is no time after the start, by more than rounding.
    """
    if t_end is not None and not (real(t_end) and t_end > start):
        raise ValueError(f"t_end = {shown(t_end)} must be finite and lie after the start, t = {start:g}")
    end = problem.t_end if t_end is None else float(t_end)
    if not end > start:
        raise ValueError(f"the start, t = {start:g}, is not before the problem's t_end = {end:g}; pass t_end=")
    if same_time(start, end, end):
        raise ValueError(f"t_end = {end!r} is the start, t = {start!r}, but for rounding; nothing is left to run")
    return end


OPTIONS: Mapping[str, Option] = {
    entry.name: replace(
        entry.metadata["option"], name=entry.name, default=None if entry.default is MISSING else entry.default
    )
    for entry in fields(RunOptions)
}
"""All options, by name and in the order of `mfpde.solve`."""
MADE = frozenset(entry.name for entry in fields(RunOptions) if entry.default_factory is not MISSING)
"""Those of which a default is made for each run."""
