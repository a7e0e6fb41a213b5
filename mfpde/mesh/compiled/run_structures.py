"""What compiled runs of steps are told and tell, as structures with names; like `structures`, without numba."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfpde.support.arrays import Array

# rules for step lengths
FIXED, COURANT, ERROR = 0, 1, 2

# what a schedule is, the first of its numbers: its values are those of `mfpde.equation.schedules`
AT_REST, POWER, LINEAR, DECAYING, LOGARITHMIC = 0, 1, 2, 3, 4

# what a run of steps came to
MADE, TOO_SHORT, NOT_FINITE, TOO_LARGE, NO_MASS, ROSE, DRIFTED, AT_ENDS, STOPPED = 0, 1, 2, 3, 4, 5, 6, 7, 8
GOING, STOOD = 9, 10  # on the way there

# what is known of the state that a run of steps has come to, in an array of numbers
(
    TIME,
    LENGTH,
    MEMORY,
    CURRENT,
    KNOWN,
    TOTAL,
    MOMENT,
    LOW,
    HIGH,
    HELD,
    LEAST,
    ENERGY,
    EVALUATIONS,
    LEAK,
    SCALE,
    BOUND,
    CELL,
    STEP_LEAK,
    STEP_REDONE,
    STEP_DT,
    BEFORE_TIME,
    BEFORE_LENGTH,
    BEFORE_MEMORY,
    AT_TEMPERATURE,
    ENTROPY,
    GIBBS_GAP,
    NUMBERS,
) = range(27)
# rows of the arrays of a run: the densities, potentials and slopes of the free energy of the present state and of the
# one before, in turn
DENSITY, POTENTIAL, SLOPE, RATE, STAGE, SCALED, SCALED_POTENTIAL, EARLIER, THIRD, SPEEDS, DRIVING, FIELDS = (
    0,
    2,
    4,
    6,
    7,
    8,
    9,
    10,
    11,
    12,
    13,
    14,
)
# of steps that are made twice: the ends of the whole and of half of it
WHOLE, HALF, HALF_POTENTIAL, DOUBLED_FIELDS = FIELDS, FIELDS + 1, FIELDS + 2, FIELDS + 3
# of implicit ones: the potential in hand and what it misses, where a step goes on in the middle, and `REMEMBERED`
# potentials with what each has missed
ITERATE, MISSED, MIDDLE, MIDDLE_POTENTIAL = STAGE, SCALED, SCALED_POTENTIAL, EARLIER
REMEMBERED = 5
ITERATES, ALL_MISSED = DOUBLED_FIELDS, DOUBLED_FIELDS + REMEMBERED
IMPLICIT_FIELDS = ALL_MISSED + REMEMBERED
# of splittings: where a part begins; of stabilised stages the first rate and the one before
PART, PART_POTENTIAL, SPLIT_FIELDS = DOUBLED_FIELDS, DOUBLED_FIELDS + 1, DOUBLED_FIELDS + 2
FIRST_RATE, OLDER = EARLIER, THIRD
# methods
UNSPLIT, IMPLICIT, SPLIT = 0, 1, 2
# columns of the row of a step
(
    R_TIME,
    R_DT,
    R_MASS,
    R_MINIMUM,
    R_ENERGY,
    R_TRANSPORT,
    R_REACTION,
    R_GAP,
    R_END_MASS,
    R_CELL,
    R_ERROR,
    R_REDONE,
    R_TEMPERATURE,
    R_ENTROPY,
    R_FISHER,
    ROW,
) = range(16)


class Method(NamedTuple):
    """How steps are made.

    Attributes
    ----------
    kind : int
        `UNSPLIT`, `IMPLICIT` or `SPLIT`: of `ExponentialSSPRK3`, of `ImplicitStrang` and the like, of `Splitting`.
    ssp : float
        As in `Method`.
    order : int
        In time.
    positive : bool
        Whether the scheme keeps the sign.
    parts : (k, 2) array
        Of a splitting, as all that follows: by part 0 for reaction and 1 for transport, and its fraction.
    corrector, stabilised : bool
        As in `Splitting`.
    diffusion : float
        `TransportOperator.diffusion_rate`.
    stages : int
        Of implicit steps, as all that follows: the order of the transport along an axis, 2 or 1.
    share : float
        Of the end in the potential that is frozen: 0, 1/2 or 1.
    convergence : float
        Of the iteration for the potential.
    tiles : (d,) int array
        By axis, the tiles of its lines.
    small : (2 REMEMBERED, REMEMBERED) array
        Room for the equations of the acceleration.
    """

    kind: int
    ssp: float
    order: int
    positive: bool
    parts: Array
    corrector: bool
    stabilised: bool
    diffusion: float
    stages: int
    share: float
    convergence: float
    tiles: NDArray[np.int64]
    small: Array


class Addresses(NamedTuple):
    """Where functions begin that steps call, see `mfpde.support.calls`; None before they are asked for.

    Attributes
    ----------
    evaluate, rates : int
        `states.evaluate` and `clocks.rates`.
    outflow, move, inner_outflow, inner_move : int
        The two functions of `moving`, and the sweeps that these call.
    free_energy, lost_by_reaction : int
        Those of `entropy`; like all that follows anything where they are never called.
    longest, solve : int
        `splitting.longest` and `tridiagonal.solve`.
    single, attempt : int
        An attempt at a step without an error of its own, and at one that has what the controller asks for.
    """

    evaluate: Any = None
    rates: Any = None
    outflow: Any = None
    move: Any = None
    inner_outflow: Any = None
    inner_move: Any = None
    free_energy: Any = None
    lost_by_reaction: Any = None
    longest: Any = None
    solve: Any = None
    single: Any = None
    attempt: Any = None


class Steps(NamedTuple):
    """What a run of steps is told: everything that stays the same.

    Attributes
    ----------
    at : Addresses
    method : Method
    numbers : (4,) array
        The fields of the scheme's structure, and last its share of diffusion.
    ints, floats, metric, band
        As in `Mesh`.
    bands : int
        How many bands there are.
    buffers : array
        For the sweeps.
    codes, data, room : array
        The energy, see `potential.potential`.
    fields : (FIELDS, SPLIT_FIELDS or IMPLICIT_FIELDS, cells) array
        The state, and room for stages.
    responses : (2, r) array
        Of the present state and of the one before, in turn.
    sums : (6 blocks,) array
        Partial sums.
    fresh, fresh_rates, outcome : (7,), (2,), (5,) array
        What is known of a density that is not the present one, rates at some time, and what an attempt came to.
    ends : (k,) int array
        The cells next to truncation ends.
    base : array
        With a temperature and a base measure ``log omega`` on the cells; else nothing.
    volume : float
        Of a cell.
    positivity : float
        Of the scheme.
    limited : bool
        Whether the scheme limits its fluxes for the step.
    balanced, noisy, free : bool
        Whether mass is conserved, whether there is a temperature, and whether birth-death is that of the free energy.
    alpha, temperature : array
        The numbers of these schedules, see `clocks`.
    speed : float
        The common schedule.
    rule : int
        `FIXED`, `COURANT` or `ERROR`.
    dt, tolerance, fraction, reaction, growth : float
        Of the controller.
    """

    at: Addresses
    method: Method
    numbers: Array
    ints: NDArray[np.int64]
    floats: Array
    metric: Array
    band: int
    bands: int
    buffers: Array
    codes: NDArray[np.int64]
    data: Array
    room: Array
    fields: Array
    responses: Array
    sums: Array
    fresh: Array
    fresh_rates: Array
    outcome: Array
    ends: NDArray[np.int64]
    base: Array
    volume: float
    positivity: float
    limited: bool
    balanced: bool
    noisy: bool
    free: bool
    alpha: Array
    temperature: Array
    speed: float
    rule: int
    dt: float
    tolerance: float
    fraction: float
    reaction: float
    growth: float


class Known(NamedTuple):
    """What is known of a density: `total`, `moment` and so on as in `Survey`, energy, mass, mean of the potential."""

    total: float
    moment: float
    low: float
    high: float
    held: float
    least: float
    energy: float
    mass: float
    mean: float


class Span(NamedTuple):
    """A step, or a part of one.

    Attributes
    ----------
    t, dt : float
        When the step begins, and its length in time.
    length : float
        Its length in the clock.
    start, share : float
        Where the part begins, and how much of the step it is.
    """

    t: float
    dt: float
    length: float
    start: float
    share: float


class Tried(NamedTuple):
    """What an attempt at a step came to.

    Attributes
    ----------
    made : bool
        Whether there is a new density; if not, `bound` says how long the step may have been.
    bound, leak, error : float
        As in `Outcome`.
    evaluations : int
        How often the potential was evaluated.
    """

    made: bool
    bound: float
    leak: float
    error: float
    evaluations: int


class Saves(NamedTuple):
    """Times that a run of steps hits, and room for what there is of the states there; without room nothing is kept.

    Attributes
    ----------
    times : (k,) array
    densities, potentials : (k, cells) or (0, cells) array
    numbers : (k, 7) or (0, 7) array
        What is known of the density, as `TOTAL` and the next six have it.
    counts : (k,) or (0,) int array
        Steps made until then.
    """

    times: Array
    densities: Array
    potentials: Array
    numbers: Array
    counts: NDArray[np.int64]


class Bounds(NamedTuple):
    """What ends a run of steps before its time; NaN, or for `change` 0, where nothing does.

    Attributes
    ----------
    mass : float
        Of the first state of the run.
    increase, drift, ends : float
        Largest rise of the energy as a share of its scale, drift of the mass, and share of the mass at truncation ends.
    energy, gap, change : float
        The run stops where these are reached.
    """

    mass: float
    increase: float
    drift: float
    ends: float
    energy: float
    gap: float
    change: float
