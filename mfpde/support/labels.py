"""Results with labels: as datasets of xarray, and as tables of pandas."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mfpde.support.arrays import Array

if TYPE_CHECKING:
    import pandas
    import xarray

__all__ = ["Column", "Labelled", "Labels", "needed", "table"]


@dataclass(frozen=True, eq=False)
class Column:
    """An array with names of its axes.

    Attributes
    ----------
    axes : sequence of str
    values : array
    meaning : str
        What it is, for people.
    """

    axes: Sequence[str]
    values: Any
    meaning: str = ""


@dataclass(frozen=True, eq=False)
class Labels:
    """What a result is made of.

    Attributes
    ----------
    coordinates : dict of Column
        Those along axes have the axis' name.
    variables : dict of Column
    attributes : dict
        Numbers and text that belong to all of it.
    rows : tuple of str
        The axes whose values are the rows of a table; what has others is in the dataset only.
    """

    coordinates: Mapping[str, Column]
    variables: Mapping[str, Column]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    rows: tuple[str, ...] = ("time",)


class Labelled(ABC):
    """A result that says what its arrays are."""

    @abstractmethod
    def _labels(self) -> Labels: ...

    def to_xarray(self) -> xarray.Dataset:
        """All numbers as a dataset: coordinates, units of time and meanings with them.

        Returns
        -------
        xarray.Dataset

        Raises
        ------
        ImportError
            Without xarray.
        """
        with needed("xarray", "to_xarray"):
            import xarray
        labels = self._labels()
        parts = [
            {name: (tuple(c.axes), np.asarray(c.values), _meaning(c)) for name, c in columns.items()}
            for columns in (labels.variables, labels.coordinates)
        ]
        attributes = {key: value for key, value in labels.attributes.items() if value is not None}
        return xarray.Dataset(parts[0], coords=parts[1], attrs=attributes)

    def to_dataframe(self) -> pandas.DataFrame:
        """The numbers of each save time, or whatever a row stands for, as a table.

        Returns
        -------
        pandas.DataFrame

        Raises
        ------
        ImportError
            Without pandas.
        """
        labels = self._labels()
        sizes = {name: len(np.asarray(labels.coordinates[name].values)) for name in labels.rows}
        every = {**labels.coordinates, **labels.variables}
        columns = {
            name: _along(column, labels.rows, sizes)
            for name, column in every.items()
            if set(column.axes) <= set(labels.rows)
        }
        return table(columns)


@contextmanager
def needed(package: str, who: str) -> Iterator[None]:
    """Import a package here that is not always there.

    Raises
    ------
    ImportError
        Without it; it names who asked, and the remedy.
    """
    try:
        yield
    except ImportError:
        raise ImportError(f"{who} needs {package}: pip install {package}") from None


def _meaning(column: Column) -> dict[str, str]:
    return {"long_name": column.meaning} if column.meaning else {}


def _along(column: Column, rows: tuple[str, ...], sizes: Mapping[str, int]) -> Array:
    """An array of some of the axes of the rows, one number for each row."""
    values = np.asarray(column.values)
    values = np.transpose(values, np.argsort([rows.index(axis) for axis in column.axes])) if values.ndim else values
    shape = [sizes[name] if name in column.axes else 1 for name in rows]
    return np.broadcast_to(values.reshape(shape), [sizes[name] for name in rows]).ravel()


def table(columns: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> pandas.DataFrame:
    """Columns by name, or rows, as a table.

    Raises
    ------
    ImportError
        Without pandas.
    """
    with needed("pandas", "to_dataframe"):
        import pandas
    return pandas.DataFrame(columns if isinstance(columns, Mapping) else list(columns))
