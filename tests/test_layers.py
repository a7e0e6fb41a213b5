"""Which wing may import which, see `docs/architecture.md`: no import climbs, and no modules import each other."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import grimp
import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

import mfpde
from mfpde.support.sources import PACKAGE

LAYERS: tuple[set[str], ...] = (
    {"__main__"},
    {"cli", "pytest_plugin"},
    {"config", "energy", "gibbs", "pack", "storage"},  # names for users alone
    {"testing"},
    {"verification"},
    {"runs"},
    {"mesh", "lagrangian", "particles", "problems"},
    {"equation"},
    {"support"},
)
"""From the top. Those of one layer do not import each other; imports in functions and for types alone count, too."""


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("mfpde", cache_dir=None)


def climbing(graph: grimp.ImportGraph) -> list[str]:
    illegal = graph.find_illegal_dependencies_for_layers(LAYERS, containers={"mfpde"})
    chains = (route for package in illegal for route in package.routes)
    return sorted(" -> ".join((*sorted(c.heads)[:1], *c.middle, *sorted(c.tails)[:1])) for c in chains)


def circles(graph: grimp.ImportGraph) -> list[list[str]]:
    modules = sorted(graph.modules)
    number = {module: i for i, module in enumerate(modules)}
    edges = [(number[m], number[n]) for m in modules for n in graph.find_modules_directly_imported_by(m)]
    rows, columns = np.array(edges).T
    matrix = coo_array((np.ones(len(edges)), (rows, columns)), shape=(len(modules),) * 2)
    count, labels = connected_components(matrix, connection="strong")
    sizes = np.bincount(labels, minlength=count)
    return [[m for m in modules if labels[number[m]] == label] for label in np.flatnonzero(sizes > 1)]


def test_every_module_has_its_floor(graph):
    assert {module.removeprefix("mfpde.") for module in graph.find_children("mfpde")} == set().union(*LAYERS)


def test_sources_are_those_of_the_package():
    """Levels on disk, and compiled code, are of one version of them."""
    assert PACKAGE.samefile(Path(mfpde.__file__).parent)


def test_no_import_climbs(graph):
    assert climbing(graph) == []


def test_no_modules_import_each_other(graph):
    assert circles(graph) == []


def test_what_climbs_is_seen():
    climber = grimp.build_graph("mfpde", cache_dir=None)
    climber.add_import(importer="mfpde.lagrangian.nodes", imported="mfpde.mesh.run")
    assert climbing(climber) == ["mfpde.lagrangian.nodes -> mfpde.mesh.run"]
    assert circles(climber) == []
    climber.add_import(importer="mfpde.equation.grid", imported="mfpde.equation.problem")
    assert any({"mfpde.equation.grid", "mfpde.equation.problem"} <= set(circle) for circle in circles(climber))


def test_the_package_is_found_in_a_zip(tmp_path):
    """The stub of public names is read as data of the package, wherever that is."""
    with zipfile.ZipFile(tmp_path / "package.zip", "w") as archive:
        for path in (*PACKAGE.rglob("*.py"), PACKAGE / "__init__.pyi"):
            archive.write(path, path.relative_to(PACKAGE.parent))
    code = "import mfpde; print(mfpde.__file__, mfpde.Axis('x', 0, 1), mfpde.problems.names()[0], len(mfpde.__all__))"
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "package.zip")},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith(str(tmp_path))
