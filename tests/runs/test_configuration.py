"""Runs described in TOML: what is read, what is refused and in which words, what is written back."""

import math
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

import mfpde as mf
from mfpde.cli.app import app
from mfpde.equation.description import stored
from mfpde.equation.description.context import Context
from mfpde.equation.description.energies import _energies
from mfpde.equation.description.kernels import _axis_kernels, _kernels
from mfpde.equation.description.measures import _measures
from mfpde.equation.energy.losses import LOSSES
from mfpde.equation.formulas import FUNCTIONS
from mfpde.mesh.stream import Stream
from mfpde.runs.again import toml_of
from mfpde.runs.configuration import Configuration, load_config, named_config, parse_value
from mfpde.runs.tables import (
    CONTROLLERS,
    METHODS,
    SCHEDULES,
    TRANSPORTS,
    ConfigurationError,
    DynamicsTable,
    FileTable,
    NetworkTable,
    OutputTable,
    SchemeTable,
)
from mfpde.support.files import trees

CSV = "age,bmi,y\n1,0.5,2\n2,-0.25,1\n3,1.5,-1\n4,0.125,0.5\n"


def configured(text, directory="."):
    return Configuration.from_toml(text, directory, "run.toml")


def refused(text, directory="."):
    """The message of a file that is refused, when it is read or when its problem is built."""
    with pytest.raises(ConfigurationError) as caught:
        configured(text, directory).problem()
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("run.toml")
    return message


@pytest.fixture
def points(tmp_path):
    (tmp_path / "points.csv").write_text(CSV)
    return tmp_path


# ----- problems of one's own


WELL = """
shape = [32]
t_end = 0.1
axes = [{name = "x", lower = -2.0, upper = 2.0}]
energy = [{kind = "external", formula = "(x**2 - 1)**2"}]
initial = {x = {distribution = "normal", mean = 0.0, std = 0.3}}
"""


def test_a_problem_of_ones_own_is_what_python_makes_of_the_same_words():
    text = (
        WELL
        + """
    [dynamics]
    alpha = "1/(1 + t)"
    temperature = 0.1
    rate = "V**3 + V"
    rates = {x = "1 + x**2"}
    base = "exp(-x**2)"
    [exact]
    minimum_energy = 0.5
    """
    )
    made = configured(text).problem()
    wanted = mf.Problem(
        energy=mf.External(lambda x: (x**2 - 1) ** 2),
        axes=[mf.Axis("x", -2, 2)],
        initial=mf.Product(x=stats.norm(0, 0.3)),
        alpha=lambda t: 1 / (1 + t),
        temperature=0.1,
        rate=lambda V: V**3 + V,
        metric=[lambda x: 1 + x**2],
        base=lambda x: np.exp(-(x**2)),
        t_end=0.1,
    )
    assert made.fingerprint() == wanted.fingerprint()
    assert made.exact == {"minimum_energy": 0.5}
    assert (made.t_end, made.shape, made.name) == (0.1, (32,), "problem")


def test_a_run_of_a_problem_of_ones_own_is_made_again_from_its_file(tmp_path, monkeypatch):
    """By its text, whether TOML or Python has made it: the same bits."""
    monkeypatch.chdir(tmp_path)
    made = mf.Problem(
        energy=mf.TwoLayerNetwork(X := np.linspace(-1, 1, 30), X**3, axes=("c", "a"), roles=("amplitude", "weight")),
        axes=[mf.Axis("c", -2, 2), mf.Axis("a", -2, 2)],
        initial=mf.Product(c=stats.norm(0, 0.3), a=stats.uniform(-1 / 3, 0.7)),
        alpha=mf.Formula("1 + s", "s"),
        rate=mf.Formula("v**3", "v"),
    )
    mf.solve(made, (12, 12), 0.1, save=[0.05], scheme=mf.Muscl(mf.Limiter.MC), progress=False).save("python.h5")
    mf.solve(mf.problems.linear_neuron(alpha=2.0), 40, 0.1, progress=False).save("named.h5")
    Path("well.toml").write_text(WELL)
    runs = CliRunner()
    assert runs.invoke(app, ["run", "well.toml", "-o", "toml.h5", "--no-plot", "-q"]).exit_code == 0
    for name in ("python", "named", "toml"):
        text = runs.invoke(app, ["info", f"{name}.h5", "--toml"])
        assert text.exit_code == 0
        Path("again.toml").write_text(text.stdout)
        again = runs.invoke(app, ["run", "again.toml", "-o", "again.h5", "--no-plot", "-q", "-f"])
        assert again.exit_code == 0, again.output
        one, other = mf.load(f"{name}.h5"), mf.load("again.h5")
        assert one.density.tobytes() == other.density.tobytes()
        assert one.times.tolist() == other.times.tolist()
        assert {key: one.configuration[key] for key in ("scheme", "method", "controller")} == {
            key: other.configuration[key] for key in ("scheme", "method", "controller")
        }


def test_texts_that_there_are_not():
    solution = mf.solve(mf.problems.linear_neuron(), 20, 0.01, progress=False)
    solution.configuration["scheme"] = "Mine()"
    with pytest.raises(ValueError, match="'Mine\\(\\)' is no transport scheme that mfpde has"):
        toml_of(solution)
    many = mf.TwoLayerNetwork(x := np.linspace(-1, 1, 40_000), x, axes=("a",), roles=("weight",))
    start = mf.Product(a=stats.norm(0, 0.2))
    made = mf.solve(mf.Problem(energy=many, axes=mf.Axis("a", -2, 2), initial=start), 20, 0.01, progress=False)
    with pytest.raises(ValueError, match=r"the text would have [0-9]+ letters, a TOML file has at most 1048576"):
        toml_of(made)


