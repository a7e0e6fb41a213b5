"""Formulas: they compute what they say, travel, and anything else is refused in one line without being executed."""

from __future__ import annotations

import ast
import math
import pickle
import random
import sys

import numpy as np
import pytest
from scipy import special

import mfpde as mf
from mfpde.equation.formulas import FUNCTIONS, number_of
from mfpde.equation.units import FormulaUnit, Stack

X = np.array([-2.0, -0.5, 0.0, 0.3, 1.7])
NUMPY = {
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "atan2": np.arctan2, "min": np.minimum, "max": np.maximum,
    "erf": special.erf,
}  # fmt: skip


def refused(text, variables=("x", "y")):
    with pytest.raises(ValueError, match=r"^formula ") as caught:
        mf.Formula(text, variables)
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 700
    return said


# ----- what they compute


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_those_of_numpy(name):
    function, count = NUMPY.get(name) or getattr(np, name), FUNCTIONS[name][1]
    arguments = (X, X[::-1])[:count]
    found = mf.Formula(f"{name}({', '.join('xy'[:count])})", tuple("xy"[:count]))(*arguments)
    with np.errstate(all="ignore"):
        assert np.array_equal(found, function(*arguments), equal_nan=True)


def test_numbers_names_and_brackets():
    f = mf.Formula("-2**2 + x/4*2 - (y - 1.5e-1)*pi + .5 - e", ("x", "y"))
    assert np.array_equal(f(X, 0.5), -4.0 + X / 4.0 * 2.0 - (0.5 - 0.15) * math.pi + 0.5 - math.e)
    assert mf.Formula("2**3**2", ())() == 512.0
    assert mf.Formula("e*pi", ("pi", "e"))(2.0, 3.0) == 6.0  # variables go before constants
    assert np.array_equal(mf.Formula("θ_1\n  + 1", "θ_1")(X), X + 1.0)
    assert np.array_equal(mf.Formula("3", ("x", "y"))(X, X[:, None]), np.full((5, 5), 3.0))
    assert mf.Formula("y + 1", ("x", "y", "z")).used == ("y",)
    assert mf.Formula("x**y", ("x", "y"))(X[:, None], X).shape == (5, 5)


def test_where_there_is_no_value_there_is_no_number(strict_arithmetic):
    assert np.isnan(mf.Formula("log(x)", "x")(-1.0))
    assert np.isnan(mf.Formula("x**0.5", "x")(-1.0))
    assert mf.Formula("1/x", "x")(0.0) == math.inf
    assert mf.Formula("exp(exp(x))", "x")(100.0) == math.inf
    with pytest.raises(ValueError, match=r"Formula\('x', \('x',\)\) has 1 variables, not 2"):
        mf.Formula("x", "x")(1.0, 2.0)


def random_expression(rng, depth):
    """A tree of Python's parser of what formulas are made of."""
    if depth == 0 or rng.random() < 0.2:
        return rng.choice([ast.Name("x"), ast.Name("y"), ast.Name("pi"), ast.Constant(rng.choice([2, 0.25, 3.5, 7]))])
    inner = lambda: random_expression(rng, depth - 1)  # noqa: E731
    kind = rng.random()
    if kind < 0.6:
        return ast.BinOp(inner(), rng.choice([ast.Add(), ast.Sub(), ast.Mult(), ast.Div()]), inner())
    if kind < 0.7:
        return ast.BinOp(inner(), ast.Pow(), ast.Constant(rng.choice([2, 3, 0.5])))
    if kind < 0.8:
        return ast.UnaryOp(rng.choice([ast.USub(), ast.UAdd()]), inner())
    name = rng.choice(sorted(FUNCTIONS))
    return ast.Call(ast.Name(name), [inner() for _ in range(FUNCTIONS[name][1])], [])


class Wrapped(ast.NodeTransformer):
    """Numbers as NumPy's, whose powers and quotients are never exceptions."""

    def visit_Constant(self, node):
        return ast.Call(ast.Name("float64", ast.Load()), [node], [])


