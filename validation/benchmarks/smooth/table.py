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
MESH_HINDSIGHT = "solve, hindsight"
METHODS = (HINDSIGHT, ESTIMATED, "solve", MESH_HINDSIGHT, *PEERS)
OWN = (HINDSIGHT, ESTIMATED, MESH_HINDSIGHT)
"""Methods of this package whose times are held against the fastest peer's."""
COLOURS = dict(zip(METHODS, ("black", "C3", "C1", "C4", "C0", "C2"), strict=True))
KEYS = [f"{target:.0e}" for target in TARGETS]

INTRODUCTION = (
    f"Processor time of one thread, warm, for the energies at t = {', '.join(f'{t:g}' for t in SAVES)} "
    "to a relative error at all of them; medians of calls that take turns in one process. *In hindsight*: the "
    "cheapest order, mesh or nodes, method, tolerance and first step that are accurate enough, and stay so when "
    "refined, found by trying them against the reference; arrays of the mesh, nodes and tables are there before. "
    "*With estimate*: `mfpde.characteristics` as a user calls it, the accuracy as its tolerance: all its runs, "
    "and the error that it gives with the answer, count; what is made once for a problem (tables) stands beside. "
    "*solve* has its defaults, and its own estimate of the mesh's error counts; at a temperature, where nothing moves "
    "along characteristics, *solve, hindsight* has the best scheme, mesh and tolerance of steps and no estimate. "
    "Peers use unlimited central differences of order 2, 4, 6 and 8 on the box that is as narrow as the accuracy "
    "allows, with the kernel by few modes: diffrax with Tsit5, Dopri5 and Dopri8, SciPy with DOP853, RK45 and LSODA. "
    "*Least density* is the most negative value at these times, relative to the maximum."
)


def section(works: Mapping[str, Any], figures: Mapping[str, str]) -> list[str]:
    """The lines of the report."""
    lines = [INTRODUCTION, "", *_summary(works)]
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


def _summary(works: Mapping[str, Any]) -> list[str]:
    """The fastest peer's time over the best of ours in hindsight, all works in one table."""
    rows = []
    for name, record in works.items():
        if "failed" not in record:
            raced = any(MESH_HINDSIGHT in record["curve"][key] for key in KEYS)
            own = MESH_HINDSIGHT if raced else HINDSIGHT  # the mesh is raced where nothing moves along characteristics
            rows.append([name, own, *(_said(ratio(record, key, own)) for key in KEYS)])
    if not rows:
        return []
    return ["Time of the fastest peer over ours in hindsight:", "", *table(["", "ours", *KEYS], rows), ""]


def _said(found: tuple[float, str] | None) -> str:
    return "-" if found is None else f"{found[0]:.2g} ({found[1]})"


def _circumstances(record: Mapping[str, Any]) -> str:
    said = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    quick = " **Quick settings: too few meshes to conclude from.**" if record["quick"] else ""
    return f"Measured {record['date']}, load at the start {record['load_at_start']}; {said}.{quick}"


def _reference(held: Mapping[str, Any]) -> str:
    coarse, fine = held["sizes"]
    known = held["package_estimate"]
    estimate = "" if known is None else f" (error estimate {known:.0e})"
    return (
        f"Reference: signed central differences of order eight, DOP853, {fine} cells an axis, "
        f"E({SAVES[-1]:g}) = {held['energy'][-1]:.12g}; from {coarse} cells an axis it differs by "
        f"{held['meshes_differ']:.0e}, from {held['package']}{estimate} by {held['package_differs']:.0e}."
    )


def _others(record: Mapping[str, Any]) -> list[str]:
    """What a density and a reference cost, where that was measured."""
    said = []
    if "density" in record:
        density = record["density"]
        said.append(
            f"`Characteristics.density` on {density['cells']} cells an axis at t = {SAVES[-1]:g}: "
            f"{seconds(density['seconds'])} s, the first time {seconds(density['first'])} s, error "
            f"{number(density['error'])} in L1 (distance from signed differences on {density['lines']} cells an axis: "
            f"{number(density['apart'])})."
        )
    if "certified" in record:
        certified = record["certified"]
        said.append(
            f"`mf.reference` of the last energy to {certified['tolerance']:.0e}, both checks included, the second "
            f"time: {seconds(certified['seconds'])} s, bar {number(certified['bar'])}, error "
            f"{number(certified['error'])}."
        )
    return [" ".join(said), ""] if said else []


def _times(record: Mapping[str, Any]) -> list[str]:
    rows = []
    for method in METHODS:
        found = [record["curve"][key].get(method) for key in KEYS]
        if method not in PEERS and not any(found):
            continue
        known = [one for one in found if one]
        least = min((one["minimum"] for one in known), default=None)
        ways = "; ".join(f"{key}: {one['way']}" for key, one in zip(KEYS, found, strict=True) if one)
        if method == ESTIMATED:
            ways = "; ".join(
                f"{key}: error {one['error']:.0e}, estimate {one['estimate']:.0e}"
                for key, one in zip(KEYS, found, strict=True)
                if one
            )
        label = f"**{method}**" if method in OWN else method
        rows.append([label, *(seconds(one["seconds"]) if one else "-" for one in found), number(least), ways])
        if method == ESTIMATED:
            tables = record["tables"]
            rows.append(
                ["tables, once a problem", *(seconds(tables[key]) if key in tables else "-" for key in KEYS), "", ""]
            )
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
    for own in OWN:
        found = [ratio(record, key, own) for key in KEYS]
        if any(found):
            rows.append([own, *map(_said, found)])
    if not rows:
        return []
    return ["Time of the fastest peer over ours:", "", *table(["", *KEYS], rows)]


def plots(works: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Error against processor time, a picture a work: ``file -> caption``."""
    import matplotlib.pyplot as plt

    figures: dict[str, str] = {}
    for name, record in works.items():
        if "failed" in record:
            continue
        figure, axes = plt.subplots(figsize=(7.5, 4.8), layout="constrained")
        for method in METHODS:
            colour = COLOURS[method]
            tried = record["points"].get(method, {"seconds": [], "errors": []})
            axes.plot(tried["seconds"], tried["errors"], ".", color=colour, alpha=0.25, markersize=4)
            best = [record["curve"][key][method] for key in KEYS if method in record["curve"][key]]
            best = [one for one in best if one["error"] > 0]
            if not best:
                continue
            axes.plot(
                [one["seconds"] for one in best],
                [one["error"] for one in best],
                marker="o",
                color=colour,
                linewidth=2.2 if method in OWN else 1.2,
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
