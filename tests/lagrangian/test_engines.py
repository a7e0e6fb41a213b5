"""The list of problems in `docs/characteristics.md`: what moves their nodes, and why not what would be faster."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

import mfpde as mf
from mfpde.equation.energy.activations import ACTIVATIONS
from mfpde.lagrangian.assembly import engine_of
from mfpde.lagrangian.nodes import Dynamics

PAGE = Path(__file__).parents[2] / "docs" / "characteristics.md"
ROWS = re.findall(r"^\| `(.+?)` \| (compiled|Python|-) \| (.+?) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def listed(call):
    """The problem of a row."""
    x = np.linspace(-2.0, 2.0, 40)
    y = np.sin(2.0 * x)
    y = np.sign(y) if "logistic" in call else y
    return eval(f"mf.problems.{call}", {"mf": mf, "np": np, "math": math, "x": x, "y": y})


def test_the_list_is_complete():
    calls = [call for call, _, _ in ROWS]
    assert {call.split("(")[0] for call in calls} >= {name.replace("-", "_") for name in mf.problems.names()}
    assert {f"{name.replace('-', '_')}()" for name in mf.problems.names()} <= {*calls}
    named = {match[1] for call in calls if (match := re.search(r'activation="(\w+)"', call))}
    assert named | {"tanh"} >= {*ACTIVATIONS}
    assert len(calls) == len({*calls})


@pytest.mark.parametrize("accuracy", [1e-6, 1e-10])
@pytest.mark.parametrize(("call", "moved_by", "why"), ROWS, ids=[call for call, _, _ in ROWS])
def test_it_says_what_moves_the_nodes(call, moved_by, why, accuracy):
    problem = listed(call)
    if moved_by == "-":
        with pytest.raises(ValueError, match=why):
            Dynamics(problem)
        return
    engine = engine_of(Dynamics(problem), accuracy)
    assert engine.compiled == (moved_by == "compiled"), engine.reason
    if not engine.compiled:
        assert why in engine.reason


IN_PYTHON = {
    "mmd_flow()",
    "relu_gaussians()",
    "two_timescale()",
    "two_player_game()",
    "sparse_deconvolution(signed=True)",
}
"""A kernel and features with a kink, a loss of its own, and species."""


@pytest.mark.parametrize("call", [call for call, _, _ in ROWS])
def test_what_is_smooth_is_compiled(call):
    """But for what the page says has no characteristics, and the few above."""
    moved_by = next(row[1] for row in ROWS if row[0] == call)
    if moved_by != "-" and call not in IN_PYTHON:
        assert moved_by == "compiled"
