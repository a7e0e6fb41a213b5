"""Break the code one place at a time and see which breaks no test notices.

    python tests/mutation.py mfpde/mesh/reaction.py tests/mesh/test_reaction.py tests/laws/test_orders.py --sample 40

    python tests/mutation.py mfpde/mesh/compiled/faces.py tests/mesh/test_transport.py -k reference --lines 48 --interpreted

Every break is made in a copy of the repository: an operator, a comparison, a number, ``and`` for ``or``, ``min`` for
``max``. What survives is printed; it is a hole in the tests, or code that makes no difference.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
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


def main() -> int:
    """Break, test, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("module")
    parser.add_argument("tests", nargs="+")
    parser.add_argument("--sample", type=int, default=0, help="break only so many places, chosen at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=600.0)
    parser.add_argument("--lines", default="", help="break only these, FIRST-LAST")
    parser.add_argument("-k", dest="keyword", default="", help="as for pytest")
    parser.add_argument("--interpreted", action="store_true", help="kernels as plain Python, see interpreted.py")
    options = parser.parse_args()
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *options.tests]
    environment = dict(os.environ)
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
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "copy"
        shutil.copytree(
            ROOT, place, ignore=shutil.ignore_patterns(".git", "__pycache__", "results", "figures", "*.h5", ".*_cache")
        )
        target = place / options.module
        sound = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
        if sound.returncode:
            print(f"the tests fail before anything is broken:\n{sound.stdout[-2000:]}")
            return 2
        for k in chosen:
            tree = ast.parse(source)
            node = list(places(tree))[k]
            before = ast.unparse(node)
            mutate(node)
            what = f"{options.module}:{node.lineno}: {before} -> {ast.unparse(node)}"  # type: ignore[attr-defined]
            target.write_text(ast.unparse(tree), encoding="utf-8")
            began = time.perf_counter()
            try:
                done = subprocess.run(
                    command, cwd=place, env=environment, capture_output=True, text=True, check=False,
                    timeout=options.timeout,
                )  # fmt: skip
                failed = [line.partition(" - ")[0] for line in done.stdout.splitlines() if line.startswith("FAILED")]
                killed, by = done.returncode != 0, failed[0].removeprefix("FAILED ") if failed else "an error"
            except subprocess.TimeoutExpired:
                killed, by = True, "a test that does not end"
            survived += not killed
            said = by if killed else f"SURVIVED: {lines[node.lineno - 1].strip()}"  # type: ignore[attr-defined]
            print(f"{what} | {said} | {time.perf_counter() - began:.0f} s", flush=True)
    print(f"{len(chosen)} of {count} places broken, {survived} survived")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
