"""The result of a comparison: verdict with its limit, table, numbers, figure."""

from __future__ import annotations

import enum
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mfpde.support.arguments import NONE, NUMBER, PATH, require
from mfpde.support.arrays import Array
from mfpde.support.labels import Column, Labelled, Labels
from mfpde.support.words import printable
from mfpde.verification.comparison.diagnosis import Fit, VisibleError
from mfpde.verification.comparison.findings import ANCESTORS, DOUBT, Finding, Verdict, overall
from mfpde.verification.comparison.plan import Plan, plan
from mfpde.verification.comparison.sensitivity import ABSENT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Comparison", "Limit"]


def _off(kind: str, error: VisibleError) -> str:
    article = "an" if kind[0] in "aeiou" else "a"
    return f"{article} {kind} off by more than {_percent(error.size)}"


COLUMNS: tuple[str, ...] = (
    "observable",
    "verdict",
    "slope in n",
    "rms gap, sizes",
    "iid",
    "bias, n to inf",
    "unseen below",
    "of the step",
    "z",
    "at t",
)


@dataclass(frozen=True)
class Limit:
    """The lasting bias that could be unseen.

    Attributes
    ----------
    observable : str
    value : float
        In its units, the largest over the times: two standard errors and the uncertainty of the reference above what
        is found. NaN where replicas have no error.
    share, of : float, str
        The largest fraction, and of what: of "E" where its least value is known to be 0, by
        ``problem.exact["minimum_energy"]`` or because it is the discrepancy of a positive kernel from a measure on the
        box (E then counts as no less than 1e-3 of its fall over the run); otherwise of "the fall of E".
    time : float
        When the fraction is largest.
    """

    observable: str
    value: float
    share: float
    of: str
    time: float


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 1 else f"{100 * share:.0f} %"