def test_a_network_with_a_temperature_and_a_weight_decay(points):
    text = """
    energy = [{kind = "confinement", strengths = {c = 0.1, a = 0.2}}]
    [network]
    data = "points.csv"
    inputs = ["bmi"]
    temperature = 0.3
    alpha = 2.0
    [dynamics]
    schedule = "1 + t"
    """
    made = configured(text, points).problem()
    x, y = np.array([0.5, -0.25, 1.5, 0.125]), np.array([2.0, 1.0, -1.0, 0.5])
    wanted = mf.problems.network(x, y, alpha=2.0, temperature=0.3)
    wanted = wanted.replace(energy=wanted.energy + mf.Confinement(c=0.1, a=0.2), schedule=lambda t: 1 + t)
    assert made.fingerprint() == wanted.fingerprint()
    assert made.network is not None


def test_changes_of_a_problem_of_ones_own(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(WELL)
    changes = {"alpha": "1 + t", "dynamics.temperature": 0.2, "initial.x.std": 0.2, "shape": [64], "name": "well"}
    made = load_config(path, changes)
    problem = made.problem()
    assert (problem.alpha(1.0), problem.temperature(0.0), problem.shape, problem.name) == (2.0, 0.2, (64,), "well")
    assert problem.initial.marginals[0][1].std() == pytest.approx(0.2)
    assert made.name == "well"


# ----- named problems


def test_a_named_problem_with_parameters_is_the_one_of_the_library():
    text = 'problem = "linear-neuron"\nshape = [60]\nt_end = 0.5\n[parameters]\nalpha = 0\ntarget = 1.5\n'
    problem = configured(text).problem()
    assert problem.fingerprint() == mf.problems.linear_neuron(alpha=0.0, target=1.5).fingerprint()
    assert problem.fingerprint() != mf.problems.linear_neuron(target=1.5).fingerprint()
    assert isinstance(problem.parameters["alpha"], float)
    arguments = configured(text).solve_arguments()
    assert arguments["shape"] == [60]
    assert arguments["t_end"] == 0.5


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("", {"controller": mf.ErrorControl()}),
        ('transport = "weno5"\ntail_ratio = 1e3', {"scheme": mf.Weno5(1e3)}),
        ('transport = "muscl"\nlimiter = "mc"', {"scheme": mf.Muscl(mf.Limiter.MC)}),
        ('transport = "muscl"', {"scheme": mf.Muscl()}),
        ('transport = "upwind"', {"scheme": mf.Upwind()}),
        ('method = "exponential-ssprk3"', {"method": mf.ExponentialSSPRK3()}),
        ('method = "strang"', {"method": mf.Strang()}),
        ('method = "lie"', {"method": mf.Lie()}),
        ('method = "strang"\nstabilised = false', {"method": mf.Strang(stabilised=False)}),
        (
            'transport = "scharfetter-gummel"\nmethod = "implicit-strang"\npotential = "start"\nconvergence = 1e-6',
            {"scheme": mf.ScharfetterGummel(), "method": mf.ImplicitStrang(mf.Potential.START, 1e-6)},
        ),
        ('method = "implicit-euler"', {"method": mf.ImplicitEuler()}),
        (
            'controller = "error"\ntolerance = 1e-7\nfraction = 0.5\nreaction = 2\ngrowth = 1.5',
            {"controller": mf.ErrorControl(1e-7, 0.5, 2.0, 1.5)},
        ),
        (
            'controller = "courant"\nfraction = 0.4\nreaction = 0.3\ngrowth = 3',
            {"controller": mf.CourantControl(0.4, 0.3, 3.0)},
        ),
        ('controller = "fixed"\ndt = 0.01', {"controller": mf.FixedStep(0.01)}),
    ],
)
def test_names_of_schemes_become_objects(scheme, expected):
    arguments = configured(f'problem = "linear-neuron"\n[scheme]\n{scheme}\n').solve_arguments()
    assert {key: arguments[key] for key in expected} == expected
    assert ("method" in arguments) == ("method" in scheme)


def test_defaults_depend_on_the_temperature():
    """What the file leaves open is written into the run's own file as the solver chose it."""
    for text, transport, method in (
        ('problem = "linear-neuron"', "weno5", "exponential-ssprk3"),
        ('problem = "torus-langevin"', "scharfetter-gummel", "implicit-strang"),
        ('problem = "torus-langevin"\nshape = [12]', "scharfetter-gummel", "implicit-strang"),
        ('problem = "gaussian-langevin"\nparameters = {alpha = 0.0}', "weno5", "exponential-ssprk3"),
    ):
        configuration = configured(text)
        scheme = configuration.completed(configuration.problem()).tables.scheme
        assert (scheme.transport, scheme.method) == (transport, method)


def test_save_times_threads_and_limits_are_passed_on():
    text = 'problem = "linear-neuron"\nthreads = 2\nmax_steps = 7\n[output]\nsave = [0.5, 1]\n'
    arguments = configured(text).solve_arguments()
    assert (arguments["threads"], arguments["max_steps"], arguments["save"]) == (2, 7, [0.5, 1.0])
    assert configured('problem = "linear-neuron"\n').solve_arguments()["save"] == 11
    assert configured('problem = "linear-neuron"\n[output]\nplot = false').plot is None
    assert configured('problem = "linear-neuron"\n[output]\nplot = "pdf"').plot == "pdf"
    assert configured('problem = "linear-neuron"\n').plot == "png"


def test_output_path_is_relative_to_the_file(tmp_path):
    (tmp_path / "run.toml").write_text('problem = "linear-neuron"\n[output]\npath = "a/b.h5"\n')
    assert load_config(tmp_path / "run.toml").output == tmp_path / "a" / "b.h5"


# ----- networks


def test_a_network_on_a_csv_is_the_one_of_the_library(points):
    text = '[network]\ndata = "points.csv"\ninputs = ["bmi"]\noutputs = ["y"]\nhalf_width = 3.0\nalpha = 2\n'
    problem = configured(text, points).problem()
    x, y = np.array([0.5, -0.25, 1.5, 0.125]), np.array([2, 1, -1, 0.5])
    same = mf.problems.network(x, y, half_width=3.0, alpha=2.0)
    assert problem.fingerprint() == same.fingerprint()
    assert problem.fingerprint() != mf.problems.network(x, -y, half_width=3.0, alpha=2.0).fingerprint()