def test_they_are_what_python_makes_of_the_same_text():
    rng = random.Random(20190521)
    places = {"x": X[:, None], "y": np.linspace(0.2, 2.0, 4)}
    functions = {name: NUMPY.get(name) or getattr(np, name) for name in FUNCTIONS}
    seen = 0
    for _ in range(300):
        text = ast.unparse(random_expression(rng, 5))
        tree = Wrapped().visit(ast.parse(text, mode="eval"))
        code = compile(ast.fix_missing_locations(tree), "test", "eval")
        with np.errstate(all="ignore"):
            wanted = eval(code, {**functions, **places, "pi": np.float64(math.pi), "float64": np.float64})
        found = mf.Formula(text, ("x", "y"))(places["x"], places["y"])
        assert np.array_equal(*np.broadcast_arrays(found, wanted), equal_nan=True), text
        seen += bool(np.isfinite(found).all())
    assert seen > 100


# ----- what they are not


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x^2", "'^' has no place here; write x**2 for a power"),
        ("x[0]", "'[' has no place here; there is no indexing"),
        ("'x'", '"\'" has no place here; there is no text in a formula'),
        ("x +", "it is not complete or not in order"),
        ("", "it is not complete or not in order"),
        ("x y", "it is not complete or not in order"),
        ("z", "'z' is unknown; valid: 'x', 'y', 'pi', 'e'"),
        ("exp", "'exp' is a function and needs brackets"),
        ("sine(x)", "function 'sine' is unknown; did you mean 'sin'? valid: 'exp'"),
        ("exp(x, y)", "exp takes 1 argument, not 2"),
        ("atan2(x)", "atan2 takes 2 arguments, not 1"),
        ("x(y)", "function 'x' is unknown"),
        ("(x)(y)", "function 'x' is unknown"),
        ("exp(*x)", "this (Starred) has no place in a formula"),
        ("x, y", "a comma has no place in a formula"),
        ("x if y else 1", "'if' has no place in a formula"),
        ("x and y", "'and' or 'or' has no place in a formula"),
        ("not x", "this (UnaryOp) has no place in a formula"),
        ("x is y", "this (Compare) has no place in a formula"),
        ("x // y", "this (BinOp) has no place in a formula"),
        ("True", "True is no number"),
        ("None", "None is no number"),
        ("1j", "'1j' has no place here"),
        ("0x10", "'0x10' has no place here"),
        ("1_000", "'1_000' has no place here"),
        ("x.real", "'.real' has no place here"),
        ("2.e", "'2.e' has no place here"),
        ("1e101", "the number 1e+101 is beyond 1e+100"),
        ("1e999", "the number inf is beyond 1e+100"),
        ("9" * 900, "is beyond 1e+100"),
        ("x**101", "the power 101 is beyond 100"),
        ("x**-(99 + 2)", "the power -101 is beyond 100"),
        ("9**9**9", "is beyond 100"),
        ("x" + " + x" * 249, "more than 100 operations are within each other"),
        ("-" * 999 + "x", "more than 100 operations are within each other"),
        ("(" * 400 + "x" + ")" * 400, "it is not complete or not in order (too many nested parentheses)"),
        ("x" * 1001, "it has 1001 letters; at most 1000 are read"),
        ("x\0", r"'\x00' has no place here"),
    ],
)
def test_anything_else_is_refused_in_one_line(text, why):
    assert why in refused(text)


def test_limits_are_reached():
    assert mf.Formula("x" + " + x" * 99, "x")(1.0) == 100.0
    assert mf.Formula("x**100", "x")(1.0) == 1.0
    assert mf.Formula("1e100", ())() == 1e100
    assert mf.Formula(" " * 999 + "x", "x")(2.0) == 2.0


@pytest.mark.parametrize(
    ("text", "variables", "why"),
    [
        (3, "x", "a formula is text, not 3"),
        ("x", ("x", "x"), "the variables of a formula are different names"),
        ("x", ("1x",), "the variables of a formula are different names"),
        ("x", 3, "variables must be a sequence, not 3"),
    ],
)
def test_what_is_no_formula_at_all(text, variables, why):
    with pytest.raises(ValueError, match=why):
        mf.Formula(text, variables)


HEARD: list[str] = []
LISTENING = [False]


def _listen(event, arguments):
    # what code that is run does: reading text is `compile`, which makes a tree here and nothing else
    if LISTENING[0] and event != "compile":
        HEARD.append(event)


sys.addaudithook(_listen)