@dataclass(frozen=True, eq=False)
class Comparison(Labelled):
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
    energy_scale : array, shape (m,)
        What the limit on the energy is a fraction of, see `limit`; `energy_scale_of` says what that is.
    visible_errors : dict of VisibleError
        By kind ("time scale", "interaction", "temperature", "birth-death rate", "width of the start") the smallest
        relative error that would have been significant. Empty without sensitivities.
    not_looked_for : dict of str
        The other kinds, and why not.
    fits : dict of Fit
        By kind the factor that fits the gaps best.
    looks_like : str
        The fault that explains the gaps, if a single one does: "the mean field at 2.00 t: loss without 1/2?".
    ancestral_mass : array, shape (m,), or None
        From how little of the start half of the mass at each time descends, where that is known.
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
    energy_scale: Array = field(default_factory=lambda: np.empty(0))
    energy_scale_of: str = ""
    visible_errors: dict[str, VisibleError] = field(default_factory=dict)
    not_looked_for: dict[str, str] = field(default_factory=dict)
    fits: dict[str, Fit] = field(default_factory=dict)
    looks_like: str = ""
    ancestral_mass: Array | None = None

    def _labels(self) -> Labels:
        """Observables, times and sizes."""
        found, short = list(self.findings.values()), ["observable", "time"]
        long = ["observable", "size", "time"]
        variables = {
            "mean_square": Column(long, np.stack([f.mean_square for f in found]), "mean squared gap or distance"),
            "mean_square_error": Column(long, np.stack([f.mean_square_error for f in found]), "its standard error"),
            "resampled": Column(long, np.stack([f.resampled for f in found]), "the same of independent draws"),
            "slope": Column(short, np.stack([f.slope for f in found]), "of log mean squared gap against log n"),
            "z": Column(short, np.stack([f.z for f in found]), "score of the bias"),
            "unseen": Column(short, np.stack([f.unseen for f in found]), "what could be left for n to infinity"),
            "verdict": Column(short, [[verdict.value for verdict in f.verdicts] for f in found]),
        }
        coordinates = {
            "observable": Column(["observable"], list(self.findings)),
            "size": Column(["size"], np.array(self.sizes), "particles"),
            "time": Column(["time"], self.times),
        }
        attributes = {"problem": self.name, "verdict": self.verdict.value, "headline": self.headline}
        return Labels(coordinates, variables, attributes, ("observable", "time", "size"))

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
        """Inconsistent if an observable is; otherwise undecided if one is, or if a fit of all is significant."""
        found = overall(finding.verdict for finding in self.findings.values())
        return Verdict.UNDECIDED if found is Verdict.CONSISTENT and self._significant else found

    @property
    def _significant(self) -> dict[str, Fit]:
        return {kind: fit for kind, fit in self.fits.items() if fit.z > self.threshold}

    @property
    def limit(self) -> Limit:
        """What lasting bias could be unseen: in the energy if it was compared, at the time where it is worst."""
        name = "energy" if "energy" in self.findings else next(iter(self.findings))
        found = self.findings[name]
        scale, of = np.full(len(self.times), found.scale), f"the scale of {name}"
        if name == "energy" and len(self.energy_scale):
            scale, of = self.energy_scale, self.energy_scale_of
        share = found.unseen / np.maximum(scale, 1e-300)
        if not np.isfinite(share).any():
            return Limit(name, math.nan, math.nan, of, math.nan)
        j = int(np.nanargmax(share))
        return Limit(name, float(np.nanmax(found.unseen)), float(share[j]), of, float(self.times[j]))

    @property
    def headline(self) -> str:
        """The verdict with its limit, what the gaps look like, and what would have been seen."""
        parts = [self._named_verdict()]
        seen = {kind: error for kind, error in self.visible_errors.items() if error.size < 1}
        if seen:
            parts.append(f"{', '.join(_off(kind, error) for kind, error in seen.items())} would have been seen")
        if len(seen) < len(self.visible_errors):
            unseen = ", ".join(kind for kind in self.visible_errors if kind not in seen)
            parts.append(f"errors below 100 % would not have been seen of: {unseen}")
        return "; ".join(parts)

    def _named_verdict(self) -> str:
        verdict, limit = self.verdict, self.limit
        if verdict is Verdict.CONSISTENT:
            return f"consistent to {limit.value:.2g} ({_percent(limit.share)} of {limit.of})"
        why = f"looks like {self.looks_like}" if self.looks_like else self._few_ancestors()
        return verdict.value + (f": {why}" if why else "")

    def _few_ancestors(self) -> str:
        """That what leaves it undecided is a gap at times whose limit no particles of the smallest size follow."""
        if self.verdict is not Verdict.UNDECIDED or self.ancestral_mass is None:
            return ""
        there = min(self.sizes) * self.ancestral_mass
        seen = [
            j
            for f in self.findings.values()
            for j in np.flatnonzero(there < ANCESTORS)
            if f.verdicts[j] is Verdict.UNDECIDED and np.nanmax([f.z[j], f.slope_z[j], 0.0]) > DOUBT
        ]
        if not seen:
            return ""
        fewest = float(there[seen].min())
        return f"{fewest:.2g} of {min(self.sizes)} particles start where half of the mass comes from"

    def __str__(self) -> str:
        lines = [f"Comparison of particles with {self.name!r}: {self._named_verdict()}", *self._settings(), ""]
        rows = [COLUMNS, *(self._row(f) for f in self.findings.values())]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        for row in rows:
            cells = [c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
            lines.append("  " + "  ".join(cells).rstrip())
        lines += ["", *self._reasons()]
        if self.verdict is Verdict.UNDECIDED:
            lines.append(f"  plan: {self.plan()}")
        lines += [f"  note: {text}" for text in self.notes]
        lines.append(
            f"  slopes, gaps (both with the bias of the step) and iid (n draws from mu_t, n = {self.sizes[-1]}) at "
            f"t = {self.times[-1]:g}; bias, step and z where z is largest; unseen at any time"
        )
        return printable("\n".join(lines))

    def _settings(self) -> list[str]:
        """How particles were simulated, what they were compared with, and what would have been seen."""
        ns = " ".join(f"{n} (x {r})" for n, r in zip(self.sizes, self.replicas, strict=True))
        step = "unknown" if self.dt is None else f"{self.dt:g}"
        control = "none" if self.control_dt is None else f"dt = {self.control_dt:g} at n = {self.sizes[-1]}"
        lines = [
            f"  particles   n = {ns}, dt = {step}; control of the step: {control}",
            *([f"  scheme      {self.scheme}"] if self.scheme else []),
            f"  times       {', '.join(f'{t:g}' for t in self.times)}",
            f"  reference   {self.reference_error}",
            f"  test        |z| > {self.threshold:.2f}: a right scheme fails once in {1 / self.false_alarm:.4g} "
            f"comparisons, {self.tests} tests counted",
        ]
        for i, (kind, error) in enumerate(self.visible_errors.items()):
            where = error.observable + ("" if math.isnan(error.time) else f", t = {error.time:g}")
            lines.append(f"  {'' if i else 'would show':<10}  {_off(kind, error)} ({where})")
        others = [f"{kind} ({why})" for kind, why in self.not_looked_for.items() if why != ABSENT]
        return [*lines, *([f"  not sought  {', '.join(others)}"] if others else [])]

    def _row(self, f: Finding) -> tuple[str, ...]:
        """The cells of an observable in the table."""
        j = self._worst(f)
        k = int(np.argmax(np.abs(f.limit[j]))) if np.all(np.isfinite(f.limit[j])) else 0
        low, high = f.slope_interval[-1]
        slope = "-" if math.isnan(f.slope[-1]) else f"{f.slope[-1]:.2f}"
        if math.isfinite(low) and math.isfinite(high):  # one replica has no error bars
            slope += f" [{low:.2f}, {high:.2f}]"
        bias = "-" if math.isnan(f.limit[j, k]) else f"{f.limit[j, k]:.2g}"
        if math.isfinite(f.limit_error[j, k]):
            bias += f" +- {f.limit_error[j, k]:.1g}"
        step_bias = f.step_bias[j, k]
        if not f.signed:
            step_bias = math.copysign(math.sqrt(abs(step_bias)), step_bias)
        score = np.nanmax([f.z[j], f.spread_z[j], f.slope_z[j]]) if np.isfinite(f.z[j]) else math.nan
        return (
            f.name,
            f.verdict.value,
            slope,
            f"{math.sqrt(f.mean_square[0, -1]):.2g} .. {math.sqrt(f.mean_square[-1, -1]):.2g}",
            f"{math.sqrt(f.resampled[-1, -1]):.2g}",
            bias,
            "-" if np.isnan(f.unseen).all() else f"{np.nanmax(f.unseen):.2g}",
            "-" if math.isnan(step_bias) else f"{step_bias:.2g}",
            "-" if math.isnan(score) else f"{score:.1f}",
            f"{self.times[j]:g}",
        )

    def _reasons(self) -> list[str]:
        """Why it is not consistent: in one line, where one fault explains all gaps."""
        others = [f for f in self.findings.values() if f.verdict is not Verdict.CONSISTENT]
        if self.looks_like:
            which = "in " + ", ".join(f.name for f in others) if others else "together"
            step = "; but it may be the time step: there is no control run" if self.control_dt is None else ""
            return [f"  looks like {self.looks_like}; that explains the gaps {which}{step}"]
        lines = [f"  {f.name}: {f.reason}" for f in others]
        for kind, fit in self._significant.items() if not others else ():
            lines.append(
                f"  all together: the {kind} fits at {fit.factor:.4g} +- {fit.error:.1g} times what it should be "
                f"(z = {fit.z:.1f})"
            )
        return lines

    def __repr__(self) -> str:
        return f"<Comparison with {self.name!r}: {self.verdict.value}, {len(self.findings)} observables>"

    def _worst(self, f: Finding) -> int:
        score = np.max([np.nan_to_num(z, nan=-1.0) for z in (f.z, f.spread_z, f.slope_z)], axis=0)
        return int(np.argmax(score)) if score.max() > 0 else len(self.times) - 1

    def plan(self) -> Plan:
        """Which replicas and sizes would decide what is undecided, at least; or halve the limit.

        It takes the variances over replicas for what they are, and what is left for n to infinity for what stays.
        Printing it says it in a line.
        """
        return plan(self, self.limit.observable)

    def to_dict(self) -> dict[str, Any]:
        """All numbers, as plain lists; what is not a number is None."""

        def plain(value: Any) -> Any:
            if isinstance(value, enum.Enum):
                return value.value
            if is_dataclass(value):
                return {key: plain(getattr(value, key)) for key in value.__dataclass_fields__}
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

        said = {"verdict": self.verdict, "headline": self.headline, "limit": self.limit, "plan": self.plan()}
        result: dict[str, Any] = plain({**said, **{name: getattr(self, name) for name in self.__dataclass_fields__}})
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
        from mfpde.support.figures import new_figure

        require(path=(path, PATH | NONE), t=(t, NUMBER | NONE))
        j = len(self.times) - 1 if t is None else int(np.argmin(np.abs(self.times - t)))
        if t is not None and abs(self.times[j] - t) > 1e-9 * max(1.0, abs(t)):
            raise ValueError(f"t = {t:g} was not compared; the times are {', '.join(f'{s:g}' for s in self.times)}")
        found = list(self.findings.values())
        columns = min(3, len(found))
        rows = -(-len(found) // columns)
        figure = new_figure(4.2 * columns, 3.1 * rows + 0.5)
        panels = np.ravel(figure.subplots(rows, columns, squeeze=False))
        for ax, f in zip(panels, found, strict=False):
            _plot_gaps(ax, f, np.array(self.sizes, dtype=float), j)
        for ax in panels[len(found) :]:
            ax.set_visible(False)
        for ax in panels[::columns]:
            ax.set_ylabel("root mean squared gap", fontsize=9)
        figure.suptitle(f"{self.name}, t = {self.times[j]:.4g}: {self.verdict.value}", fontsize=12)
        if path is not None:
            figure.savefig(path, dpi=150)
        return figure


def _plot_gaps(ax: Axes, f: Finding, n: Array, j: int) -> None:
    """Draw the root mean squared gaps of an observable against n at time number `j`."""
    from mfpde.support.figures import BLUE, GREEN, GREY, ORANGE, VERMILION, dress

    colours = {Verdict.CONSISTENT: GREEN, Verdict.INCONSISTENT: VERMILION, Verdict.UNDECIDED: ORANGE}
    gap = np.sqrt(f.mean_square[:, j])
    error = f.mean_square_error[:, j] / np.maximum(2 * gap, 1e-300)
    ok = gap > 0
    bars = np.stack([np.minimum(2 * error, 0.9 * gap), 2 * error])
    dress(ax)
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
        label = f"its square falls like $n^{{{f.slope[j]:.2f}}}$"
        ax.plot(n, np.sqrt(line), "-", color=BLUE, lw=1.0, alpha=0.6, label=label)
    ax.set_title(f"{f.name}: {f.verdict.value}", fontsize=10, color=colours[f.verdict])
    ax.set_xlabel("particles n", fontsize=9)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize=8, frameon=False)