def test_columns_by_number_and_by_default(points):
    numbered = configured('[network]\ndata = "points.csv"\ninputs = [1]\noutputs = 2\n', points).problem()
    named = configured('[network]\ndata = "points.csv"\ninputs = "bmi"\n', points).problem()
    assert numbered.fingerprint() == named.fingerprint()
    assert [a.name for a in configured('[network]\ndata = "points.csv"\n', points).problem().axes] == [
        "c",
        "a1",
        "a2",
        "b",
    ]


def test_files_without_header_with_other_delimiters_and_comments(tmp_path):
    texts = [
        "0.5,2\n-0.25,1\n1.5,-1\n",
        "# x y\n\n0.5;2\n-0.25;1\n\n1.5;-1\n",
        "\ufeff0.5\t2\r\n-0.25\t1\r\n1.5\t-1\r\n",
    ]
    prints = set()
    for i, text in enumerate(texts):
        (tmp_path / f"{i}.csv").write_text(text, encoding="utf-8")
        prints.add(configured(f'[network]\ndata = "{i}.csv"\n', tmp_path).problem().fingerprint())
    assert prints == {mf.problems.network([0.5, -0.25, 1.5], [2.0, 1.0, -1.0]).fingerprint()}


def test_npz_data_with_weights(tmp_path):
    x, y, w = np.array([[1, 2], [3, 4], [5, 7]]), np.array([1.0, 0.0, 2.0]), np.array([1, 2, 3])
    np.savez(tmp_path / "points.npz", x=x, y=y, weights=w)
    problem = configured('[network]\ndata = "points.npz"\nbias = false\n', tmp_path).problem()
    assert problem.fingerprint() == mf.problems.network(x, y, weights=w, bias=False).fingerprint()
    assert problem.fingerprint() != mf.problems.network(x, y, bias=False).fingerprint()


def test_a_header_that_stands_over_two_columns_is_refused(tmp_path):
    """Also where neither of them is asked for: the default takes all columns."""
    (tmp_path / "twice.csv").write_text("# data\nx,a,x,y\n1,2,3,4\n")
    for more in ("", 'inputs = ["a"]\n', "inputs = [1]\noutputs = 3\n"):
        with pytest.raises(ConfigurationError, match="line 2: columns 0 and 2 are both called 'x'; rename one"):
            configured(f'[network]\ndata = "twice.csv"\n{more}', tmp_path).problem()
    (tmp_path / "none.csv").write_text("x,,,y\n1,2,3,4\n5,3,1,2\n2,2,2,2\n1,0,1,0\n")
    configured('[network]\ndata = "none.csv"\ninputs = ["x"]\n', tmp_path).problem()


def test_csv_weights_column_is_no_input(points):
    problem = configured('[network]\ndata = "points.csv"\nweights = "age"\n', points).problem()
    x, y = np.array([0.5, -0.25, 1.5, 0.125]), np.array([2, 1, -1, 0.5])
    assert problem.fingerprint() == mf.problems.network(x, y, weights=[1, 2, 3, 4]).fingerprint()


def test_standardised_data_have_mean_zero_and_deviation_one(points):
    x, y = np.array([0.5, -0.25, 1.5, 0.125]), np.array([2, 1, -1, 0.5])
    both, inputs = ((x - x.mean()) / x.std(), (y - y.mean()) / y.std()), ((x - x.mean()) / x.std(), y)
    for value, (u, v) in (("true", both), ('"inputs"', inputs)):
        text = f'[network]\ndata = "points.csv"\ninputs = ["bmi"]\nstandardise = {value}\n'
        assert configured(text, points).problem().fingerprint() == mf.problems.network(u, v).fingerprint()
    labels = np.array([1.0, 1.0, -1.0, 1.0])
    np.savez(points / "labels.npz", x=x, y=labels)
    text = '[network]\ndata = "labels.npz"\nstandardise = true\nloss = "logistic"\n'
    same = mf.problems.network(both[0], labels, loss="logistic")
    assert configured(text, points).problem().fingerprint() == same.fingerprint()


def test_a_network_with_everything(points):
    text = """
    t_end = 3
    [network]
    data = "points.csv"
    inputs = ["bmi"]
    activation = "hermite2"
    loss = "huber"
    delta = 0.5
    tolerance = 1e-10
    half_width = [2, 3, 4]
    axes = {a = [-1, 3]}
    initial = {c = {atom = 0}, b = {distribution = "uniform", lower = -1, upper = 2}}
    [dynamics]
    alpha = {kind = "piecewise-linear", times = [0, 1], values = [2, 0]}
    schedule = {kind = "exponential-decay", initial = 1, time_constant = 2}
    rates = {c = 0.5}
    [dynamics.reinjection]
    kind = "replace"
    measure = {c = {atom = 0}, a = {distribution = "normal", mean = 1, std = 0.2}, b = {atom = 0.5}}
    """
    problem = configured(text, points).problem()
    x, y = np.array([0.5, -0.25, 1.5, 0.125]), np.array([2, 1, -1, 0.5])
    energy = mf.TwoLayerNetwork(
        x, y, activation="hermite2", loss=lambda u, w: mf.HuberLoss(u, w, 0.5), axes=("c", "a", "b"), tolerance=1e-10
    )
    birth = mf.Product(c=0.0, a=stats.norm(1, 0.2), b=0.5)
    same = mf.Problem(
        energy=energy,
        axes=[mf.Axis("c", -2, 2), mf.Axis("a", -1, 3), mf.Axis("b", -4, 4)],
        initial=mf.Product(c=0.0, a=stats.norm(1, 1 / 4), b=stats.uniform(-1, 3)),
        alpha=mf.PiecewiseLinear([0, 1], [2, 0]),
        schedule=lambda t: math.exp(-t / 2),
        reinjection=mf.Reinjection(birth, mf.ReinjectionKind.REPLACE),
        metric=[0.5, None, None],
        t_end=3.0,
    )
    assert problem.fingerprint() == same.fingerprint()
    nodes, weights = problem.reinjection.measure.restrict(problem.axes).nodes(4)
    assert np.average(nodes[:, 1], weights=weights) == pytest.approx(1.0, abs=1e-6)


