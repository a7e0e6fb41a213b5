"""The result of a comparison: table, numbers, figure."""

from __future__ import annotations

import enum
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mfpde.checks import NONE, NUMBER, PATH, require
from mfpde.comparison.statistics import Finding, Verdict, overall

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Comparison"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Comparison:
    """The result of `compare`; printing it gives the table.

    Attributes
    ----------
    name : str
        The problem's.
    times : array, shape (m,)
    sizes : tuple of int
        ``n``, increasing.
    replicas : tuple of int
        Their number at each size.
    dt, control_dt : float or None
        The time step, and that of the control run.
    findings : dict of Finding
        One for each observable.
    threshold : float
        The z-score beyond which something is significant: a normal score at level ``false_alarm / tests``.
    tests : int
        How many tests that covers (observables, their components, times): Bonferroni.
    false_alarm : float
        The probability that a right scheme fails anywhere, at most (as far as means of replicas are Gaussian).
    reference_error : str
        Where the reference's uncertainty comes from.
    notes : tuple of str
        What else to know.
    """

    name: str
    times: Array
    sizes: tuple[int, ...]
    replicas: tuple[int, ...]
    dt: float | None
    control_dt: float | None
    findings: dict[str, Finding]
    threshold: float
    tests: int
    false_alarm: float
    reference_error: str
    scheme: str = ""
    effective_size: Array = field(default_factory=lambda: np.empty((0, 0)))
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Finding:
        """The finding on an observable.

        Raises
        ------
        KeyError
            With the names there are.
        """
        if name not in self.findings:
            raise KeyError(f"no observable {name!r}; compared were: {', '.join(self.findings)}")
        return self.findings[name]

    @property
    def verdict(self) -> Verdict:
        """Inconsistent if an observable is; otherwise undecided if one is."""
        return overall(finding.verdict for finding in self.findings.values())

    def __str__(self) -> str:
        ns = " ".join(f"{n} (x {r})" for n, r in zip(self.sizes, self.replicas, strict=True))
        step = "unknown" if self.dt is None else f"{self.dt:g}"
        control = "none" if self.control_dt is None else f"dt = {self.control_dt:g} at n = {self.sizes[-1]}"
        lines = [
            f"Comparison of particles with {self.name!r}: {self.verdict.value}",
            f"  particles   n = {ns}, dt = {step}; control of the step: {control}",
            *([f"  scheme      {self.scheme}"] if self.scheme else []),
            f"  times       {', '.join(f'{t:g}' for t in self.times)}",
            f"  reference   {self.reference_error}",
            f"  test        |z| > {self.threshold:.2f}: a right scheme fails once in {1 / self.false_alarm:.4g} "
            f"comparisons, {self.tests} tests counted",
            "",
        ]
        rows: list[tuple[str, ...]] = [
            (
                "observable",
                "verdict",
                "slope in n",
                "rms gap, sizes",
                "iid",
                "bias, n to inf",
                "of the step",
                "z",
                "at t",
            )
        ]
        for f in self.findings.values():
            j = self._worst(f)
            k = int(np.argmax(np.abs(f.limit[j]))) if np.all(np.isfinite(f.limit[j])) else 0
            low, high = f.slope_interval[-1]
            slope = "-" if math.isnan(f.slope[-1]) else f"{f.slope[-1]:.2f}"
            if math.isfinite(low) and math.isfinite(high):  # one replica has no error bars
                slope += f" [{low:.2f}, {high:.2f}]"
            bias = "-" if math.isnan(f.limit[j, k]) else f"{f.limit[j, k]:.2g}"
            if math.isfinite(f.limit_error[j, k]):
                bias += f" +- {f.limit_error[j, k]:.1g}"
            gaps = f"{math.sqrt(f.mean_square[0, -1]):.2g} .. {math.sqrt(f.mean_square[-1, -1]):.2g}"
            step_bias = f.step_bias[j, k]
            if not f.signed:
                step_bias = math.copysign(math.sqrt(abs(step_bias)), step_bias)
            score = np.nanmax([f.z[j], f.spread_z[j]]) if np.isfinite(f.z[j]) else math.nan
            rows.append(
                (
                    f.name,
                    f.verdict.value,
                    slope,
                    gaps,
                    f"{math.sqrt(f.resampled[-1, -1]):.2g}",
                    bias,
                    "-" if math.isnan(step_bias) else f"{step_bias:.2g}",
                    "-" if math.isnan(score) else f"{score:.1f}",
                    f"{self.times[j]:g}",
                )
            )
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        for row in rows:
            cells = [c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
            lines.append("  " + "  ".join(cells).rstrip())
        lines.append("")
        lines += [f"  {f.name}: {f.reason}" for f in self.findings.values() if f.verdict is not Verdict.CONSISTENT]
        lines += [f"  note: {text}" for text in self.notes]
        lines.append(
            f"  slopes, gaps and iid (n draws from mu_t, n = {self.sizes[-1]}) at t = {self.times[-1]:g}; "
            "bias, step and z where z is largest"
        )
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Comparison with {self.name!r}: {self.verdict.value}, {len(self.findings)} observables>"

    def _worst(self, f: Finding) -> int:
        score = np.fmax(np.nan_to_num(f.z, nan=-1.0), np.nan_to_num(f.spread_z, nan=-1.0))
        return int(np.argmax(score)) if score.max() > 0 else len(self.times) - 1

    def to_dict(self) -> dict[str, Any]:
        """All numbers, as plain lists; what is not a number is None."""

        def plain(value: Any) -> Any:
            if isinstance(value, enum.Enum):
                return value.value
            if isinstance(value, np.ndarray):
                return plain(value.tolist())
            if isinstance(value, (list, tuple)):
                return [plain(v) for v in value]
            if isinstance(value, Mapping):
                return {str(k): plain(v) for k, v in value.items()}
            if isinstance(value, float) and not math.isfinite(value):
                return None
            if isinstance(value, np.generic):
                return plain(value.item())
            return value

        parts = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "findings"}
        found = {name: {key: getattr(f, key) for key in f.__dataclass_fields__} for name, f in self.findings.items()}
        result: dict[str, Any] = plain({"verdict": self.verdict, **parts, "findings": found})
        return result

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The numbers as JSON text, also written to `path` if one is given."""
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"
        require(path=(path, PATH | NONE))
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def plot(self, path: str | os.PathLike[str] | None = None, *, t: float | None = None) -> Figure:
        """Root mean squared gap against n at a time (default: the last), a panel for each observable.

        Points with bars of two standard errors: the particles, and a line of the fitted slope. Dashed: independent
        draws from ``mu_t``.

        Parameters
        ----------
        path : path, optional
            Where to write the figure.
        t : float, optional
            One of `times`.
        """
        from mfpde.plotting import BLUE, GREEN, GREY, ORANGE, VERMILION, _dress, _figure

        require(path=(path, PATH | NONE), t=(t, NUMBER | NONE))
        j = len(self.times) - 1 if t is None else int(np.argmin(np.abs(self.times - t)))
        if t is not None and abs(self.times[j] - t) > 1e-9 * max(1.0, abs(t)):
            raise ValueError(f"t = {t:g} was not compared; the times are {', '.join(f'{s:g}' for s in self.times)}")
        found = list(self.findings.values())
        columns = min(3, len(found))
        rows = -(-len(found) // columns)
        figure = _figure(4.2 * columns, 3.1 * rows + 0.5)
        panels = np.ravel(figure.subplots(rows, columns, squeeze=False))
        colours = {Verdict.CONSISTENT: GREEN, Verdict.INCONSISTENT: VERMILION, Verdict.UNDECIDED: ORANGE}
        n = np.array(self.sizes, dtype=float)
        for ax, f in zip(panels, found, strict=False):
            gap = np.sqrt(f.mean_square[:, j])
            error = f.mean_square_error[:, j] / np.maximum(2 * gap, 1e-300)
            ok = gap > 0
            bars = np.stack([np.minimum(2 * error, 0.9 * gap), 2 * error])
            _dress(ax)
            ax.set_xscale("log")
            if ok.any():
                ax.errorbar(n[ok], gap[ok], yerr=np.nan_to_num(bars[:, ok]), fmt="o", color=BLUE, capsize=3, ms=5)
                ax.set_yscale("log")
            band = np.sqrt(f.resampled[:, j])
            if np.any(band > 0):
                ax.plot(n, np.where(band > 0, band, np.nan), "--", color=GREY, lw=1.2, label="independent draws")
            if ok.all() and np.isfinite(f.slope[j]):
                middle = np.exp(np.mean(np.log(f.mean_square[:, j])))
                line = middle * (n / np.exp(np.mean(np.log(n)))) ** f.slope[j]
                ax.plot(
                    n,
                    np.sqrt(line),
                    "-",
                    color=BLUE,
                    lw=1.0,
                    alpha=0.6,
                    label=f"its square falls like $n^{{{f.slope[j]:.2f}}}$",
                )
            ax.set_title(f"{f.name}: {f.verdict.value}", fontsize=10, color=colours[f.verdict])
            ax.set_xlabel("particles n", fontsize=9)
            if ax.get_legend_handles_labels()[0]:
                ax.legend(fontsize=8, frameon=False)
        for ax in panels[len(found) :]:
            ax.set_visible(False)
        for ax in panels[::columns]:
            ax.set_ylabel("root mean squared gap", fontsize=9)
        figure.suptitle(f"{self.name}, t = {self.times[j]:.4g}: {self.verdict.value}", fontsize=12)
        if path is not None:
            figure.savefig(path, dpi=150)
        return figure