def hostile(rng):
    """Text that is no formula: Python that does something, pieces of it, and formulas with a piece of it inside."""
    pieces = [
        "__import__('os').system('touch x')", "().__class__.__bases__[0].__subclasses__()", "open('x', 'w')",
        "exec('1')", "eval('1')", "lambda: 0", "[x for x in y]", "{x: y}", "x := 1", "f'{x}'", "globals()", "vars()",
        "x.__class__", "getattr(x, 'y')", "print(x)", "breakpoint()", "x; y", "x @ y", "~x", "x < y", "x == y", "x!",
        "x if x else y", "yield", "await x", "x[y]", "*x", "exp(**x)", "exp(x=y)", "x % y", "x // y", "x | y", "1j",
        "x and y", "not x", "...", "'x'", "b'x'", "compile", "__builtins__", "__name__", "type(x)", "input()", "$x",
        "exit()", "id(x)", "import os", "`x`", "x?", "\\", "#", "None", "True", "numpy", "np.exp(x)", "os", "self",
    ]  # fmt: skip
    piece = rng.choice(pieces)
    start = rng.choice(["", "x + ", "exp(", "2*(", "-", "x**", "max(x, ", "1 + 1 + "])
    end = ")" * start.count("(") + rng.choice(["", " + y", "*2", "**2", " - pi"])
    text = f"{start}{piece}{end}"
    if rng.random() < 0.3:  # torn
        cut = rng.randrange(len(text) + 1)
        text = text[:cut] + rng.choice(["\0", "'", '"', "$", "[", "=", ":", "\N{SNOWMAN}"]) + text[cut:]
    return text


def test_a_thousand_hostile_texts_are_refused_and_nothing_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused("sine(x)")  # what says it is imported now
    mf.Formula("erf(x)", "x")(X)
    rng = random.Random(7)
    cases = [hostile(rng) for _ in range(1000)]
    assert len({*cases}) > 700
    HEARD.clear()
    LISTENING[0] = True
    try:
        for text in cases:
            refused(text)
        mf.Formula("erf(x)*exp(-x**2/2) + max(x, pi)", "x")(X)
    finally:
        LISTENING[0] = False
    assert HEARD == []
    assert not [*tmp_path.iterdir()]


def test_that_something_is_executed_would_be_heard():
    HEARD.clear()
    LISTENING[0] = True
    try:
        eval("1 + 1")
    finally:
        LISTENING[0] = False
    assert "exec" in HEARD


# ----- where they go


def test_they_travel():
    f = mf.Formula("exp(-x**2) + y", ["x", "y"])
    again = pickle.loads(pickle.dumps(f))
    assert again == f
    assert hash(again) == hash(f)
    assert np.array_equal(again(X, 1.0), f(X, 1.0))
    assert len(pickle.dumps(f)) < 200
    assert repr(f) == "Formula('exp(-x**2) + y', ('x', 'y'))"
    assert repr(mf.External(f)) == "External(exp(-x**2) + y)"


def test_numbers_may_be_formulas_without_variables():
    assert number_of("2*pi", "upper") == 2.0 * math.pi
    assert number_of(3, "upper") == 3
    for value, why in (("1/0", "upper = '1/0' must be finite"), (True, "must be a number"), ("x", "'x' is unknown")):
        with pytest.raises(ValueError, match=why):
            number_of(value, "upper")


def test_units_and_features():
    inputs, c, w = np.linspace(-1, 1, 3), np.array([[1.0], [2.0]]), np.array([0.5, 1.5, 3.0])
    unit = FormulaUnit.of(mf.Formula("c*cos(w*x)", ("x", "c", "w")))
    assert np.array_equal(unit(inputs, c, w), c * np.cos(w * inputs[:, None, None]))
    assert unit(inputs[:, None], c, w).shape == (3, 2, 3)
    two = FormulaUnit.of(mf.Formula("c*tanh(x1 - x2)", ("x1", "x2", "c")))
    assert two.count == 2
    assert np.array_equal(two(np.array([[1.0, 0.5]]), w), w[None] * np.tanh(0.5))
    assert FormulaUnit.of(mf.Formula("1", ("x", "c")))(inputs, w).shape == (3, 3)
    both = Stack((mf.Formula("c", ("c", "w")), mf.Formula("2", ("c", "w"))))
    assert np.array_equal(both(c, w), np.stack([np.broadcast_to(c, (2, 3)), np.full((2, 3), 2.0)]))
    with pytest.raises(ValueError, match="formulas beside each other have the same variables"):
        Stack((mf.Formula("c", "c"), mf.Formula("w", "w")))
    with pytest.raises(ValueError, match="features need one formula at least"):
        mf.Features([], mf.SquaredLoss([1.0]))
    with pytest.raises(ValueError, match="has no 3 inputs"):
        FormulaUnit(mf.Formula("x", ("x", "c")), 3)