def test_a_box_that_loses_little_warns_and_one_that_loses_much_is_refused(points):
    text = NETWORK + '[network.initial]\nc = {{distribution = "normal", mean = 0, std = {}}}'
    with pytest.warns(mf.TruncationWarning, match=r"loses 6\.33e-05"):
        configured(text.format(1.0), points).problem()
    assert "loses 0.0455" in refused(text.format(2.0), points)


# ----- refusals

NAMED = 'problem = "linear-neuron"\n'
NETWORK = '[network]\ndata = "points.csv"\ninputs = ["bmi"]\n'

REFUSALS = [
    ("", "needs a problem"),
    ("name = 'x'", "axes is missing: a problem of name needs axes, energy and initial"),
    (WELL.replace("initial", "#"), "initial is missing: a problem of axes and energy needs axes, energy and initial"),
    (WELL + "parameters = {a = 1}", 'parameters belongs to problem = "name"'),
    (WELL + NAMED, "cannot stand beside problem = 'linear-neuron', which has its own; drop one of them"),
    (
        NAMED + 'energy = [{kind = "external"}]',
        "energy = [{'kind': 'external'}] cannot stand beside problem = 'linear-neuron'",
    ),
    (WELL + NETWORK, "cannot stand beside a [network], which has its own keys for it"),
    ("energy = 3", "energy = 3 must be a list"),
    ("energy = [3]", "energy.0 = 3 must be a table"),
    (
        WELL.replace("x**2", "x^2"),
        "run.toml: energy[0].formula: formula '(x^2 - 1)**2': '^' has no place here; write x**2",
    ),
    (WELL.replace("x**2", "open(x)"), "energy[0].formula: formula '(open(x) - 1)**2': function 'open' is unknown"),
    (WELL.replace("std = 0.3", "std = -1"), "initial.x.std = -1 must be greater than 0"),
    (WELL.replace("-2.0", "3.0"), "axes[0]: axis 'x': the interval [3.0, 2.0] must be finite with lower < upper"),
    (WELL + 'dynamics = {alpha = "x"}', "dynamics.alpha.formula: formula 'x': 'x' is unknown; valid: 't', 'pi', 'e'"),
    (WELL + "dynamics = {alpha = []}", "dynamics.alpha = [] must be a number"),
    (WELL + "dynamics = {rates = {x = -1}}", "dynamics.rates.x = -1 must be greater than or equal to 0"),
    (WELL + "dynamics = {rates = {y = 1}}", "dynamics.rates.y: names no axis"),
    (WELL + 'exact = {mass = "x"}', "exact.mass must be a finite number, not 'x'"),
    (
        NETWORK + 'temperature = 0.1\n[dynamics]\ntemperature = "t"',
        "dynamics.temperature = 't' is given in [network] and in",
    ),
    (NETWORK + "temperature = -1", "network.temperature = -1 must be greater than or equal to 0"),
    ("a = ", "is no TOML"),
    ("a = " + "[" * 5000, "nested too deeply"),
    ("a = 1" + "0" * 5000, "is no TOML"),
    ('problem = "three-gausians"', "problem = 'three-gausians' is unknown; did you mean 'three-gaussians'? valid: "),
    ("problem = 3", "problem = 3 must be text"),
    (NAMED + NETWORK, "problem = 'linear-neuron' cannot stand beside a [network] table"),
    (NAMED + "shap = [3]", "shap = [3] is an unknown key; did you mean 'shape'? valid: 'problem', 'shape'"),
    (NAMED + "shape = [3]", "shape = [3] must be at least 4 cells"),
    (NAMED + "shape = 3", "shape = 3 must be at least 4 cells"),
    (NAMED + "shape = []", "shape = [] must be a number of cells or a list of 1 to 4 of them"),
    (NAMED + 'shape = "a"', "shape = 'a' must be a number of cells or a list of 1 to 4 of them"),
    (NAMED + "shape = [4.0]", "shape = [4.0] must be a number of cells or a list of 1 to 4 of them"),
    (NAMED + "t_end = 0", "t_end = 0 must be greater than 0"),
    (NAMED + "t_end = nan", "t_end = nan must be finite"),
    (NAMED + "t_end = 1" + "0" * 400, "must be finite"),
    (NAMED + "t_end = true", "t_end = True must be a number"),
    (NAMED + "t_end = 2020-01-01", "must be a number"),
    (NAMED + "threads = 0", "threads = 0 must be greater than or equal to 1"),
    (NAMED + "max_steps = 1.5", "max_steps = 1.5 must be an integer"),
    (NAMED + "parameters = 3", "parameters = 3 must be a table"),
    (
        NAMED + "[parameters]\nalfa = 1",
        "parameters.alfa = 1 is an unknown parameter of 'linear-neuron'; did you mean 'alpha'",
    ),
    (NAMED + '[parameters]\nalpha = "a"', "parameters.alpha = 'a' must be a number"),
    (NAMED + "[parameters]\nalpha = true", "parameters.alpha = True must be a number"),
    (NAMED + "[parameters]\nalpha = inf", "parameters.alpha = inf must be finite"),
    (NAMED + "[parameters]\nvariance = -1", "parameters: variance must be finite and positive, not -1"),
    ('problem = "single-index"\n[parameters]\nk = 2.5', "parameters.k = 2.5 must be an integer"),
    ('problem = "three-gaussians"\n[parameters]\nstart = "god"', "unknown start 'god'; valid: 'good', 'bad'"),
    ('problem = "gaussian-bumps"\n[parameters]\ncentres = "x"', "parameters.centres = 'x' must be a list"),
    ('problem = "gaussian-bumps"\n[parameters]\ncentres = [[1, "x"]]', "must be a number"),
    (NAMED + "[dynamics]\nalpha = 1", "dynamics belongs to a [network]"),
    (NAMED + "scheme = 3", "scheme = 3 must be a table"),
    (NAMED + '[scheme]\ntransport = "weno"', "scheme.transport = 'weno' is unknown; did you mean 'weno5'?"),
    (
        NAMED + '[scheme]\nmethod = "rk4"',
        "scheme.method = 'rk4' is unknown; valid: 'exponential-ssprk3', 'strang', 'lie'",
    ),
    (NAMED + '[scheme]\ncontroller = "corant"', "did you mean 'courant'?"),
    (NAMED + '[scheme]\nlimiter = "mc"', "scheme.limiter = 'mc' belongs to transport = 'muscl'"),
    (NAMED + '[scheme]\ntransport = "muscl"\nlimiter = "superbee"', "valid: 'minmod', 'van-leer', 'mc'"),
    (NAMED + "[scheme]\ntransport = 'weno5'\ntail_ratio = 0.5", "tail_ratio must be a finite number above 1"),
    (NAMED + '[scheme]\ncontroller = "fixed"', "scheme.dt is missing; controller = 'fixed' needs dt"),
    (NAMED + "[scheme]\ndt = 0.1", "scheme.dt = 0.1 belongs to controller = 'fixed', not to controller = 'error'"),
    (NAMED + "[scheme]\nfraction = 2", "fraction must lie in (0, 1]"),
    (NAMED + "[scheme]\ntolerance = 0", "tolerance must be a finite positive number"),
    (NAMED + "[output]\nsave = 1", "output.save = 1 must be at least 2"),
    (NAMED + "[output]\nsave = 1000000", "at most 100000"),
    (NAMED + "[output]\nsave = [0, nan]", "output.save = [0, nan] must be finite"),
    (NAMED + '[output]\nplot = "gif"', "output.plot = 'gif' must be true, false or a format"),
    (NAMED + '[output]\npath = ""', "output.path = '' must not be empty"),
    ("[network]\n", "network.data is missing"),
    ("[network]\ndata = 3", "network.data = 3 must be text"),
    ('[network]\ndata = "nothing.csv"', "nothing.csv does not exist"),
    ('[network]\ndata = "points.txt"', "is neither .csv nor .npz"),
    ('[network]\ndata = "folder.csv"', "folder.csv is not a regular file"),
    (NETWORK + "[parameters]\nalpha = 1", "parameters belongs to problem ="),
    (NETWORK + 'sha256 = "12"', "network.sha256 = '12' must be 64 hexadecimal digits"),
    (NETWORK + f'sha256 = "{"0" * 64}"', "points.csv has changed: its sha256 is "),
    (NETWORK + 'activation = "tahn"', "network.activation = 'tahn' is unknown; did you mean 'tanh'?"),
    (NETWORK + 'loss = "l2"', "network.loss = 'l2' is unknown; valid: 'squared', 'logistic', 'huber'"),
    (NETWORK + 'loss = "logistic"', "labels must be -1 or 1"),
    (NETWORK + "delta = 1", "network.delta = 1 belongs to loss = 'huber'"),
    (NETWORK + "tolerance = 0.5", "network.tolerance = 0.5 must be 0 or lie between 1e-15 and 1e-2"),
    (NETWORK + 'amplitude = "yes"', "network.amplitude = 'yes' must be true or false"),
    (NETWORK + 'standardise = "all"', "network.standardise = 'all' must be true, false, 'inputs' or 'outputs'"),
    (NETWORK + "half_width = 0", "network.half_width = 0 must be positive"),
    (NETWORK + "half_width = [1, 2]", "network: "),
    (NETWORK + "axes = {a = [2, 1]}", "network.axes.a = [2, 1] must be an interval"),
    (NETWORK + "axes = {d = [1, 2]}", "network: axes.d names no axis; valid: 'c', 'a', 'b'"),
    (NETWORK + "initial = {c = 3}", "network.initial.c = 3 must be a table"),
    (NETWORK + "initial = {c = {}}", "network.initial.c needs a distribution or an atom"),
    (NETWORK + "initial = {c = {atom = 1, std = 2}}", "network.initial.c.std = 2 cannot stand beside an atom"),
    (NETWORK + 'initial = {c = {distribution = "norml"}}', "did you mean 'normal'?"),
    (NETWORK + 'initial = {c = {distribution = "normal", mean = 0}}', "network.initial.c.std is missing"),
    (NETWORK + 'initial = {c = {distribution = "normal", mean = 0, std = 0}}', "std = 0 must be greater than 0"),
    (
        NETWORK + 'initial = {c = {distribution = "normal", mean = 0, std = 1, lower = 0}}',
        "belongs to distribution = 'uniform'",
    ),
    (NETWORK + 'initial = {c = {distribution = "uniform", lower = 1, upper = 1}}', "must lie above lower = 1"),
    (NETWORK + "alpha = -1", "network.alpha = -1 must be greater than or equal to 0"),
    (NETWORK + "alpha = 1\n[dynamics]\nalpha = 2", "dynamics.alpha = 2 is given in [network] and in [dynamics]"),
    (NETWORK + "[dynamics]\nalpha = -2", "dynamics.alpha = -2 must not be negative"),
    (NETWORK + '[dynamics]\nalpha = {kind = "power"}', "dynamics.alpha.kind = 'power' is unknown"),
    (NETWORK + '[dynamics]\nalpha = {kind = "power-law"}', "dynamics.alpha.exponent is missing"),
    (
        NETWORK + '[dynamics]\nalpha = {kind = "power-law", exponent = 1, times = [0]}',
        "belongs to kind = 'piecewise-linear'",
    ),
    (NETWORK + '[dynamics]\nschedule = {kind = "power-law", exponent = -2}', "must be finite and above -1"),
    (NAMED + '[scheme]\nmethod = "implicit-strang"\nconvergence = 2', "convergence must lie in (0, 1), not 2"),
    (NAMED + '[scheme]\nmethod = "implicit-strang"\npotential = "middle"', "scheme.potential = 'middle' is unknown"),
    (NAMED + '[scheme]\nmethod = "strang"\npotential = "start"', "belongs to method = 'implicit-strang'"),
    (NAMED + "[scheme]\nstabilised = true", "belongs to method = 'strang' or 'lie', not to the default"),
    (NAMED + "[scheme]\ntail_ratio = 10", "belongs to transport = 'weno5', not to the default"),
    (NETWORK + '[dynamics]\nreaction = "balance"', "did you mean 'balanced'?"),
    (NETWORK + "[dynamics]\nrates = {a = -1}", "dynamics.rates.a = -1 must be greater than or equal to 0"),
    (NETWORK + "[dynamics]\nrates = {z = 1}", "dynamics.rates.z: names no axis"),
    (NETWORK + "[dynamics.reinjection]\nmeasure = {c = {atom = 0}}", "axis 'a' is missing"),
    (NETWORK.replace("bmi", "bni"), "inputs names column 'bni', which does not exist; did you mean 'bmi'?"),
    (NETWORK.replace('["bmi"]', "[7]"), "inputs names column 7; the columns are 0 to 2"),
    (NETWORK.replace('["bmi"]', '["y"]'), "outputs is missing and the last column is an input"),
    (NETWORK.replace('["bmi"]', "[]"), "network.inputs = [] must name at least one column"),
    (NETWORK.replace('["bmi"]', "[1.5]"), "must be a list of column names or numbers"),
    (NETWORK.replace('["bmi"]', '["age", "bmi"]\noutputs = [1, 2]'), "5 parameters a neuron"),
]


