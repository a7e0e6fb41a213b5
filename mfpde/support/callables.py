"""Functions of the user's: one convention, and how others are told from it.

A function of a place takes its coordinates as separate arrays that broadcast, in the order of the axes:
``f(*coordinates)``. One of data takes the data first, ``unit(x, *coordinates)``; a kernel of two places takes both,
one after the other, ``k(*coordinates, *others)``. Which function has which signature is in ``docs/functions.md``.
"""

from __future__ import annotations

import functools
import inspect
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from mfpde.support.arguments import entries, floats, name_of, read_only, values_of
from mfpde.support.arrays import Array
from mfpde.support.session import warn
from mfpde.support.words import one_line

__all__ = ["Form", "in_its_form", "on_shape", "slopes_of", "values_at"]


def values_at(function: Callable[..., Any], coordinates: Sequence[Array], what: str) -> Array:
    """What a function ``f(*coordinates)`` of the user's gives: one array an axis, of shapes that broadcast.

    Returns
    -------
    array
        On the shape to which the coordinates broadcast; it may repeat what is in memory once.

    Raises
    ------
    ValueError
        If the result does not broadcast to that shape.
    """
    return on_shape(values_of(function, *coordinates), np.broadcast(*coordinates).shape, what)


def on_shape(values: Array, shape: tuple[int, ...], what: str) -> Array:
    """What a function gave, on the shape that it should have; see `values_at`."""
    try:
        return values if values.shape == shape else np.broadcast_to(values, shape)
    except ValueError:
        raise ValueError(f"{what} returned shape {values.shape}, which does not broadcast to {shape}") from None


def slopes_of(
    gradient: Callable[..., Any], *coordinates: Array, data: Sequence[Any] = (), before: int = 0
) -> tuple[Any, ...]:
    """What a gradient of the user's gives: one array an axis, in the order of the coordinates; of one axis it alone.

    Parameters
    ----------
    gradient : callable
        ``gradient(*data, *coordinates)``, which may read the coordinates and not write to them.
    *coordinates : array
        One an axis, of shapes that broadcast.
    data : sequence, optional
        What it takes before them.
    before : int, optional
        How many axes an array has before those of the places.

    Raises
    ------
    ValueError
        For another number of arrays than axes.
    """
    slopes = gradient(*data, *read_only(*coordinates))
    if len(coordinates) == 1 and not isinstance(slopes, Sequence) and np.ndim(slopes) <= before + coordinates[0].ndim:
        return (floats(slopes, f"what {name_of(gradient)} returns"),)
    slopes = entries(slopes, "a gradient")
    if len(slopes) != len(coordinates):
        raise ValueError(f"a gradient must give one array for each of the {len(coordinates)} axes, not {len(slopes)}")
    return tuple(floats(slope, f"what {name_of(gradient)} returns") for slope in slopes)


class Form(NamedTuple):
    """A way to call a function of the user's at places.

    Attributes
    ----------
    text : str
        The call, as messages write it.
    parameters : int
        How many arguments the function takes.
    values : callable
        ``values(function, *places)``, an array: what the function gives at places. One that can be pickled.
    """

    text: str
    parameters: int
    values: Callable[..., Array]


def in_its_form(
    function: Callable[..., Any],
    forms: Sequence[Form],
    places: Sequence[Array],
    shape: tuple[int, ...],
    what: str,
) -> Callable[..., Array]:
    """A function of the user's as a function of places, whichever of some forms it has.

    The number of its parameters without a default tells, where the forms differ in that and one of them fits.
    Otherwise it is called in every form on a few places, and the form is the first that gives the right shape.

    Parameters
    ----------
    function : callable
    forms : sequence of Form
        The documented one first.
    places : sequence of array
        A few places, so many that no two shapes are equal by chance.
    shape : tuple of int
        Of the values there.
    what : str
        What the function is called in messages.

    Raises
    ------
    ValueError
        If it gives the right shape in no form: each of them, and what it did.

    Warns
    -----
    UserWarning
        If it does so in several, and the values differ: the first is taken.
    """
    fitting = [form for form in forms if form.parameters == _parameters(function)]
    if len(fitting) == 1:
        return functools.partial(fitting[0].values, function)
    found: list[tuple[Form, Array]] = []
    said, errors = [], []
    for form in forms:
        try:
            with np.errstate(all="ignore"):
                values = form.values(function, *places)
        except MemoryError:
            raise
        except Exception as error:  # whatever it does with what it is not made for
            said.append(f"called as {form.text} it fails ({textwrap.shorten(one_line(error), 100)})")
            errors.append(error)
            continue
        if values.shape == shape:
            found.append((form, values))
        else:
            said.append(f"called as {form.text} it returns {values.shape}")
    if not found:
        raise ValueError(f"{what} must return shape {shape}; {', '.join(said)}") from next(iter(errors), None)
    (first, values), *others = found
    for other, there in others:
        if not np.allclose(values, there, equal_nan=True):
            warn(
                f"{what} can be called as {first.text} and as {other.text}, and gives different values; "
                f"it is called as {first.text}",
                stacklevel=3,
                category=UserWarning,
            )
    return functools.partial(first.values, function)


def _parameters(function: Callable[..., Any]) -> int | None:
    """How many arguments a function has to be given; None where that is not known, or it takes any number."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of compiled code
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    own = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in own and p.default is p.empty for p in parameters)
