"""What is kept of a case, where its bits count, and how it is compared."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding
import numba
import numpy as np
import scipy
import scipy.linalg  # brings the BLAS that it has of its own
import threadpoolctl

PATH = Path(__file__).parent.parent / "golden.json"

FIXED = 1e-11
"""How far numbers may be from recorded ones on another machine, relative to the largest of their kind: the steps are
the same there, and every operation rounds otherwise at most."""
ADAPTIVE = 1e-7
"""The same where steps, nodes or iterations follow estimates of errors: rounding may decide for one more of them."""


def environment() -> dict[str, str]:
    """What the bits of a result depend on besides the code.

    The processor, as it names itself and as the compiler sees it; the packages that compute; the library behind matrix
    products, and which of its kernels it chose; and the C library, whose functions `math` calls.
    """
    features = ",".join(sorted(name for name, has in llvmlite.binding.get_host_cpu_features().items() if has))
    forced = numba.config.CPU_NAME, numba.config.CPU_FEATURES, str(numba.config.DISABLE_JIT)
    compiled_for = ";".join([llvmlite.binding.get_host_cpu_name(), features, *map(str, forced)])
    numpy_dispatch = np.show_config(mode="dicts")["SIMD Extensions"]  # type: ignore[index, call-overload]
    blas = {
        f"{library['internal_api']} {library['version']} {library.get('architecture', '')}"
        for library in threadpoolctl.threadpool_info()
        if library["user_api"] == "blas"
    }
    return {
        "processor": _processor(),
        "compiled for": f"{llvmlite.binding.get_host_cpu_name()} {_digest(compiled_for)}",
        "numpy's instructions": _digest(json.dumps(numpy_dispatch, sort_keys=True)),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "BLAS": ", ".join(sorted(blas)),
        "C library": " ".join(platform.libc_ver()),
    }


def _processor() -> str:
    """The processor's model, as the system names it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Outcome:
    """What is kept of a case.

    Attributes
    ----------
    tolerance : float
        How near `numbers` have to be on another machine.
    bits : dict of str
        SHA-256 of arrays.
    numbers : dict of list of float
        Energies, moments and the like. Each list is compared relative to its own largest number.
    """

    tolerance: float
    bits: dict[str, str]
    numbers: dict[str, list[float]]

    @staticmethod
    def of(tolerance: float, arrays: Mapping[str, Any], numbers: Mapping[str, Sequence[float]]) -> Outcome:
        """Of the arrays whose bits count, and of the numbers that are compared elsewhere."""
        for name, values in numbers.items():
            if not all(map(math.isfinite, values)):
                raise ValueError(f"{name} is not finite: {list(values)}")
        return Outcome(
            tolerance,
            {name: sha256(values) for name, values in arrays.items()},
            {name: [float(value) for value in values] for name, values in numbers.items()},
        )


def sha256(values: Any) -> str:
    """Of the shape and the bytes of float64 numbers in C order; -0.0 counts as 0.0, and one NaN as another."""
    array = np.array(values, dtype=np.float64, order="C")
    array += 0.0  # which makes 0.0 of -0.0
    array[np.isnan(array)] = np.nan
    return hashlib.sha256(repr(array.shape).encode() + array.tobytes()).hexdigest()


def differences(found: Outcome | None, recorded: Outcome | None, bits: bool) -> list[str]:
    """In what a case differs from the record, a line each; compared bit for bit or, elsewhere, to its tolerance."""
    if recorded is None:
        return ["the record does not have this case; record it: python -m tests.golden --record"]
    if found is None:
        return ["no such case any more; record without it: python -m tests.golden --record"]
    said = []
    for kind in ("bits", "numbers"):
        has, had = getattr(found, kind).keys(), getattr(recorded, kind).keys()
        said += [f"{name} ({kind}) is not recorded" for name in sorted(has - had)]
        said += [f"{name} ({kind}) is recorded, but not computed" for name in sorted(had - has)]
    if found.tolerance != recorded.tolerance:
        said.append(f"its tolerance is {found.tolerance:g}, recorded {recorded.tolerance:g}")
    if bits:
        for name, digest in found.bits.items():
            if recorded.bits.get(name, digest) != digest:
                said.append(f"the bits of {name} differ")
    limit = 0.0 if bits else recorded.tolerance
    for name, values in found.numbers.items():
        apart = distance(values, recorded.numbers.get(name, values))
        if not apart <= limit:
            said.append(f"{name} differs by {apart:.2g}, relative to its largest; recorded {recorded.numbers[name]}")
            said[-1] += f", found {values}"
    return said


def distance(values: Sequence[float], recorded: Sequence[float]) -> float:
    """The largest difference, relative to the largest recorded number; infinite where there are not as many."""
    if len(values) != len(recorded):
        return math.inf
    apart = max((abs(a - b) for a, b in zip(values, recorded, strict=True)), default=0.0)
    return apart / max(map(abs, recorded)) if apart else 0.0


@dataclass(frozen=True)
class Record:
    """All cases, and where they were computed."""

    environment: dict[str, str]
    cases: dict[str, Outcome]

    def write(self, path: Path) -> None:
        """As JSON in the order of names, a case a block and what belongs to it a line each: easy to compare."""
        blocks = []
        for name, case in sorted(self.cases.items()):
            lines = [f'"tolerance": {json.dumps(case.tolerance)}']
            lines += [f'"bits of {key}": {json.dumps(value)}' for key, value in sorted(case.bits.items())]
            lines += [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in sorted(case.numbers.items())]
            blocks.append(f"{json.dumps(name)}: {{\n  " + ",\n  ".join(lines) + "\n}")
        where = json.dumps(self.environment, indent=2)
        path.write_text(f'{{\n"environment": {where},\n"cases": {{\n' + ",\n".join(blocks) + "\n}\n}\n")

    @staticmethod
    def read(path: Path) -> Record:
        """What `write` wrote."""
        tables = json.loads(path.read_text())
        cases = {}
        for name, table in tables["cases"].items():
            tolerance = table.pop("tolerance")
            bits = {key.removeprefix("bits of "): table[key] for key in table if key.startswith("bits of ")}
            numbers = {key: table[key] for key in table if not key.startswith("bits of ")}
            cases[name] = Outcome(tolerance, bits, numbers)
        return Record(tables["environment"], cases)