@pytest.mark.parametrize("key", ["d", "start_d"])
def test_a_dimension_may_be_infinite(key, tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(f'problem = "isotropic-gaussians"\n[parameters]\n{key} = inf\n')
    assert load_config(path).problem().parameters[key] == np.inf
    path.write_text(f'problem = "isotropic-gaussians"\n[parameters]\n{key} = nan\n')
    with pytest.raises(ValueError, match=f"{key} must be a number"):
        load_config(path).problem()


@pytest.mark.parametrize(("text", "expected"), REFUSALS, ids=[str(i) for i in range(len(REFUSALS))])
def test_what_does_not_fit_is_refused_in_one_line(text, expected, points):
    (points / "points.txt").write_text(CSV)
    (points / "folder.csv").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert expected in refused(text, points)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "is empty"),
        ("x,y\n", "has a header and no rows"),
        ("1\n2\n", "has one column"),
        ("x,y\n1,2\n3\n", "line 3 has 1 columns, the first line 2"),
        ("x,y\n1,2\n3,nan\n", "line 3 (row 2), column 'y': nan is not finite"),
        ("1,2\n\n-inf,2\n", "line 3 (row 2), column 0: -inf is not finite"),
        ("x,y\n1,2\n3,abc\n", "line 3 (row 2), column 'y': 'abc' is not a number"),
        ("x,y\n1,2\n3,\n", "line 3 (row 2), column 'y': is empty"),
        ("1,abc\n3,4\n", "line 1, column 1: 'abc' is not a number"),
        (b"x,y\n1,2\n\xff,3\n", "line 3 is not UTF-8 text"),
        # as programs write it where the decimal point is a comma; below, the comma is taken for the delimiter
        ("x;y\n1;2\n0,5;2\n", "line 3 (row 2), column 'x': '0,5' is not a number; write decimals with a point"),
        ("x\ty\n1\t2\n0\t-2,5\n", "line 3 (row 2), column 'y': '-2,5' is not a number; write decimals with a point"),
        ("1;2,5\n3;4\n", "line 1, column 0: '1;2' is not a number; write decimals with a point"),
        ("0,5;2,5\n3;4\n", "line 1, column 1: '5;2' is not a number; write decimals with a point"),
    ],
)
def test_csv_data_that_do_not_fit(content, expected, tmp_path):
    raw = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "points.csv").write_bytes(raw)
    message = refused('[network]\ndata = "points.csv"\n', tmp_path)
    assert expected in message
    assert "points.csv" in message


