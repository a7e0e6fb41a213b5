"""What reports are written with: tables, numbers, pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["number", "saved", "seconds", "table"]


def table(header: Sequence[Any], rows: Iterable[Sequence[Any]]) -> list[str]:
    """A table as lines of Markdown."""

    def line(cells: Sequence[Any]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return [line(header), "|" + "---|" * len(header), *(line(row) for row in rows)]


def number(value: float | None) -> str:
    """A number of which the size matters; nothing for None."""
    return "" if value is None else f"{value:.1e}"


def seconds(value: float | None) -> str:
    """Seconds, three digits; below a millisecond two."""
    if value is None:
        return ""
    return f"{value:.1e}" if value < 1e-3 else f"{value:.3g}"


def saved(figure: Any, path: Path) -> None:
    """Write a figure and close it."""
    import matplotlib.pyplot as plt

    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)
