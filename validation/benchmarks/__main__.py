"""Benchmarks: this package against the machine, and against its peers.

``python -m validation.benchmarks [own|peers|smooth|all] [--quick] [--only NAME ...]`` writes results.json,
RESULTS.md and plots beside this file (with --quick into `quick/`). What was measured before and is not measured now
stays as it is.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from validation.benchmarks import _race, _report, own
from validation.benchmarks._measure import HERE, machine, today
from validation.benchmarks.smooth import race as smooth


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m validation.benchmarks", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", nargs="?", choices=("own", "peers", "smooth", "all"), default="all")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run, not what it costs")
    parser.add_argument(
        "--only", nargs="+", default=(), metavar="NAME", help="parts of own, modules of peers, works of smooth"
    )
    parser.add_argument("--anew", action="store_true", help="smooth: references and the peers' best ways anew")
    parser.add_argument("--report", action="store_true", help="measure nothing, write the table and plots anew")
    parser.add_argument("--output", type=Path, default=None, help="folder for what is written")
    chosen = parser.parse_args(arguments)
    known = {"own": list(own.PARTS), "peers": _race.modules(), "smooth": smooth.works(), "all": []}[chosen.what]
    wrong = [name for name in chosen.only if name not in known]
    if wrong:
        parser.error(f"unknown for {chosen.what}: {', '.join(wrong)}; there are {', '.join(known) or 'none'}")

    folder: Path = chosen.output or (HERE / "quick" if chosen.quick else HERE)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results.json"
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if not chosen.report:
        header = {"schema": 1, "quick": chosen.quick, "date": today(), "machine": machine()}
        # the works of smooth say themselves when they were run, and what was measured before keeps its date
        record = {**header, **record} if chosen.what == "smooth" else {**record, **header}
        began = time.perf_counter()

        def progress(text: str) -> None:
            print(f"[{time.perf_counter() - began:7.1f} s] {text}", file=sys.stderr, flush=True)

        def save() -> None:
            temporary = path.with_suffix(".tmp")
            temporary.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            temporary.replace(path)

        if chosen.what in ("own", "all"):
            before = record.get("own", {}) if chosen.only else {}

            def keep_own(result: dict[str, Any]) -> None:
                seconds = {**before.get("seconds", {}), **result.get("seconds", {})}
                record["own"] = {**before, **result, "seconds": seconds}
                save()

            own.measure(chosen.quick, progress, chosen.only, keep_own)
        if chosen.what in ("peers", "all"):
            earlier = record.get("peers") if chosen.only else None

            def keep_peers(result: dict[str, Any]) -> None:
                record["peers"] = _race.merged(earlier, result)
                save()

            _race.race(chosen.quick, progress, chosen.only, keep_peers, earlier)
        if chosen.what in ("smooth", "all"):

            def keep_smooth(result: dict[str, Any]) -> None:
                record["smooth"] = result
                save()

            smooth.race(chosen.quick, progress, chosen.only, keep_smooth, record.get("smooth"), chosen.anew)
        record["seconds"] = {**record.get("seconds", {}), chosen.what: round(time.perf_counter() - began)}
        save()
    elif not path.exists():
        parser.error(f"{path.name} is not there yet")
    _report.write(folder)
    print(folder / "RESULTS.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