def test_csv_weights_must_not_be_negative_and_constant_columns_not_standardised(tmp_path):
    (tmp_path / "points.csv").write_text("x,y,w\n1,2,1\n1,3,-1\n")
    assert "line 3 (row 2): the weight -1 is negative" in refused(
        '[network]\ndata = "points.csv"\nweights = "w"\n', tmp_path
    )
    text = '[network]\ndata = "points.csv"\ninputs = ["x"]\noutputs = ["y"]\nstandardise = true\n'
    assert "input 0 is constant" in refused(text, tmp_path)
    text = '[network]\ndata = "points.csv"\ninputs = ["x"]\noutputs = ["w"]\nweights = "y"\nstandardise = "outputs"\n'
    configured(text, tmp_path).problem()


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"x": np.ones(3)}, "holds no array 'y'; it holds 'x'"),
        ({"x": np.ones(3), "y": np.ones(2)}, "array 'y' has 2 rows, array 'x' has 3"),
        ({"x": np.ones((3, 1, 1)), "y": np.ones(3)}, "array 'x' has shape (3, 1, 1)"),
        ({"x": np.ones(0), "y": np.ones(0)}, "must be (m,) or (m, p) and not empty"),
        ({"x": np.array([1, np.nan, 2]), "y": np.ones(3)}, "row 1 of array 'x' is not finite"),
        ({"x": np.array(["a", "b"]), "y": np.ones(2)}, "array 'x' holds <U1, not real numbers"),
        ({"x": np.ones(2), "y": np.array([1, None])}, "is not a readable .npz file"),
        ({"x": np.ones(2), "y": np.ones(2) * 1j}, "array 'y' holds complex128"),
        ({"x": np.ones(2), "y": np.ones(2), "weights": np.array([1, -1])}, "row 1 of array 'weights' is negative"),
    ],
)
def test_npz_data_that_do_not_fit(arrays, expected, tmp_path):
    np.savez(tmp_path / "points.npz", **arrays)
    assert expected in refused('[network]\ndata = "points.npz"\n', tmp_path)


