"""What RESULTS.md says of the race on smooth problems, and its plots."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from validation.benchmarks._marks import number, saved, seconds, table
from validation.benchmarks.smooth.choice import SAVES, TARGETS

__all__ = ["PEERS", "plots", "section"]

HINDSIGHT, ESTIMATED = "characteristics, hindsight", "characteristics, with estimate"
PEERS = ("diffrax", "SciPy")
METHODS = (HINDSIGHT, ESTIMATED, "solve", *PEERS)
KEYS = [f"{target:.0e}" for target in TARGETS]

INTRODUCTION = (
    f"Processor time of one thread, warm, for the energies at t = {', '.join(f'{t:g}' for t in SAVES)} "
    "to a relative error at all of them; medians of calls that take turns in one process. *In hindsight*: the "
    "cheapest order, mesh or nodes, method, tolerance and first step that are accurate enough, and stay so when "
    "refined, found by trying them against the reference; arrays of the mesh, nodes and tables are there before. "
    "*With estimate*: `mfpde.characteristics` as a user calls it, the accuracy as its tolerance: all its runs, "
    "and the error that it gives with the answer, count; what is made once for a problem (tables) stands beside. "
    "*solve* has its defaults, and its own estimate of the mesh's error counts. "
    "Peers use unlimited central differences of order 2, 4, 6 and 8 with the kernel by few modes: diffrax with "
    "Tsit5, Dopri5 and Dopri8, SciPy with DOP853, RK45 and LSODA. *Least density* is their most negative value at "
    "these times, relative to the maximum."
)


def section(works: Mapping[str, Any], figures: Mapping[str, str]) -> list[str]:
    """The lines of the report."""
    lines = [INTRODUCTION, ""]
    for name, record in works.items():
        lines += [f"### {name}", ""]
        if "failed" in record:
            lines += [f"Failed: {record['failed']}", ""]
            continue
        file = _picture(name)
        if file in figures:
            lines += [f"![{figures[file]}]({file})", ""]
        lines += [
            _reference(record["reference"]),
            "",
            _circumstances(record),
            "",
            *_times(record),
            "",
            *_ratios(record),
            "",
            *_others(record),
        ]
    return lines


def _circumstances(record: Mapping[str, Any]) -> str:
    said = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    quick = " **Quick settings: too few meshes to conclude from.**" if record["quick"] else ""
    return f"Measured {record['date']}, load at the start {record['load_at_start']}; {said}.{quick}"


def _reference(held: Mapping[str, Any]) -> str:
    coarse, fine = held["sizes"]
    return (
        f"Reference: signed central differences of order eight, DOP853 at 1e-13, {fine} cells an axis, "
        f"E({SAVES[-1]:g}) = {held['energy'][-1]:.12g}; from {coarse} cells an axis it differs by "
        f"{held['meshes_differ']:.0e}, from the characteristics of this package (error estimate "
        f"{held['characteristics_estimate']:.0e}) by {held['characteristics_differ']:.0e}."
    )


def _others(record: Mapping[str, Any]) -> list[str]:
    """What a density and a reference cost, where that was measured."""
    if not {"density", "certified"} <= record.keys():
        return []
    density, certified = record["density"], record["certified"]
    said = (
        f"`Characteristics.density` on {density['cells']} cells an axis at t = {SAVES[-1]:g}: "
        f"{seconds(density['seconds'])} s, the first time {seconds(density['first'])} s, error "
        f"{number(density['error'])} in L1 (distance from signed differences on {density['lines']} cells an axis: "
        f"{number(density['apart'])}). `mf.reference` of the last energy to {certified['tolerance']:.0e}, both "
        f"checks included, the second time: {seconds(certified['seconds'])} s, bar {number(certified['bar'])}, error "
        f"{number(certified['error'])}."
    )
    return [said, ""]


def _times(record: Mapping[str, Any]) -> list[str]:
    rows = []
    for method in METHODS:
        found = [record["curve"][key].get(method) for key in KEYS]
        known = [one for one in found if one]
        least = min((one["minimum"] for one in known), default=None)
        ways = "; ".join(f"{key}: {one['way']}" for key, one in zip(KEYS, found, strict=True) if one)
        if method == ESTIMATED:
            ways = "; ".join(
                f"{key}: error {one['error']:.0e}, estimate {one['estimate']:.0e}"
                for key, one in zip(KEYS, found, strict=True)
                if one
            )
        label = f"**{method}**" if method in (HINDSIGHT, ESTIMATED) else method
        rows.append([label, *(seconds(one["seconds"]) if one else "-" for one in found), number(least), ways])
        if method == ESTIMATED:
            rows.append(["tables, once a problem", *(seconds(record["tables"][key]) for key in KEYS), "", ""])
    return table(["seconds", *KEYS, "least density", "how"], rows)


def ratio(record: Mapping[str, Any], key: str, own: str) -> tuple[float, str] | None:
    """The fastest peer's time over that of a method of ours, and the peer; None where one does not get there."""
    found = record["curve"][key]
    peers = [(found[peer]["seconds"], peer) for peer in PEERS if peer in found]
    if own not in found or not peers:
        return None
    fastest, peer = min(peers)
    return fastest / found[own]["seconds"], peer


def _ratios(record: Mapping[str, Any]) -> list[str]:
    rows = []
    for own in (HINDSIGHT, ESTIMATED):
        found = [ratio(record, key, own) for key in KEYS]
        rows.append([own, *("-" if one is None else f"{one[0]:.2g} ({one[1]})" for one in found)])
    return ["Time of the fastest peer over ours:", "", *table(["", *KEYS], rows)]


def plots(works: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Error against processor time, a picture a work: ``file -> caption``."""
    import matplotlib.pyplot as plt

    figures: dict[str, str] = {}
    for name, record in works.items():
        if "failed" in record:
            continue
        figure, axes = plt.subplots(figsize=(7.5, 4.8), layout="constrained")
        for k, method in enumerate(METHODS):
            own = method in (HINDSIGHT, ESTIMATED)
            colour = ("black", "C3", "C1", "C0", "C2")[k]
            tried = record["points"].get(method, {"seconds": [], "errors": []})
            axes.plot(tried["seconds"], tried["errors"], ".", color=colour, alpha=0.25, markersize=4)
            best = [record["curve"][key][method] for key in KEYS if method in record["curve"][key]]
            best = [one for one in best if one["error"] > 0]
            axes.plot(
                [one["seconds"] for one in best],
                [one["error"] for one in best],
                marker="o",
                color=colour,
                linewidth=2.2 if own else 1.2,
                label=method,
            )
        for target in TARGETS:
            axes.axhline(target, color="0.85", linewidth=0.8, zorder=0)
        axes.set(
            xscale="log", yscale="log", xlabel="processor time, s", ylabel="largest relative error of the energies"
        )
        axes.set_title(name)
        axes.legend(fontsize=8)
        file = _picture(name)
        saved(figure, folder / file)
        figures[file] = f"Error of the energy curve against processor time, {name}"
    return figures


def _picture(name: str) -> str:
    return f"smooth--{name}.png"
