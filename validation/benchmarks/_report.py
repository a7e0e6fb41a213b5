"""RESULTS.md and the plots, from results.json alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from validation.benchmarks._marks import number, saved, seconds, table
from validation.benchmarks._race import TARGETS, time_to
from validation.benchmarks.smooth import table as smooth_table

__all__ = ["summary", "write"]

OWN = "mesh_here"
OUTSIDE = (OWN, "nodes_here")
"""What the fastest peer is not sought among."""
CLEAN_MASS = 1e-10
"""Error of the mass up to which a rung counts as conservative."""


def write(folder: Path) -> None:
    """Write RESULTS.md and the PNGs beside results.json."""
    record = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    figures = _plots(record, folder)
    (folder / "RESULTS.md").write_text(_markdown(record, figures), encoding="utf-8")


# ---------------------------------------------------------------------------------------------------------------------
# peers
# ---------------------------------------------------------------------------------------------------------------------


def _ladders(peer: Mapping[str, Any], limit: float, clean: bool = False) -> dict[str, list[dict[str, Any]]]:
    """The rungs of each variant that ended within the limit; `clean`: that also kept sign and mass."""
    ladders: dict[str, list[dict[str, Any]]] = {}
    for rung in peer["rungs"]:
        if rung["warm"] <= limit and (not clean or (rung["minimum"] >= 0 and rung["mass"] <= CLEAN_MASS)):
            ladders.setdefault(rung["variant"], []).append(rung)
    return ladders


def summary(peer: Mapping[str, Any], limit: float, clean: bool = False) -> dict[str, Any]:
    """The best variant of a peer for each accuracy, and what it is worth at all."""
    ladders = _ladders(peer, limit, clean)
    best: dict[str, Any] = {}
    for target in TARGETS:
        found = [(time_to(rungs, target), name) for name, rungs in ladders.items()]
        reached = [(time[0], time[1], name) for time, name in found if time is not None]
        best[f"{target:.0e}"] = min(reached) if reached else None
    errors = [r["error"] for rungs in ladders.values() for r in rungs if r["error"] is not None]
    return {"times": best, "least_error": min(errors, default=None)}


def _peer_tables(race: Mapping[str, Any]) -> list[str]:
    limit = race["limit"]
    lines = [
        f"A rung may take {limit:g} s. Times are warm medians in seconds, from the numbers of the problem to the "
        "energy (mfpde: the problem is built before; diffrax and py-pde: the arrays of the mesh), with whatever "
        "threads each package takes by default. `<` stands where already the coarsest rung of the ladder is that "
        "accurate, a dash where no rung within the limit is. In between, times are interpolated in logarithms between "
        "neighbouring rungs of one ladder, never beyond. *Least minimum* is that of the final density relative to its "
        "maximum, over the rungs of the variants named; *mass* the largest error there. *Once* is what the first call "
        "takes more than a warm one (compiling), *import* the import beyond NumPy and mfpde, which are "
        "loaded already (for mfpde see *First runs*), both in seconds.",
        "",
    ]
    for work, entry in race["works"].items():
        reference = entry["reference"]
        lines += [
            f"### {work}",
            "",
            f"Reference along characteristics: E(2) = {reference['energy']:.10g} from E(0) = "
            f"{reference['initial']:.6g}, error estimate {reference['error_estimate']:.0e}.",
            "",
        ]
        header = [
            "",
            *(f"{t:.0e}" for t in TARGETS),
            "variants",
            "least error",
            "least minimum",
            "mass",
            "import",
            "once",
        ]
        rows = []
        for peer in entry["peers"]:
            name = peer.get("name", peer["module"])
            if "unavailable" in peer:
                rows.append([name, *["not run"] * len(TARGETS), peer["unavailable"], "", "", "", "", ""])
                continue
            found = summary(peer, limit)
            cells, used = [], []
            for target in TARGETS:
                best = found["times"][f"{target:.0e}"]
                cells.append("-" if best is None else ("< " if best[1] else "") + seconds(best[0]))
                if best is not None and best[2] not in used:
                    used.append(best[2])
            rungs = [r for r in peer["rungs"] if not used or r["variant"] in used]
            rows.append(
                [
                    f"**{name}**" if peer["module"] == OWN else name,
                    *cells,
                    "; ".join(used),
                    number(found["least_error"]),
                    number(min((r["minimum"] for r in rungs), default=None)) if peer["samples"] == 1 else "",
                    number(max((r["mass"] for r in rungs), default=None)) if peer["samples"] == 1 else "",
                    seconds(peer.get("imported")),
                    seconds(max((r["once"] for r in rungs), default=None)),
                ]
            )
        lines += [*table(header, rows), ""]
        lines += _ratios(entry, limit)
        ended = [
            f"{p.get('name', p['module'])}, {e.get('variant', '')}, {e.get('rung', '')}: "
            + ("over the limit" if e["event"] == "limit" else e.get("why", ""))
            for p in entry["peers"]
            for e in p["ended"]
        ]
        if ended:
            lines += ["Ladders that ended early: " + "; ".join(ended) + ".", ""]
    seen: dict[str, Mapping[str, Any]] = {}
    for entry in race["works"].values():
        for peer in entry["peers"]:
            if "name" in peer:
                seen.setdefault(peer["name"], peer)
    rows = [
        [name, ", ".join(f"{k} {v}" for k, v in peer["versions"].items()), peer["method"], peer["lacks"]]
        for name, peer in seen.items()
    ]
    lines += ["### How each was used, and what it does not guarantee", ""]
    lines += [*table(["", "versions", "use", "not guaranteed"], rows), ""]
    return lines


def _ratios(entry: Mapping[str, Any], limit: float) -> list[str]:
    own = next((p for p in entry["peers"] if p["module"] == OWN and "name" in p), None)
    others = [p for p in entry["peers"] if p["module"] not in OUTSIDE and "name" in p]
    if own is None or not others:
        return []
    lines = []
    for clean, title in (
        (False, "Time of the fastest peer over that of mfpde"),
        (True, f"The same among rungs whose final density is nowhere negative and has its mass to {CLEAN_MASS:.0e}"),
    ):
        parts = []
        for target in TARGETS:
            key = f"{target:.0e}"
            mine = summary(own, limit, clean)["times"][key]
            theirs = [
                (best[0], f"{peer['name']}, {best[2]}")
                for peer in others
                if (best := summary(peer, limit, clean)["times"][key]) is not None
            ]
            if mine is None:
                parts.append(f"{key}: not reached here" + ("" if theirs else ", nor by a peer"))
            elif not theirs:
                parts.append(f"{key}: no peer reaches it")
            else:
                fastest, name = min(theirs)
                parts.append(f"{key}: {fastest / mine[0]:.2g} x ({name})")
        lines += [f"{title}: " + "; ".join(parts) + ".", ""]
    return lines


# ---------------------------------------------------------------------------------------------------------------------
# own
# ---------------------------------------------------------------------------------------------------------------------


def _own_tables(own: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []

    def part(name: str, title: str) -> Any:
        value = own.get(name)
        if value is None:
            return None
        lines.extend([f"### {title}", ""])
        if isinstance(value, dict) and "failed" in value:
            lines.extend([f"Failed: {value['failed']}", ""])
            return None
        return value

    rows = part("runs", "Runs")
    if rows:
        lines += [
            "Wall times are warm medians. A triad on arrays of the mesh (24 bytes a cell) for each evaluation of the "
            "potential is the bound of which *of bound* is the fraction. *Sweeps* and *non-local* are the parts alone, "
            "times their calls; *Python* is the stepper's time on a mesh of 8 cells an axis, the parts taken out; "
            "*rest* is what remains: reaction, stage arithmetic, diagnostics (and the noise of the others).",
            "",
        ]
        header = ["problem", "scheme", "mesh", "error", "wall, s", "steps", "ms a step", "Mcells/s", "of bound"]
        header += ["non-local", "sweeps", "Python", "rest", "peak MB", "B/cell"]
        body = []
        for row in rows:
            split = row["split"]
            shares = (
                ["?"] * 4
                if "unavailable" in split
                else [
                    f"{100 * split[k] / row['wall']:.0f} %"
                    for k in ("non_local", "sweeps", "python", "reaction_and_stages")
                ]
            )
            body.append(
                [
                    row["problem"],
                    row["scheme"],
                    _by(row["shape"]),
                    number(row["error"]),
                    seconds(row["wall"]),
                    row["steps"],
                    f"{1e3 * row['step']:.3g}",
                    f"{row['cells_per_second'] / 1e6:.3g}",
                    f"{row['fraction_of_bound']:.3f}",
                    *shares,
                    f"{row['peak_bytes'] / 1e6:.3g}",
                    f"{row['bytes_per_cell']:.0f}",
                ]
            )
        lines += [*table(header, body), ""]
    value = part("sweeps", "Sweeps against the triad")
    if value:
        lines += [
            f"One evaluation of all fluxes and their divergence, {value['threads']} threads; Weno5 with its positivity "
            f"limiter, speeds known, is what a step uses; *outflow* finds them, and the largest. Flop "
            f"bound: an estimated {value['flops_of_a_face']} operations a cell and axis at the measured "
            f"{value['flops'] / 1e9:.0f} Gflop/s.",
            "",
        ]
        header = [
            "mesh",
            "scheme",
            "ms",
            "triad, ms",
            "GB/s",
            "triads",
            "limit",
            "per axis / 2-D",
            "Mcells/s",
            "of flop bound",
        ]
        body = [
            [
                _by(r["shape"]),
                r["scheme"],
                f"{1e3 * r['seconds']:.3g}",
                f"{1e3 * r['triad']:.3g}",
                f"{r['bandwidth'] / 1e9:.1f}",
                f"{r['ratio']:.2f}",
                r["limit"] or "",
                f"{r['per_axis_of_2d']:.2f}",
                f"{r['cells_per_second'] / 1e6:.3g}",
                "" if r["fraction_of_flop_bound"] is None else f"{r['fraction_of_flop_bound']:.2f}",
            ]
            for r in value["rows"]
        ]
        lines += [*table(header, body), ""]
    value = part("linearity", "Time of a step against cells")
    if value:
        cells = next(iter(value.values()))["cells"]
        header = ["path", *(f"{c:.1e}" for c in cells), "exponent", "limit"]
        body = [
            [name, *(seconds(t) for t in entry["step"]), f"{entry['exponent']:.3f}", entry["limit"]]
            for name, entry in value.items()
        ]
        lines += ["Seconds a step.", "", *table(header, body), ""]
    value = part("data", "Size of the data set")
    if value:
        header = ["samples", "rank", "set-up, s", "peak MB", "data MB", "features N x M would be, MB", "ms a step"]
        body = [
            [
                r["samples"],
                r["rank"],
                seconds(r["setup"]),
                f"{r['peak_bytes'] / 1e6:.0f}",
                f"{r['data_bytes'] / 1e6:.3g}",
                f"{r['features_bytes'] / 1e6:.3g}",
                f"{1e3 * r['step']:.3g}",
            ]
            if "failed" not in r
            else [r["failed"], "", "", "", "", "", ""]
            for r in value["rows"]
        ]
        lines += [f"tanh network on (c, a, b), {value['cells']} cells.", "", *table(header, body), ""]
        if value["ratio"] is not None:
            lines += [f"Time of a step, most over fewest samples: {value['ratio']:.2f} (limit {value['limit']}).", ""]
    value = part("three_gaussians", "three-gaussians")
    if value:
        lines += [
            f"To t = {value['t_end']:g} at {_by(value['shape'])}: {value['wall']:.3g} s (limit {value['limit']:g}), "
            f"{value['steps']} steps, E = {value['energy']:.8g}; characteristics {value['reference']:.8g} (error "
            f"estimate {value['reference_error']:.0e}), relative error {value['error']:.1e}, relative to E(0) "
            f"{value['error_of_initial']:.1e}.",
            "",
        ]
        if value["reference_warnings"]:
            lines += ["The reference warned: " + "; ".join(value["reference_warnings"]), ""]
    rows = part("compiling", "First runs")
    if rows:
        header = ["scheme", "mesh", "import, s", "cold, s", "limit", "from cache, s", "limit", "warm, s"]
        body = [
            [r["scheme"], f"{r['cells']}^2", "", r["cold"].get("failed", r["cached"].get("failed", "")), "", "", "", ""]
            if "failed" in r["cold"] or "failed" in r["cached"]
            else [
                r["scheme"],
                f"{r['cells']}^2",
                seconds(r["cached"]["import"]),
                seconds(r["cold"]["first"]),
                10,
                seconds(r["cached"]["first"]),
                1,
                seconds(r["cached"]["second"]),
            ]
            for r in rows
        ]
        lines += [*table(header, body), ""]
    rows = part("memory", "Memory")
    if rows:
        header = ["mesh", "cells", "bytes a cell", "10^8 cells, GiB", "limit"]
        body = [
            [_by(r["shape"]), r.get("cells", ""), r.get("failed", ""), "", ""]
            if "bytes_per_cell" not in r
            else [
                _by(r["shape"]),
                r["cells"],
                f"{r['bytes_per_cell']:.0f}",
                f"{r['gib_for_1e8']:.1f}",
                24 if len(r["shape"]) == 4 else "",
            ]
            for r in rows
        ]
        lines += ["Growth of the resident size of a process during a run of three steps, two frames saved.", ""]
        lines += [*table(header, body), ""]
    return lines


# ---------------------------------------------------------------------------------------------------------------------
# pieces
# ---------------------------------------------------------------------------------------------------------------------


def _markdown(record: Mapping[str, Any], figures: Mapping[str, str]) -> str:
    machine = record["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    lines = ["# Benchmarks", "", "Generated by `python -m validation.benchmarks`; do not edit.", ""]
    lines += [
        f"{machine['cores']} cores of {machine['processor']}, {machine['memory_gib']} GiB, {machine['system']}; "
        f"{versions}; {machine['threads']} threads; load at the start {machine['load_at_start']}; {record['date']}."
        + (" **Quick settings: sizes and repeats are too small to conclude from.**" if record["quick"] else ""),
        "",
    ]
    if "peers" in record:
        lines += ["## Peers: time to an accuracy", ""]
        for name, caption in figures.items():
            if name.startswith("peers"):
                lines += [f"![{caption}]({name})", ""]
        lines += _peer_tables(record["peers"])
    if "smooth" in record:
        lines += ["## Smooth problems: the race to an accuracy", ""]
        lines += smooth_table.section(record["smooth"], figures)
    if "own" in record:
        lines += ["## This package and the machine", ""]
        for name, caption in figures.items():
            if name.startswith("own"):
                lines += [f"![{caption}]({name})", ""]
        lines += _own_tables(record["own"])
    return "\n".join(lines).rstrip() + "\n"


def _by(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape) if len(set(shape)) > 1 or len(shape) == 1 else f"{shape[0]}^{len(shape)}"


def _plots(record: Mapping[str, Any], folder: Path) -> dict[str, str]:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figures: dict[str, str] = {}
    if "peers" in record:
        for work, entry in record["peers"]["works"].items():
            figure, axes = plt.subplots(figsize=(8.5, 5.0), layout="constrained")
            names = [p["name"] for p in entry["peers"] if "name" in p]
            for peer in entry["peers"]:
                if "name" not in peer:
                    continue
                colour = "black" if peer["module"] == OWN else f"C{names.index(peer['name']) % 10}"
                for k, (variant, rungs) in enumerate(_ladders(peer, record["peers"]["limit"]).items()):
                    known = [r for r in rungs if r["error"]]
                    axes.loglog(
                        [r["warm"] for r in known],
                        [r["error"] for r in known],
                        marker="osv^Dx"[k % 6],
                        linestyle=("-", "--", ":", "-.")[k % 4],
                        color=colour,
                        linewidth=2.2 if peer["module"] == OWN else 1.0,
                        markersize=4,
                        label=f"{peer['name']}: {variant}",
                    )
            for target in TARGETS:
                axes.axhline(target, color="0.85", linewidth=0.8, zorder=0)
            axes.set_xlabel("warm time, s")
            axes.set_ylabel("relative error of the energy at t = 2")
            axes.set_title(work)
            axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5))
            name = f"peers--{work}.png"
            saved(figure, folder / name)
            figures[name] = f"Accuracy against cost, {work}"
    figures |= smooth_table.plots(record.get("smooth", {}), folder)
    runs = record.get("own", {}).get("runs")
    if isinstance(runs, list):
        usable = [r for r in runs if "unavailable" not in r["split"]]
        if usable:
            figure, axes = plt.subplots(figsize=(8.5, 0.6 + 0.35 * len(usable)), layout="constrained")
            left = [0.0] * len(usable)
            labels = [f"{r['problem']}, {r['scheme']}, {_by(r['shape'])}" for r in usable]
            keys = {"non_local": "non-local", "sweeps": "sweeps", "python": "Python", "reaction_and_stages": "rest"}
            for key, label in keys.items():
                widths = [max(r["split"][key], 0.0) / r["wall"] for r in usable]
                axes.barh(labels, widths, left=left, label=label)
                left = [a + b for a, b in zip(left, widths, strict=True)]
            axes.invert_yaxis()
            axes.set_xlabel("share of the wall time")
            axes.legend(fontsize=7, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
            axes.tick_params(labelsize=7)
            saved(figure, folder / "own--split.png")
            figures["own--split.png"] = "Where the time goes"
    linear = record.get("own", {}).get("linearity")
    if isinstance(linear, dict) and "failed" not in linear:
        figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
        for name, entry in linear.items():
            axes.loglog(entry["cells"], entry["step"], "o-", label=f"{name}, exponent {entry['exponent']:.2f}")
        axes.set_xlabel("cells")
        axes.set_ylabel("time of a step, s")
        axes.legend(fontsize=8)
        saved(figure, folder / "own--linearity.png")
        figures["own--linearity.png"] = "Time of a step against cells"
    return figures
