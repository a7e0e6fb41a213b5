"""Break the code one place at a time and see which breaks no test notices.

    python tests/mutation.py --kept mfpde/mesh --workers 2
    python tests/mutation.py mfpde/mesh/reaction.py tests/mesh/test_reaction.py --sample 40
    python tests/mutation.py mfpde/mesh/compiled/faces.py tests/mesh/test_transport.py -k reference --interpreted

With ``--kept`` the breaks are those of ``mutants.toml``, each with the tests that are to see it. Otherwise every place
of a module is one: an operator, a comparison, a number, ``and`` for ``or``, ``min`` for ``max``. Each is made in a copy
of the repository. What survives is printed; it is a hole in the tests, or code that makes no difference.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KEPT = Path(__file__).with_name("mutants.toml")
PYTEST = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
SWAPS: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
NAMES = {"min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum", "exp": "expm1", "expm1": "exp"}


def places(tree: ast.Module) -> Iterator[ast.AST]:
    """The nodes that can be broken: in the bodies of functions, outside errors, annotations and texts."""
    for function in ast.walk(tree):
        if isinstance(function, (ast.FunctionDef, ast.Lambda)):
            body = function.body if isinstance(function.body, list) else [function.body]
            for statement in body:
                yield from _within(statement)


def _within(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(
        node, (ast.Raise, ast.Assert, ast.FunctionDef, ast.JoinedStr, ast.Lambda, ast.Import, ast.ImportFrom)
    ):
        return
    if isinstance(node, ast.AnnAssign):
        if node.value is not None:
            yield from _within(node.value)
        return
    if broken(node):
        yield node
    for child in ast.iter_child_nodes(node):
        yield from _within(child)


def broken(node: ast.AST) -> bool:
    """Break a copy of a node to see whether that can be done."""
    return mutate(copy.deepcopy(node))


def mutate(node: ast.AST) -> bool:
    """Break a node in place."""
    if isinstance(node, (ast.BinOp, ast.BoolOp, ast.AugAssign)) and type(node.op) in SWAPS:
        node.op = SWAPS[type(node.op)]()
        return True
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        node.ops[0] = SWAPS[type(node.ops[0])]()
        return True
    if isinstance(node, ast.Constant) and type(node.value) in (int, float, bool):
        value = node.value
        node.value = (
            not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else 1.01 * value + 1e-3
        )
        return True
    if isinstance(node, ast.Attribute) and node.attr in NAMES:
        node.attr = NAMES[node.attr]
        return True
    if isinstance(node, ast.Name) and node.id in NAMES:
        node.id = NAMES[node.id]
        return True
    return False


@dataclass(frozen=True)
class Mutant:
    """A break that is kept: `old`, which the file has once, becomes `new`, and one of the tests fails."""

    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def applied(self, source: str) -> str:
        """The broken source."""
        if source.count(self.old) != 1:
            raise ValueError(f"{self.file} has {source.count(self.old)} times, not once: {self.old}")
        return source.replace(self.old, self.new)


def kept(words: str = "") -> list[Mutant]:
    """The mutants of the file whose text has the words in it."""
    table = tomllib.loads(KEPT.read_text(encoding="utf-8"))["mutant"]
    found = [Mutant(one["file"], one["old"], one["new"], tuple(one["tests"])) for one in table]
    return [mutant for mutant in found if words in f"{mutant.file} {mutant.old} {' '.join(mutant.tests)}"]


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A copy of the repository."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "copy"
        ignored = shutil.ignore_patterns(".git", "__pycache__", "results", "figures", ".*_cache", ".venv")
        shutil.copytree(ROOT, place, ignore=ignored)
        yield place


def tried(place: Path, command: Sequence[str], timeout: float, environment: Mapping[str, str]) -> str:
    """The first test that fails; empty if none does."""
    try:
        done = subprocess.run(
            command, cwd=place, env={**environment, "PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True, text=True,
            check=False, timeout=timeout,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "a test that does not end"
    failed = [line.partition(" - ")[0] for line in done.stdout.splitlines() if line.startswith("FAILED")]
    return "" if done.returncode == 0 else failed[0].removeprefix("FAILED ") if failed else "an error"


def run_kept(mutants: Sequence[Mutant], workers: int, timeout: float) -> int:
    """How many of them no test sees."""
    survived = 0

    def judged(share: Sequence[Mutant]) -> int:
        count = 0
        with scratch() as place:
            # what is compiled and imported is that of the copy
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(place), str(place / "tests")])}
            for mutant in share:
                target, began = place / mutant.file, time.perf_counter()
                source = target.read_text(encoding="utf-8")
                target.write_text(mutant.applied(source), encoding="utf-8")
                by = tried(place, [*PYTEST, *mutant.tests], timeout, environment)
                target.write_text(source, encoding="utf-8")
                count += not by
                said = by or "SURVIVED"
                print(
                    f"{mutant.file}: {mutant.old} -> {mutant.new} | {said} | {time.perf_counter() - began:.0f} s",
                    flush=True,
                )
        return count

    with ThreadPoolExecutor(workers) as pool:
        survived = sum(pool.map(judged, [mutants[k::workers] for k in range(workers)]))
    print(f"{len(mutants)} mutants, {survived} survived")
    return survived


def main() -> int:
    """Break, test, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "module", help="the module to break; with --kept, words of the mutants to make, or all", nargs="?", default=""
    )
    parser.add_argument("tests", nargs="*")
    parser.add_argument("--kept", action="store_true", help="make the breaks of mutants.toml")
    parser.add_argument("--workers", type=int, default=1, help="copies of the repository that kept mutants are made in")
    parser.add_argument("--sample", type=int, default=0, help="break only so many places, chosen at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=600.0)
    parser.add_argument("--lines", default="", help="break only these, FIRST-LAST")
    parser.add_argument("-k", dest="keyword", default="", help="as for pytest")
    parser.add_argument("--interpreted", action="store_true", help="kernels as plain Python, see interpreted.py")
    options = parser.parse_args()
    if options.kept:
        return 1 if run_kept(kept(options.module), options.workers, options.timeout) else 0
    if not options.tests:
        parser.error("name a module and the tests that should notice, or --kept")
    return run_places(options)


def run_places(options: argparse.Namespace) -> int:
    """Break every place of a module; 1 if some break is not noticed, 2 if the tests fail without one."""
    command, environment = [*PYTEST, *options.tests], dict(os.environ)
    if options.keyword:
        command += ["-k", options.keyword]
    if options.interpreted:
        command += ["-p", "interpreted"]
        environment["PYTHONPATH"] = "tests"
    source = (ROOT / options.module).read_text(encoding="utf-8")
    nodes = list(places(ast.parse(source)))
    count, chosen = len(nodes), list(range(len(nodes)))
    if options.lines:
        first, _, last = options.lines.partition("-")
        chosen = [k for k in chosen if int(first) <= nodes[k].lineno <= int(last or first)]  # type: ignore[attr-defined]
    if options.sample and options.sample < len(chosen):
        chosen = sorted(random.Random(options.seed).sample(chosen, options.sample))
    lines = source.splitlines()
    survived = 0
    with scratch() as place:
        if by := tried(place, command, options.timeout, environment):
            print(f"before anything is broken this fails: {by}")
            return 2
        for k in chosen:
            tree = ast.parse(source)
            node = list(places(tree))[k]
            before = ast.unparse(node)
            mutate(node)
            what = f"{options.module}:{node.lineno}: {before} -> {ast.unparse(node)}"  # type: ignore[attr-defined]
            (place / options.module).write_text(ast.unparse(tree), encoding="utf-8")
            began = time.perf_counter()
            by = tried(place, command, options.timeout, environment)
            survived += not by
            said = by or f"SURVIVED: {lines[node.lineno - 1].strip()}"  # type: ignore[attr-defined]
            print(f"{what} | {said} | {time.perf_counter() - began:.0f} s", flush=True)
    print(f"{len(chosen)} of {count} places broken, {survived} survived")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
