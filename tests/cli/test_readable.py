"""What the command line says: docstrings as plain text, citations, tables without holes, networks found again."""

import inspect
import re

import numpy as np
import pytest
import shared

import mfpde as mf
from mfpde import problems
from mfpde.cli.readable import formula, readable

NAMES = [*problems.names(), "network"]


def constructor(name):
    return problems.network if name == "network" else problems.constructor(name)


@pytest.mark.parametrize("name", NAMES)
def test_problems_read_as_plain_text(name):
    given = inspect.getdoc(constructor(name))
    text = readable(given)
    assert not re.search(r"`|\\[a-zA-Z]|:math:|\.\. math|^ *-{3,}$|\*\*[A-Z]", text, re.MULTILINE)
    assert "Parameters\n" in text
    # nothing is lost but marks
    words = re.findall(r"[a-z]{5,}", re.sub(r"\\[a-zA-Z]+", " ", given))
    assert [word for word in words if word not in text] == []


@pytest.mark.parametrize(
    ("tex", "plain"),
    [
        (r"m(t) = a + e^{-(1 + \alpha C) t} (m_0 - a)", "m(t) = a + e^(-(1 + α C) t) (m_0 - a)"),
        (r"\tfrac13 [N(x; -2, \tfrac12)]", "1/3 [N(x; -2, 1/2)]"),
        (r"\frac{a + b}{c_{d}} \le \tfrac c2", "(a + b)/(c_d) ≤ c/2"),
        (r"\partial_t \mu = \nabla\cdot(\mu\nabla V)", "∂_t μ = ∇·(μ∇ V)"),
        (r"\frac{1}{1 + \frac{a}{b^{2k}}}", "1/(1 + a/(b^(2k)))"),
        (r"\sqrt{x^{2}} + \bar{V} + \log\mu", "sqrt(x^2) + V' + log μ"),
        (r"x_{ij} e^{kt} b^{\alpha}", "x_ij e^(kt) b^α"),
        (r"a \\ &= b", "a\n= b"),
        (r"\Big(\sum_{j \text{ even}} x_j\Big)", "(sum_(j even) x_j)"),
    ],
)
def test_formulas(tex, plain):
    assert formula(tex) == plain


def test_headings_lose_their_lines_and_formulas_stand_apart():
    text = r"""First line.

.. math:: a = \tfrac12,

Parameters
----------
x : float
    ``x > 0``, see `mfpde.solve`.

Notes
-----
**Exact.** ``f(2)**2`` and **more**, :math:`\alpha`.
"""
    expected = """First line.

    a = 1/2,

Parameters
  x : float
      x > 0, see mfpde.solve.

Notes
  Exact. f(2)**2 and more, α."""
    assert readable(text) == expected


def invoke(*words, code=0):
    done = shared.invoke(*words)
    assert done.exit_code == code, done.output
    return done


def test_the_command_shows_it(folder):
    shown = invoke("problems", "linear-neuron").stdout
    assert "    m(t) = a + e^(-(1 + α C) t) (m_0 - a)" in shown
    assert "``" not in invoke("problems").stdout


def test_mfpde_is_cited_with_a_year(folder):
    text = invoke("cite", "linear-neuron").stdout
    entry = text[text.index("@software{mfpde") :]
    assert re.search(r"year    = \{20\d\d\}", entry)
    assert entry.count("{") == entry.count("}")


def test_one_replica_leaves_no_nan(folder):
    """A single run has no error bars: a dash, and the reason."""
    mf.solve(problems.linear_neuron(), (60,), 0.2, save=2, progress=False).save("run.h5")
    words = ("--sizes", "40,80", "--replicas", "1", "--times", "0.2", "--no-control", "--uncertainty", "1e-4")
    text = invoke("compare", "run.h5", *words).stdout
    assert "nan" not in text
    assert "undecided" in text
    assert "one replica has no error bar" in text
    np.savez("one.npz", positions=np.random.default_rng(0).normal(0, 0.3, (1, 50, 1)), times=[0.2])
    text = invoke("compare", "run.h5", "--particles", "one.npz", "--uncertainty", "1e-4").stdout
    assert "nan" not in text


NETWORK = """shape = [8, 8, 8]
t_end = 0.02
[network]
data = "points.csv"
[scheme]
transport = "upwind"
"""


def test_a_network_on_data_is_found_again(folder):
    (folder / "points.csv").write_text("x,y\n" + "".join(f"{0.1 * i},{(i * 7 % 5) / 5}\n" for i in range(10)))
    (folder / "fit.toml").write_text(NETWORK)
    (folder / "sub").mkdir()
    invoke("run", "fit.toml", "-o", "sub/fit.h5", "-q", "--no-plot")
    loaded = mf.load("sub/fit.h5")
    assert loaded.problem is not None
    assert loaded.problem.fingerprint() == loaded.fingerprint
    more = mf.solve(loaded.problem, (8, 8, 8), 0.03, scheme=mf.Upwind(), initial=loaded, progress=False)
    assert more.times[0] == loaded.times[-1]

    # other data than those of the run are of no use: it has its own
    (folder / "points.csv").write_text("x,y\n0,0\n1,1\n2,1\n")
    said = invoke("info", "sub/fit.h5").stderr
    assert said.count("\n") == 1
    assert "warning: the data of the network are others now" in said
    animated = invoke("plot", "sub/fit.h5", "--animate", "sub/fit.gif")
    assert (animated.exit_code, animated.stderr) == (0, said)
    again = invoke("resume", "sub/fit.h5", "--until", 0.03, "-o", "sub/longer.h5", "-q", "--no-plot")
    assert again.stderr.count("the data of the network are others now") == 1
    (folder / "points.csv").unlink()
    with pytest.warns(
        mf.RunWarning, match=r"points\.csv does not exist\); the problem is made of those in sub/fit\.h5"
    ):
        assert mf.load("sub/fit.h5").problem.fingerprint() == loaded.fingerprint
