"""Torn pages, two writers of one file, full disks, and numbers that were changed: what became of the runs.

Nothing that was whole may be lost, nothing wrong accepted, nothing left behind, and no process may crash.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from validation import _changes, _disk, _torn, _writers
from validation._children import cases
from validation._runner import Progress, Study, processor

__all__ = ["run"]

HEADLINE = "final results that differ in a bit"
SOURCE = "what the documentation promises"
SHOWN = 400
"""Letters of a case that is printed because it shows a fault."""

Found = list[dict[str, Any]]


def run(quick: bool, progress: Progress) -> Study:
    """Damage, races, full disks."""
    study = Study(
        "Files",
        "Unfinished files of which one page of 4 KiB is zeros, random bytes, or what stood there earlier, as a crash "
        "of the machine leaves them, are loaded, verified and resumed. Two processes write one file, a random delay "
        "apart. Runs write to disks of every size between less than their growing file and more than two copies of it. "
        "And single numbers are changed through HDF5, in finished and unfinished files, for `verify` to find. What "
        "counts as a fault is fixed in the modules of this study, with a table of what is left out and why.",
        quick,
        progress,
    )
    found = _searched(study)
    _pages(study, found["torn pages"])
    _races(study, found["two writers"])
    _disks(study, found["full disks"])
    _numbers(study, found["changed numbers"])
    study.progress(1.0, "")
    return study


def _searched(study: Study) -> dict[str, Found]:
    """What the workers find, several at a time; cases with a fault are printed."""
    within = _namespace()
    searches = {
        "torn pages": ("_torn", 12, 500, ()),
        "changed numbers": ("_changes", 16, 1000, ()),
        "two writers": ("_writers", 9, 100, ()),
        "full disks": ("_disk", 9, 60 if within is not None else 0, within or ()),
    }
    counts = {what: min(few, many) if study.quick else many for what, (_, few, many, _) in searches.items()}
    found: dict[str, Found] = {what: [] for what in searches}

    def search(what: str) -> None:
        module, _, _, command = searches[what]
        if not counts[what]:
            return
        for case in cases(module, 0, counts[what], within=command):
            found[what].append(case)
            study.progress(sum(map(len, found.values())) / sum(counts.values()), "files")
            if case.get("faults") or case.get("said") == "accepted":
                print(f"{what}: {str(case)[:SHOWN]}", file=sys.stderr)

    with ThreadPoolExecutor(max_workers=processor()[1]) as pool:
        list(pool.map(search, searches))
    for what, count in counts.items():
        if count:
            study.claim(f"{what}: tried", "the number that was set", count, len(found[what]))
    return found


def _claims(study: Study, found: Found, what: str, faults: dict[str, str], note: str = "") -> None:
    """No case shows a fault."""
    count = Counter(fault for case in found for fault in case["faults"])
    for fault, says in faults.items():
        study.at_most(f"{len(found)} {what}: {says}", SOURCE, 0, count[fault], note=note)


def _lines(found: Found, key: str, faults: Sequence[str]) -> list[Sequence[str | int]]:
    """For each kind of cases how many there were, how many were without a fault, and how many show each fault."""
    lines: list[Sequence[str | int]] = []
    for kind in dict.fromkeys(case[key] for case in found):
        of_kind = [case for case in found if case[key] == kind]
        count = Counter(fault for case in of_kind for fault in case["faults"])
        well = sum(not case["faults"] for case in of_kind)
        lines.append((kind, len(of_kind), well, *(count[fault] for fault in faults)))
    return lines


def _pages(study: Study, found: Found) -> None:
    _claims(
        study,
        found,
        "torn pages",
        {
            "wrong": "final results that differ in a bit",
            "gave up": "resumed runs that do not reach their end",
            "older": "states older than the newest whole one taken",
            "refused": "files refused that hold a whole state",
            "replaced": "files replaced though they were refused",
            "accepted": "damaged states that verify accepts",
            "crashed": "crashes, tracebacks, and refusals in more than one line",
            "left behind": "files left behind",
        },
        "estimated errors may be missing, and said to be, where nothing is left that they can be computed with",
    )
    without = sum(case["answers"].get("no estimates", False) for case in found)
    study.report(f"{len(found)} torn pages: resumed runs that lack estimated errors", SOURCE, without)
    faults = (*_torn.FAULTS, "left behind")
    study.table(
        "Torn pages",
        ("the run was killed", "pages", "no fault", *faults),
        _lines(found, "file", faults),
        "A page in HDF5's own structures, or in what is written once at the start, may make a file unreadable: then it "
        "is refused in one line and stays as it is. "
        f"{sum(case['answers'].get('head', False) for case in found)} pages were of that kind.",
    )


def _races(study: Study, found: Found) -> None:
    _claims(
        study,
        found,
        "races of two writers",
        {
            "lost": "runs lost that ended with 0",
            "wrong": "files that are no result, or not whole",
            "computed": "processes refused after they had computed",
            "unclear": "refusals without one line that names the other process",
            "crashed": "crashes, tracebacks, other exit codes",
            "nobody": "races in which both were refused",
            "left behind": "races that leave files behind",
        },
    )
    lines = []
    for line in _lines(found, "race", _writers.FAULTS):
        codes = Counter(str(case["codes"]) for case in found if case["race"] == line[0])
        lines.append((*line, ", ".join(f"{n} {which}" for which, n in sorted(codes.items()))))
    study.table(
        "Two writers",
        ("race", "races", "no fault", *_writers.FAULTS, "exit codes"),
        lines,
        "Both may end with 0 where the second begins when the first is done, and goes on from its file, or is asked to "
        "replace it (`-f`), or where the first file was moved.",
    )


def _namespace() -> list[str] | None:
    """A command that gives a process a place to mount small file systems; None where there is none."""
    for words in (["unshare", "--mount"], ["unshare", "--mount", "--map-root-user"]):
        trial = [*words, "sh", "-c", "mount -t tmpfs -o size=64k tmpfs /mnt"]
        try:
            if subprocess.run(trial, capture_output=True, check=False).returncode == 0:
                return words
        except OSError:
            break
    return None


def _disks(study: Study, found: Found) -> None:
    if not found:
        study.report(
            "full disks: sizes tried",
            "the system",
            0,
            note="not done: this system lets nobody mount a small file system",
        )
        return
    _claims(
        study,
        found,
        "sizes of a disk",
        {
            "crashed": "crashes (SIGSEGV), tracebacks, other exit codes",
            "wrong": "final results that differ in a bit",
            "lost": "runs lost of which there was something",
            "unclear": "failures that are not said in one line",
            "no such file": "messages about a file that is not there",
            "left behind": "sizes that leave files behind",
        },
        "what a failure leaves is resumed on a larger disk",
    )
    lines: list[Sequence[str | int]] = []
    for line in _lines(found, "kind", _disk.FAULTS):
        of_kind = [case for case in found if case["kind"] == line[0]]
        low, high = of_kind[0]["sizes"]
        outcomes = Counter(case["outcome"] for case in of_kind)
        said = (outcomes[outcome] for outcome in ("refused", "failed", "success"))
        lines.append((line[0], f"{low // 1024} to {high // 1024}", *said, *line[1:]))
    study.table(
        "Full disks",
        ("run", "KiB", "no new file", "unfinished file", "success", "sizes", "no fault", *_disk.FAULTS),
        lines,
        "File systems in memory (tmpfs) of that size, one for each run.",
    )


def _numbers(study: Study, found: Found) -> None:
    count = Counter(case["said"] if case["said"] in ("accepted", "noticed", "refused") else "unclear" for case in found)
    n = len(found)
    study.at_most(f"{n} changed numbers: accepted by verify", SOURCE, 0, count["accepted"])
    study.at_most(f"{n} changed numbers: tracebacks, and refusals in more than one line", SOURCE, 0, count["unclear"])
    lines: list[Sequence[str | int]] = []
    for name in dict.fromkeys(case["file"] for case in found):
        of_file = Counter(case["said"] for case in found if case["file"] == name)
        lines.append((name, sum(of_file.values()), *(of_file[said] for said in ("refused", "noticed", "accepted"))))
    study.table(
        "Changed numbers",
        ("file", "changes", "refused", "noticed", "accepted"),
        lines,
        "*refused*: the file is not read, in one line. *noticed*: a check of `verify` fails. A change is a flipped "
        "bit, or another value: doubled, halved, of the other sign, the next number, 1e-9 larger, 0, 1, nan, infinite; "
        "in a text another digit, or letter where it has none.",
    )
    study.table("What is not changed", ("what", "why"), _changes.EXCLUDED)