def test_npz_that_is_none_or_is_asked_for_columns(tmp_path):
    (tmp_path / "points.npz").write_text("hello")
    assert "is not a readable .npz file" in refused('[network]\ndata = "points.npz"\n', tmp_path)
    assert "inputs selects columns of a .csv file" in refused(
        '[network]\ndata = "points.npz"\ninputs = ["x"]\n', tmp_path
    )


def test_large_files_are_refused_before_they_are_read(tmp_path, monkeypatch):
    with open(tmp_path / "points.csv", "wb") as file:
        file.truncate((512 << 20) + 1)
    assert "points.csv has 536870913 bytes; the limit is 536870912" in refused(
        '[network]\ndata = "points.csv"\n', tmp_path
    )
    with open(tmp_path / "run.toml", "wb") as file:
        file.truncate((1 << 20) + 1)
    with pytest.raises(ConfigurationError, match="the limit is 1048576"):
        load_config(tmp_path / "run.toml")
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros(200_000), y=np.zeros(200_000))
    monkeypatch.setattr("mfpde.runs.data.MAX_DATA_BYTES", 1_000_000)
    assert (tmp_path / "bomb.npz").stat().st_size < 100_000
    assert "its arrays have 3200" in refused('[network]\ndata = "bomb.npz"\n', tmp_path)


def test_files_that_are_none(tmp_path):
    with pytest.raises(ConfigurationError, match=r"no\.toml does not exist"):
        load_config(tmp_path / "no.toml")
    with pytest.raises(ConfigurationError, match="is not a regular file"):
        load_config(tmp_path)
    (tmp_path / "run.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        load_config(tmp_path / "run.toml")


# ----- writing back

ROUND_TRIPS = [
    NAMED,
    NAMED + "shape = [50]\nt_end = 0.3\nthreads = 1\nmax_steps = 100\n[parameters]\nalpha = 0.1\n",
    'problem = "gaussian_bumps"\n[parameters]\ncentres = [[-1, 0], [1, 0.5]]\nweights = [0.5, 0.5]\n[scheme]\n'
    'transport = "muscl"\nlimiter = "minmod"\nmethod = "lie"\ncontroller = "courant"\nfraction = 0.3\n'
    '[output]\nsave = [0.1, 0.2]\nplot = "svg"\npath = "x.h5"\n',
    'problem = "three-gaussians"\n[parameters]\nreinjection = "refill"\n',
    NETWORK,
    NETWORK
    + "standardise = true\nhalf_width = [2, 3, 4]\ninitial = {a = {atom = 0.3}}\naxes = {c = [-1, 2]}\n[dynamics]\n"
    'alpha = {kind = "inverse-log", scale = 0.7}\nreaction = "unbalanced"\nrates = {a = 0.0}\n',
]


@pytest.mark.parametrize("text", ROUND_TRIPS)
def test_written_and_read_again_it_is_the_same_run(text, points):
    first = configured(text, points)
    again = configured(first.toml(), points)
    assert again.tables == first.tables
    complete = first.completed(first.problem())
    written = configured(complete.toml(), points)
    assert written.tables == complete.tables
    for other in (again, complete, written):
        assert other.problem().fingerprint() == first.problem().fingerprint()
        chosen, expected = other.solve_arguments(), first.solve_arguments()
        assert {key: chosen[key] for key in expected} == expected
    # complete: what the defaults stood for is written down
    assert complete.tables.shape == (first.tables.shape or list(first.problem().shape))
    assert {"shape", "t_end", "scheme", "method", "controller", "save"} <= set(written.solve_arguments())
    if first.tables.network is None:
        assert set(complete.tables.parameters) >= {k for k, v in first.problem().parameters.items() if v is not None}
    else:
        assert len(complete.tables.network.sha256) == 64
    assert written.completed(written.problem()).toml() == complete.toml()


def test_reinjection_completes_to_strang():
    configuration = configured('problem = "three-gaussians"\n[parameters]\nreinjection = "refill"\n')
    assert configuration.completed(configuration.problem()).solve_arguments()["method"] == mf.Strang()
    configuration = configured('problem = "three-gaussians"\n')
    assert configuration.completed(configuration.problem()).solve_arguments()["method"] == mf.ExponentialSSPRK3()


def test_paths_are_written_for_where_the_text_will_stand(points):
    (points / "sub").mkdir()
    first = configured(NETWORK, points)
    moved = first.toml(points / "sub")
    assert 'data = "../points.csv"' in moved
    assert configured(moved, points / "sub").problem().fingerprint() == first.problem().fingerprint()


def test_changed_data_are_noticed(points):
    first = configured(NETWORK, points)
    text = first.completed(first.problem()).toml()
    (points / "points.csv").write_text(CSV.replace("0.5,2", "0.5,3"))
    assert "points.csv has changed" in refused(text, points)


# ----- changes by key


def test_changes_by_dotted_key(points):
    changed = named_config("linear-neuron", {"alpha": 0.0, "shape": [40], "scheme.transport": "muscl"})
    assert changed.problem().parameters["alpha"] == 0.0
    assert changed.solve_arguments()["shape"] == [40]
    assert changed.solve_arguments()["scheme"] == mf.Muscl()
    (points / "run.toml").write_text(
        NETWORK + '[scheme]\ntransport = "muscl"\nlimiter = "mc"\ncontroller = "fixed"\ndt = 0.1\n'
    )
    changes = {"half_width": 3.0, "scheme.transport": "weno5", "initial.c.atom": 0.5, "dynamics.reaction": "unbalanced"}
    changed = load_config(points / "run.toml", changes)
    assert [a.upper for a in changed.problem().axes] == [3.0, 3.0, 3.0]
    assert changed.problem().reaction is mf.Reaction.UNBALANCED
    # another transport: the old one's limiter is dropped; the same one: it stays
    assert changed.solve_arguments()["scheme"] == mf.Weno5()
    same = load_config(points / "run.toml", {"scheme.transport": "muscl"}).solve_arguments()
    assert (same["scheme"], same["controller"]) == (mf.Muscl(mf.Limiter.MC), mf.FixedStep(0.1))
    with pytest.raises(ConfigurationError, match=r"data\.x: data = 'points\.csv' must be a table"):
        load_config(points / "run.toml", {"data.x": 1})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-2.5e-1", -0.25),
        ("true", True),
        ("[1, 2.5]", [1, 2.5]),
        ("good", "good"),
        ('"0"', "0"),
        ("{atom = 1}", {"atom": 1}),
        ("1-2", "1-2"),
    ],
)
def test_values_of_the_command_line_are_typed_as_in_toml(text, value):
    parsed = parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize("text", ["", "[1, 2", '"open', "{a", "1\nb = 2"])
def test_values_that_are_none(text):
    with pytest.raises(ConfigurationError, match="is no TOML value"):
        parse_value(text)


# ----- the page


def test_module_paths_in_the_documentation_stay():
    """docs/configuration.md and docs/file-format.md name these modules, whatever the parts are called within."""
    from mfpde import config, storage
    from mfpde.support.files import hdf5

    assert (config.load_config, config.named_config) == (load_config, named_config)
    assert (config.Configuration, config.ConfigurationError) == (Configuration, ConfigurationError)
    assert (storage.FileFormatError, storage.load) == (hdf5.FileFormatError, mf.load)


def test_every_key_is_documented_and_every_example_is_a_run(tmp_path):
    page = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    sections = dict(zip(*[iter(re.split(r"^## (.*)$", page, flags=re.MULTILINE)[1:])] * 2, strict=True))
    own = set(FileTable.OWN)
    documented = set(re.findall(r"^\| `(\w+)` \|", sections["A problem of your own"], flags=re.MULTILINE))
    assert documented == own
    tables = {
        "Top level": FileTable,
        "`[network]`": NetworkTable,
        "`[dynamics]`": DynamicsTable,
        "`[scheme]`": SchemeTable,
        "`[output]`": OutputTable,
    }
    for title, table in tables.items():
        documented = set(re.findall(r"^\| `(\w+)` \|", sections[title], flags=re.MULTILINE))
        keys = set(table.model_fields) - {"parameters", "network", "dynamics", "scheme", "output"}
        assert documented == keys - (own if table is FileTable else set()), title
    kinds = (_energies(Context(["x"]), ""), _kernels(["x"], ""), _axis_kernels(""), _measures(Context(["x"]), ""))
    for names in (TRANSPORTS, METHODS, CONTROLLERS, SCHEDULES, LOSSES):
        for name in names:
            assert name in page
    for registry in kinds:
        for name, kind in registry.items():
            row = next(line for line in page.splitlines() if line.startswith("| ") and f'"{name}"' in line)
            assert [key for key in (*kind.required, *kind.optional) if f"`{key}`" not in page and key not in row] == []
    for name in FUNCTIONS:
        assert f"`{name}`" in page
    examples = re.findall(r"```toml\n(.*?)```", sections["Examples"], flags=re.DOTALL)
    assert len(examples) == 3
    for example in examples:
        configured(example).solve_arguments()
    decayed = next(text for text in re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL) if "strengths" in text)
    (tmp_path / "points.csv").write_text("x,y\n0,1\n1,2\n2,1\n")
    assert configured(decayed, tmp_path).problem().energy.terms[1].strengths == {"c": 0.01, "a": 0.01}
    problem = configured(examples[2]).problem()
    assert problem.name == "tilted-well"
    assert problem.alpha(1.0) == 0.5


def test_data_that_are_gone_or_changed_are_said_when_a_solution_is_loaded(points, monkeypatch):
    """The problem is made of the data in the file; where these are too many for one, what needs it says so."""
    text = '[network]\ndata = "points.csv"\ninputs = ["bmi"]\noutputs = ["y"]\n'
    made = configured(text, points)
    problem = made.problem()
    path, data = points / "run.h5", points / "points.csv"
    toml = made.completed(problem).toml(points)

    def run():
        stream = Stream(path, overwrite=True, configuration={"toml": toml})
        return mf.solve(problem, 6, 0.01, save=2, output=stream, progress=False)

    outputs = run().predict([0.5])
    assert mf.load(path).missing == ""
    kept = data.read_text()
    for now, said in ((None, "are gone .*csv does not exist"), (kept + "9,9,9\n", "are others now .*csv has changed")):
        data.unlink() if now is None else data.write_text(now)
        with pytest.warns(mf.RunWarning, match=rf"the data of the network {said}\); the problem is made of those in "):
            loaded = mf.load(path)
        assert loaded.predict([0.5]) == outputs
        with pytest.warns(mf.RunWarning, match=said):
            assert mf.resume(path, 0.02, output=points / "more.h5", progress=False).times[-1] == 0.02
        (points / "more.h5").unlink()
        shown = CliRunner().invoke(app, ["info", str(path)])
        assert shown.exit_code == 0
        assert re.search(said, " ".join(shown.stderr.split()))
        assert "Warning" not in shown.stderr
    data.write_text(kept)
    monkeypatch.setattr(stored, "MOST_BYTES", 10)
    monkeypatch.setattr(trees, "SHORT", 0)
    run()
    assert mf.load(path).problem is not None
    data.unlink()
    gone = r"gone or changed \(.*points\.csv does not exist\); put the file back as it was"
    with pytest.warns(mf.RunWarning, match="are gone .*; there is no problem$"):
        loaded = mf.load(path)
    assert loaded.problem is None
    assert re.search(gone, loaded.missing)
    with pytest.raises(ValueError, match=gone):
        loaded.predict([0.5])
    with pytest.warns(mf.RunWarning, match="are gone"), pytest.raises(ValueError, match=gone):
        mf.resume(path, 0.02, progress=False)
    with pytest.warns(mf.RunWarning, match="are gone"):
        assert mf.load(path, problem=None).description.tables["energy"][0]["x"] == "an array of shape (4, 1)"
    assert mf.load(path, problem=problem).missing == ""
