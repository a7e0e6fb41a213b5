"""Two-layer networks that PyTorch trains by SGD, widths 64 to 8192, against reference solutions of the mean field."""

from __future__ import annotations

import importlib.util
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mfpde as mf
from mfpde.testing import ParticleRecorder, assert_converges
from validation._runner import Kind, Progress, Study

HEADLINE = "diabetes, full gradient: `assert_converges`"

Array = NDArray[np.float64]
Recorders = list[ParticleRecorder]

TITLE = "PyTorch networks trained by SGD"
REFERENCE = "mf.reference: characteristics, confirmed by a mesh"
EXACT = "exact for independent neurons"
CENTRAL_LIMIT = "mf.fluctuations, the central limit theorem of the neurons"
EULER = "Euler steps of quadrature nodes, formulas of this script"
SCALING = "gradient noise of a step is independent of the others"
PAPER = "Mei, Montanari, Nguyen 1804.06561"

Z = 4.0
"""Standard errors that a claim about a mean allows."""
FALSE_ALARM = 1e-3
"""Of each call of `assert_matches` and `assert_converges`."""


def run(quick: bool, progress: Progress) -> Study:
    """All parts; minutes in full. Without torch, or the data of scikit-learn, one row that says so."""
    for module, package in (("torch", "torch"), ("sklearn", "scikit-learn")):
        if importlib.util.find_spec(module) is None:
            return not_run(f"{package} is not installed")
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    study = Study(
        TITLE,
        f"Networks are `torch.nn.Module`, gradients come from autograd and steps from `torch.optim.SGD` (PyTorch "
        f"{torch.__version__}, one thread). The output is a mean over n neurons and the learning rate is n eps, so "
        "that k steps are the time k eps. Neurons are recorded by `mfpde.testing.ParticleRecorder` and held against "
        "reference solutions. Three causes of a difference are told apart by pairs of runs: *width*, a network of n "
        "neurons against infinitely many that take the same steps; *batch*, a network against one with the same start "
        "and the full gradient (or a wide one on the same samples); *step*, infinitely many neurons that take steps "
        "against the equation in continuous time. (1) Body-mass index against the progression of diabetes, 442 "
        "patients, tanh units, in double precision. (2) Birth-death in the parameters of that network. (3) Two "
        "isotropic Gaussians in 40 dimensions, one fresh sample a step, in single precision.",
        quick,
        progress,
    )
    try:
        study.parts((_diabetes, 0.5), (_events, 0.1), (_gaussians, 0.4))
    finally:
        torch.set_num_threads(threads)
    return study


def not_run(reason: str) -> Study:
    """A study that claims nothing, and says why."""
    study = Study(TITLE, f"Not run: {reason}.", not_run=reason)
    study.report(f"not run: {reason}", "the study", math.nan, expected=math.nan)
    return study


# ---------------------------------------------------------------------------------------------------------------------
# what needs no torch
# ---------------------------------------------------------------------------------------------------------------------


def slope(x: Sequence[float], squares: Sequence[Array]) -> tuple[float, float]:
    """The slope of log root-mean-square on log x, by weighted least squares, and its standard error.

    The variance of the log of a mean of R squares is that of the replicas, and at least that of squares of one normal
    number each, ``psi'(R/2)``: few replicas do not know their own.
    """
    from scipy.special import polygamma

    means = np.array([float(s.mean()) for s in squares])
    own = np.array([float(s.var(ddof=1)) / len(s) for s in squares]) / means**2
    variance = np.maximum(own, polygamma(1, np.array([len(s) for s in squares]) / 2.0))
    weights = 1.0 / polygamma(1, np.array([len(s) for s in squares]) / 2.0)
    u = np.log(np.asarray(x, dtype=float))
    u = weights * (u - np.average(u, weights=weights))
    u = u / (u @ np.log(np.asarray(x, dtype=float)))
    return 0.5 * float(u @ np.log(means)), 0.5 * float(np.sqrt(u**2 @ variance))


def centred(responses: Array, shares: Array) -> Array:
    """Half the mean square distance of replicas (R, m, r) to their mean, unbiased: width without its bias, (R, m)."""
    count = len(responses)
    return 0.5 * count / (count - 1) * ((responses - responses.mean(axis=0)) ** 2) @ shares


def mean_error(values: Array) -> tuple[float, float]:
    """The mean of replicas and its standard error."""
    return float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))


def events(V: Array, rate: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Which neuron each of n becomes a copy of in a birth-death step, one for one; `rate` is alpha times the step.

    Neuron i has an event with probability ``1 - exp(-rate |V_i - mean V|)``: above the mean it becomes a copy of
    another one chosen uniformly, below it another one becomes a copy of it. A neuron that was overwritten has none.
    """
    excess = V - V.mean()
    n = len(V)
    source = np.arange(n)
    pending = rng.random(n) < -np.expm1(-rate * np.abs(excess))
    for i in rng.permutation(np.flatnonzero(pending)):
        if not pending[i]:
            continue
        j = int(rng.integers(n - 1))
        j += j >= i
        if excess[i] > 0:
            source[i] = source[j]
        else:
            source[j], pending[j] = source[i], False
    return source


@dataclass
class _Data:
    """Body-mass index and progression of 442 patients, standardised; distinct inputs with their weights."""

    x: Array
    y: Array
    distinct: Array
    weights: Array
    means: Array

    @classmethod
    def load(cls) -> _Data:
        from sklearn.datasets import load_diabetes

        bundle = load_diabetes()
        x, y = bundle.data[:, bundle.feature_names.index("bmi")], bundle.target
        x, y = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
        distinct, where, counts = np.unique(x, return_inverse=True, return_counts=True)
        return cls(x, y, distinct, counts / len(x), np.bincount(where, y) / counts)

    def problem(self, alpha: float, tolerance: float = 1e-12) -> mf.Problem:
        """Amplitude, weight and bias uniform on (-1, 1): how `torch.nn.Linear(1, n)` draws its own."""
        from scipy import stats

        law = stats.uniform(-1, 2)
        start = mf.Product(c=law, a=law, b=law)
        return mf.problems.network(self.x, self.y, half_width=5.0, initial=start, alpha=alpha, tolerance=tolerance)


def _euler(data: _Data, step: float, alpha: float, times: Array, points: Array, order: int = 12) -> dict[str, Array]:
    """Infinitely many neurons that take steps of length `step`: a gradient step, then the mean effect of the events.

    Gauss-Legendre nodes of the start; the observables have the names of a reference.
    """
    u, v = np.polynomial.legendre.leggauss(order)
    c, a, b = (axis.ravel() for axis in np.meshgrid(u, u, u, indexing="ij"))
    w = np.multiply.outer(np.multiply.outer(v, v), v).ravel() / 8.0
    x, at = data.distinct[:, None], {round(t / step) for t in times}
    found: dict[str, list[Any]] = {"energy": [], _named(data.distinct): [], _named(points): [], MOMENT: []}
    rest = 0.5 * float(np.mean(data.y**2) - data.weights @ data.means**2)
    for k in range(max(at) + 1):
        hidden = np.tanh(x * a + b)
        residual = hidden @ (w * c) - data.means
        if k in at:
            found["energy"].append(0.5 * float(data.weights @ residual**2) + rest)
            found[_named(data.distinct)].append(residual + data.means)
            found[_named(points)].append(np.tanh(points[:, None] * a + b) @ (w * c))
            found[MOMENT].append(float(w @ c**2))
        pull = data.weights * residual
        inner = (1.0 - hidden**2) * c
        c, a, b = c - step * (pull @ hidden), a - step * ((pull * x[:, 0]) @ inner), b - step * (pull @ inner)
        if alpha:
            hidden = np.tanh(x * a + b)
            V = c * ((data.weights * (hidden @ (w * c) - data.means)) @ hidden)
            excess = V - w @ V
            w = w * (1.0 + np.sign(excess) * np.expm1(-alpha * step * np.abs(excess)))
            w = w / w.sum()
    return {name: np.array(values) for name, values in found.items()}


MOMENT = "moment c^2"


def _named(x: Array) -> str:
    return mf.OutputAt(x).name


def _only(reference: mf.Reference, names: Sequence[str], instead: Mapping[str, Array] | None = None) -> mf.Reference:
    """A reference of some of its observables, perhaps with the values of infinitely many neurons that take steps."""
    found = [reference[name] for name in names]
    if instead is not None:
        found = [replace(one, value=instead[one.name]) for one in found]
    return replace(reference, observables=tuple(found))


def _checked(call: Callable[[], Any]) -> tuple[float, str]:
    """How far the worst number is off, in units of what is allowed (infinite if one is too far), and how many."""
    try:
        report = call()
    except AssertionError as error:
        return math.inf, str(error).splitlines()[0]
    rates = f" and {len(report.slopes)} rates" if report.slopes else ""
    return max(row.in_bars for row in report.rows), f"{len(report.rows)} numbers{rates}"


def _half_square(data: _Data, difference: Array) -> Array:
    """``1/2 mean over the data of (f - g)^2``: how far apart two networks are, as the loss measures it."""
    return 0.5 * (difference**2) @ data.weights


# ---------------------------------------------------------------------------------------------------------------------
# diabetes
# ---------------------------------------------------------------------------------------------------------------------


@dataclass
class _Trainer:
    """Trains tanh networks on the diabetes data, replicas side by side."""

    data: _Data
    reference: mf.Reference
    times: Array

    def start(self, n: int, r: int) -> Array:
        """Amplitudes, weights and biases of a replica."""
        return np.random.default_rng([1, n, r]).uniform(-1.0, 1.0, (3, n))

    def drawn(self, batch: int, steps: int, r: int) -> NDArray[np.int64]:
        """The samples of each step of a replica, with replacement."""
        return np.random.default_rng([2, batch, steps, r]).integers(len(self.data.x), size=(steps, batch))

    def run(self, n: int, replicas: int, step: float, batch: int | None, alpha: float = 0.0) -> Recorders:
        """Replica r of width n has the same start whatever else; its batches are the same at every width."""
        import torch

        from validation._torch_networks import TanhNetwork, half_mean_square, train

        data = self.data
        network = TanhNetwork(*torch.from_numpy(np.stack([self.start(n, r) for r in range(replicas)], axis=1)))
        steps = round(self.times[-1] / step)
        full = tuple(torch.from_numpy(array) for array in (data.distinct, data.means, data.weights))
        if batch is None:

            def draw(k: int) -> Any:
                return full[0], full[1]

            def loss(output: Any, y: Any) -> Any:
                return 0.5 * ((output - y) ** 2 @ full[2])

        else:
            order = torch.from_numpy(np.stack([self.drawn(batch, steps, r) for r in range(replicas)], axis=1))
            x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)

            def draw(k: int) -> Any:
                return x[order[k]], y[order[k]]

            loss = half_mean_square
        recorders = [ParticleRecorder(self.reference) for _ in range(replicas)]

        def record(k: int) -> None:
            for r, recorder in enumerate(recorders):
                recorder.record(k * step, {name: p[r] for name, p in network.named_parameters()})

        random = [np.random.default_rng([3, n, r]) for r in range(replicas)]

        def select() -> None:
            V = network.potential(*full).numpy()
            sources = [events(v, alpha * step, g) for v, g in zip(V, random, strict=True)]
            network.replace(torch.from_numpy(np.stack(sources)))

        save = {round(t / step) for t in self.times}
        train(network, n, draw, step, steps, save, record, loss, select if alpha else None)
        return recorders

    def outputs(self, runs: Recorders) -> Array:
        """Outputs at the distinct inputs, (replicas, times, inputs)."""
        return np.stack([run.values(_named(self.data.distinct)) for run in runs])


def _draws(data: _Data) -> float:
    """``1/2 mean of Var c tanh(a x + b)`` at the start: n times what independent draws add to E."""
    u, v = np.polynomial.legendre.leggauss(24)
    square = np.tanh(data.distinct[:, None, None] * u[:, None] + u) ** 2
    return 0.5 / 3.0 * float(data.weights @ np.einsum("i,j,xij->x", v, v, square)) / 4.0


def _energies(runs: Recorders) -> Array:
    return np.stack([run.values("energy") for run in runs])


def _set_up(quick: bool, alpha: float, *, rates: bool) -> tuple[_Trainer, list[float], Array]:
    """What trains towards a reference; when all but the energy is measured; and at which inputs."""
    data = _Data.load()
    times = np.array([0.0, 0.2, 0.4, 0.6, 1.0, 1.4, 2.0] + ([] if quick else [3.0, 4.0, 5.0]))
    late = [t for t in (0.0, 0.4, 1.0, 2.0, 5.0) if t <= times[-1]]
    points = np.array([-2.0, -1.0, 0.0, 1.0, 2.5])
    observables = [
        mf.EnergyAt(times),
        mf.OutputAt(points, late),
        mf.OutputAt(data.distinct, late),
        mf.Moment("c", 2, late),
        *([mf.DecayRate(late[1:])] if rates else []),
    ]
    reference = mf.reference(data.problem(alpha), 1e-3, observables, budget=4 if quick else 15)
    return _Trainer(data, reference, times), late, points


def _converges(
    study: Study, what: str, trainer: _Trainer, points: Array, late: Sequence[float], infinite: Mapping[str, Array],
    step: float, runs: Mapping[int, Recorders],
) -> None:  # fmt: skip
    """Full gradient against infinitely many neurons that take the same steps."""
    is_late = np.isin(trainer.times, late)
    at_late = {name: values if name == "energy" else values[is_late] for name, values in infinite.items()}
    stepped = _only(trainer.reference, ("energy", _named(points), MOMENT), at_late)
    worst, text = _checked(lambda: assert_converges(stepped, runs, false_alarm=FALSE_ALARM))
    claim = f"{what}, full gradient: `assert_converges` in n to infinitely many neurons with steps of {step:g}"
    note = f"largest difference in units of what is allowed; {text}, false alarm {FALSE_ALARM:g}"
    study.at_most(claim, EULER, 1.0, worst, note=note)


def _falls(study: Study, what: str, late: Sequence[float], squares: Mapping[int, Array]) -> None:
    """How outputs of n neurons approach those of infinitely many."""
    for j, t in enumerate(late):
        found, error = slope(list(squares), [values[:, j] for values in squares.values()])
        claim = f"{what}, t = {t:g}: slope in n of the rms distance of outputs to n infinite"
        study.claim(claim, "law of large numbers", -0.5, found, Z * error, note=f"{Z:g} standard errors")


def _diabetes(study: Study) -> None:
    """Widths, batches and steps of SGD on real data."""
    study.progress(0.0, "diabetes, reference")
    trainer, late, points = _set_up(study.quick, 0.0, rates=True)
    data, times, reference = trainer.data, trainer.times, trainer.reference
    step, batch = 0.1, 64
    widths = [64, 256, 1024] if study.quick else [64, 128, 256, 512, 1024, 2048, 4096, 8192]
    several = {n: (16 if study.quick else 64 if n < 512 else 32 if n < 1024 else 16 if n < 8192 else 8) for n in widths}
    controls = {n: min(several[n], max(4096 * 4 // n, 4)) for n in widths}

    # one network as people write it
    study.progress(0.1, "diabetes, two linear layers")
    _same_as_layers(study, trainer, step, batch)

    sgd: dict[int, Recorders] = {}
    full: dict[int, Recorders] = {}
    for k, n in enumerate(widths):
        study.progress(0.1 + 0.5 * k / len(widths), f"diabetes, n = {n}")
        sgd[n] = trainer.run(n, several[n], step, batch)
        full[n] = trainer.run(n, controls[n], step, None)
    infinite = {h: _euler(data, h, 0.0, times, points) for h in (0.2, 0.1, 0.05, 0.025)}
    here = infinite[step]
    is_late = np.isin(times, late)

    energy = {n: _energies(sgd[n]) for n in widths}
    outputs = {n: trainer.outputs(sgd[n]) for n in widths}
    controlled = {n: trainer.outputs(full[n]) for n in widths}
    study.progress(0.6, "diabetes, central limit theorem")
    limit = mf.fluctuations(
        data.problem(0.0, 1e-5), late[-1], save=late[1:], nodes=5, tolerance=1e-2, rtol=1e-4, progress=False
    )
    draws = _draws(data)
    enough = {n: full[n] for n in widths if controls[n] >= 8}
    _converges(study, "diabetes", trainer, points, late, here, step, enough)
    # widths
    width_part = {n: _half_square(data, controlled[n] - here[_named(data.distinct)][is_late]) for n in widths}
    alike = min(controls.values())
    batch_part = {n: _half_square(data, outputs[n][: controls[n]] - controlled[n]) for n in widths}
    total = {n: _half_square(data, outputs[n] - reference[_named(data.distinct)].value) for n in widths}
    step_part = _half_square(data, here[_named(data.distinct)][is_late] - reference[_named(data.distinct)].value)
    _falls(study, "diabetes, full gradient", late, width_part)
    for j, t in enumerate(late):
        mean, error = mean_error(np.concatenate([n * width_part[n][:, j] for n in widths if n >= 128]))
        expected = float(limit.gap[j]) if t else draws
        claim = f"diabetes, full gradient, t = {t:g}: n times half the mean square distance of outputs"
        note = f"{Z:g} standard errors" + ("; 1 % for its nodes" if t else "")
        note += f"; fresh draws would have {float(limit.resampling_gap[j]):.4g}" if t else ""
        source, own = (CENTRAL_LIMIT, 0.01 * expected) if t else (EXACT, 0.0)
        study.claim(claim, source, expected, mean, Z * error + own, note=note)

    # batches and steps at a fixed width
    study.progress(0.75, "diabetes, steps")
    n, count = 256, 16 if study.quick else 32
    steps = list(infinite)[: 3 if study.quick else 4]
    scan = {h: (trainer.run(n, count, h, batch), trainer.run(n, count, h, None)) for h in steps}
    noise = {h: _half_square(data, trainer.outputs(a) - trainer.outputs(b)) for h, (a, b) in scan.items()}
    excess = {h: _energies(a) - _energies(b) for h, (a, b) in scan.items()}
    for j, t in list(enumerate(late))[1:]:
        found, error = slope(steps, [noise[h][:, j] for h in steps])
        claim = f"diabetes, n = {n}, t = {t:g}: slope in the step of the rms distance of SGD to full gradient"
        study.claim(claim, SCALING, 0.5, found, Z * error, note=f"{Z:g} standard errors; batches of {batch}")
    sizes = {b: scan[step][0] if b == batch else trainer.run(n, count, step, b) for b in (16, batch, 256)}
    exact_outputs = trainer.outputs(scan[step][1])
    by_size = {b: _half_square(data, trainer.outputs(run) - exact_outputs) for b, run in sizes.items()}
    for j, t in list(enumerate(late))[1:]:
        found, error = slope(list(sizes), [values[:, j] for values in by_size.values()])
        claim = f"diabetes, n = {n}, t = {t:g}: slope in the batch of the rms distance of SGD to full gradient"
        study.claim(claim, SCALING, -0.5, found, Z * error, note=f"{Z:g} standard errors")
    bias = np.array([infinite[h]["energy"] - reference["energy"].value for h in infinite])
    paired = _energies(scan[0.2][1]) - _energies(scan[0.1][1])
    for t in late[1:]:
        i = int(np.argmin(np.abs(times - t)))
        mean, error = mean_error(paired[:, i])
        expected = float(infinite[0.2]["energy"][i] - infinite[0.1]["energy"][i])
        claim = f"diabetes, full gradient, n = {n}: E({t:g}) with steps of 0.2 less that with steps of 0.1"
        note = f"{Z:g} standard errors; 2 % for n = {n}"
        study.claim(claim, EULER, expected, mean, Z * error + 0.02 * abs(expected), note=note)
    for t in late[1:]:
        i = int(np.argmin(np.abs(times - t)))
        found = math.log(bias[0, i] / bias[-1, i]) / math.log(8.0)
        claim = f"diabetes, n infinite, t = {t:g}: order in the step of the difference of E to the reference"
        note = "from steps of 0.2 to 0.025"
        study.claim(claim, "Euler's method", 1.0, found, 0.1, note=note)

    # SGD against the reference: what each cause may do
    lines: list[tuple[Any, ...]] = []
    for t in (late[2], late[-1]):
        i = int(np.argmin(np.abs(times - t)))
        expected = float(reference["energy"].value[i])
        by_step = float(infinite[step]["energy"][i]) - expected
        by_batch, uncertain = mean_error(excess[step][:, i])
        for n in widths:
            mean, error = mean_error(energy[n][:, i])
            allowed = abs(by_step) + abs(by_batch) + Z * math.hypot(error, uncertain) + draws / n
            claim = f"diabetes, SGD, n = {n}: E({t:g})"
            note = (
                f"step {abs(by_step):.1e}, batch {abs(by_batch):.1e}, width {draws / n:.1e} (what the draws add at the "
                f"start) and {Z:g} standard errors"
            )
            study.claim(claim, REFERENCE, expected, mean, allowed, note=note)
    for k, (start, end) in enumerate(itertools.pairwise(late[1:])):
        n = widths[-1]
        i, j = (int(np.argmin(np.abs(times - t))) for t in (start, end))
        rates = np.stack([run.values("decay rate of the energy") for run in sgd[n]])[:, k]
        mean, error = mean_error(rates)
        expected = float(reference["decay rate of the energy"].value[k])
        by_step = math.log(here["energy"][i] / here["energy"][j]) / (end - start) - expected
        share = np.abs(excess[step].mean(axis=0)) + Z * excess[step].std(axis=0, ddof=1) / math.sqrt(count) + draws / n
        allowed = (share / reference["energy"].value)[[i, j]].sum() / (end - start) + abs(by_step) + Z * error
        claim = f"diabetes, SGD, n = {n}: rate of decay of E from t = {start:g} to {end:g}"
        note = "as for E: step, batch, width, standard errors, over the time between"
        study.claim(claim, REFERENCE, expected, mean, float(allowed), note=note)
    j = len(late) - 1
    for n in widths:
        parts = [float(np.sqrt(v[:, j].mean())) for v in (total[n], width_part[n])]
        # few streams at large n, but the same at every n: their ratio is known better than their size
        ratio = batch_part[n][:alike, j].mean() / batch_part[widths[0]][:alike, j].mean()
        parts.append(math.sqrt(float(ratio * batch_part[widths[0]][:, j].mean())))
        expected = math.sqrt(float(limit.gap[-1]) / n)
        lines.append((n, several[n], parts[0], parts[1], expected, parts[2], math.sqrt(float(step_part[j]))))
    header = ("n", "replicas", "SGD to reference", "width", "width, central limit", "batch", "step")
    text = (
        f"Root of half the mean square distance of outputs over the data at t = {late[-1]:g}, root mean square over "
        f"replicas; steps of {step:g}, batches of {batch}. *Batch* at n > {widths[0]} is in "
        f"proportion to n = {widths[0]}, by the {alike} streams that all widths have."
    )
    study.table("Diabetes: three causes", header, lines, text)
    _draw_energy(study, "energy", "Diabetes", reference, times, energy, here["energy"])
    _draw_width(study, late[-1], widths, lines)
    _draw_steps(study, late[-1], steps, noise, excess, bias, infinite, times, j)


def _same_as_layers(study: Study, trainer: _Trainer, step: float, batch: int) -> None:
    """Two `torch.nn.Linear`, trained alone, and replica 0 of a stack, parameter by parameter."""
    import torch

    from validation._torch_networks import LayeredNetwork, half_mean_square, train

    n, data = 64, trainer.data
    steps = round(trainer.times[-1] / step)
    c, a, b = torch.from_numpy(trainer.start(n, 0))
    network = LayeredNetwork(n).double()
    with torch.no_grad():
        network.outer.weight.copy_(c[None])
        network.hidden.weight.copy_(a[:, None])
        network.hidden.bias.copy_(b)
    order = trainer.drawn(batch, steps, 0)
    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
    recorder = ParticleRecorder(trainer.reference)
    save = {round(t / step) for t in trainer.times}
    train(
        network,
        n,
        lambda k: (x[order[k]], y[order[k]]),
        step,
        steps,
        save,
        lambda k: recorder.record(k * step, network.neurons()),
        half_mean_square,
    )
    stacked = trainer.run(n, 3, step, batch)[0]
    worst = max(float(np.abs(p - q).max()) for p, q in zip(recorder.positions, stacked.positions, strict=True))
    claim = "two torch.nn.Linear and torch.optim.SGD, against a replica of the stack: largest difference"
    note = f"round-off of {steps} steps of parameters of order one; parameter by parameter, at all times"
    study.at_most(claim, "the same steps", 0.0, worst, 1e-13 * steps, note=note)


# ---------------------------------------------------------------------------------------------------------------------
# birth-death
# ---------------------------------------------------------------------------------------------------------------------


def _events(study: Study) -> None:
    """Birth-death in the parameters of the network: V by torch, copies in place between two steps of the optimizer."""
    alpha, step = 5.0, 0.1
    study.progress(0.0, "birth-death, reference")
    trainer, late, points = _set_up(study.quick, alpha, rates=False)
    data, times, reference = trainer.data, trainer.times, trainer.reference
    several = {64: 16, 256: 16} if study.quick else {64: 64, 256: 32, 1024: 16, 4096: 4}
    full: dict[int, Recorders] = {}
    for k, (n, count) in enumerate(several.items()):
        study.progress(0.2 + 0.5 * k / len(several), f"birth-death, n = {n}")
        full[n] = trainer.run(n, count, step, None, alpha)
    here = _euler(data, step, alpha, times, points)
    is_late = np.isin(times, late)
    few = {n: runs for n, runs in full.items() if len(runs) >= 16}
    _converges(study, "birth-death", trainer, points, late, here, step, few)
    infinite = here[_named(data.distinct)][is_late]
    parts = {n: _half_square(data, trainer.outputs(runs) - infinite) for n, runs in full.items()}
    _falls(study, "birth-death", late, parts)
    for t in late[1:]:
        i = int(np.argmin(np.abs(times - t)))
        fine = [_euler(data, h, alpha, times, points)["energy"][i] for h in (0.05, 0.025)]
        first = 2 * fine[1] - fine[0]
        expected = float(reference["energy"].value[i])
        claim = f"birth-death, n infinite, steps to zero: E({t:g})"
        note = "two steps, 0.05 and 0.025; a quarter of their difference and the bar"
        allowed = 0.25 * abs(fine[1] - fine[0]) + float(reference["energy"].bar[i])
        study.claim(claim, REFERENCE, expected, float(first), allowed, note=note)
    draws = _draws(data)
    energy = {n: _energies(runs) for n, runs in full.items()}
    n = 256 if study.quick else 8192
    study.progress(0.75, f"birth-death, SGD, n = {n}")
    sgd = trainer.run(n, 16 if study.quick else 8, step, 64, alpha)
    without = trainer.run(256, 16, step, 64, alpha)
    control = trainer.run(256, 16, step, None, alpha)
    last = _energies(sgd)
    excess = _energies(without) - _energies(control)
    for t in late[1:]:
        i = int(np.argmin(np.abs(times - t)))
        expected = float(reference["energy"].value[i])
        mean, error = mean_error(last[:, i])
        by_batch, uncertain = mean_error(excess[:, i])
        by_step = float(here["energy"][i]) - expected
        allowed = abs(by_step) + abs(by_batch) + Z * math.hypot(error, uncertain) + draws / n
        claim = f"birth-death, SGD, n = {n}: E({t:g})"
        note = (
            f"step {abs(by_step):.1e}, batch {abs(by_batch):.1e} (both measured apart), width {draws / n:.1e} and "
            f"{Z:g} standard errors"
        )
        study.claim(claim, REFERENCE, expected, mean, allowed, note=note)
    energy[n] = last
    _draw_energy(study, "events", f"Birth-death, alpha = {alpha:g}", reference, times, energy, here["energy"])


# ---------------------------------------------------------------------------------------------------------------------
# isotropic Gaussians
# ---------------------------------------------------------------------------------------------------------------------

DIMENSION, DELTA, KAPPA = 40, 0.4, 0.8
MOST = 32
"""Replicas that share the stream of samples over all widths."""


def _stream(
    reference: mf.Reference, n: int, replicas: int, step: float, times: Array, batch: int = 1
) -> tuple[Recorders, Any]:
    """Online SGD: `batch` fresh samples a step. Replica r sees the same samples at every width."""
    import torch

    from validation._torch_networks import RampNetwork, mean_square, train

    network = RampNetwork(torch.from_numpy(_start(n, replicas)).float())
    generator = torch.Generator().manual_seed(round(1 / step) + batch)
    held: list[Any] = []

    def draw(k: int) -> Any:
        if k % 128 == 0:
            labels = 2.0 * torch.randint(2, (128, MOST, batch), generator=generator) - 1.0
            inputs = torch.randn((128, MOST, batch, DIMENSION), generator=generator)
            held[:] = [inputs * (1.0 + DELTA * labels[..., None]), labels]
        return held[0][k % 128, :replicas], held[1][k % 128, :replicas]

    recorders = [ParticleRecorder(reference) for _ in range(replicas)]

    def record(k: int) -> None:
        radii = network.w.detach().norm(dim=-1)
        for recorder, radius in zip(recorders, radii, strict=True):
            recorder.record(k * step, radius)

    save = {round(t / step) for t in times}
    train(network, n, draw, step, round(times[-1] / step), save, record, mean_square)
    return recorders, network


def _responses(problem: mf.Problem, runs: Recorders) -> Array:
    """The mean outputs at the radii of the inputs that the energy sums over, (replicas, times, r)."""
    bound = problem.bound_energy
    return np.stack([[bound.response(x, w) for x, w in zip(run.positions, run.weights, strict=True)] for run in runs])


def _gaussians(study: Study) -> None:
    """One fresh sample a step in 40 dimensions."""
    problem = mf.problems.isotropic_gaussians(DELTA, DIMENSION, KAPPA)
    times = 3.2e-4 * np.array([0, 100, 200] + ([] if study.quick else [400, 800]))
    scales = np.linspace(0.2, 2.2, 101)
    study.progress(0.0, "Gaussians, reference")
    observables = [mf.EnergyAt(times), mf.OutputAt(scales, times), mf.DecayRate(times[1:])]
    reference = mf.reference(problem, 1e-5, observables, budget=15)
    limit = mf.fluctuations(problem, float(times[-1]), save=times[1:], progress=False)
    shares = problem.energy.loss.weights  # type: ignore[attr-defined]
    if study.quick:
        steps, several, middle, wide = (32e-5, 16e-5, 8e-5), {64: 16, 128: 16, 512: 8}, 128, 512
    else:
        several = {64: 32, 128: 32, 256: 16, 512: 16, 1024: 8, 2048: 8, 4096: 8, 8192: 4}
        steps, middle, wide = (16e-5, 8e-5, 4e-5, 2e-5), 512, 4096
    step, widths = steps[-1], list(several)
    runs: dict[int, Recorders] = {}
    networks: dict[int, Any] = {}
    for k, (n, count) in enumerate(several.items()):
        study.progress(0.05 + 0.6 * k / len(several), f"Gaussians, n = {n}")
        runs[n], networks[n] = _stream(reference, n, count, step, times)
    pairs: dict[float, tuple[Recorders, Recorders]] = {}
    for h in steps:
        study.progress(0.65, f"Gaussians, steps of {h:g}")
        if h == step:
            pairs[h] = runs[64][:16], runs[middle]
        else:
            pairs[h] = _stream(reference, 64, 16, h, times)[0], _stream(reference, middle, 16, h, times)[0]

    # the start
    value = reference["energy"].value
    energy = {n: _energies(found) for n, found in runs.items()}
    responses = {n: _responses(problem, found) for n, found in runs.items()}
    points, weights = problem.mu_0.nodes(200)
    mean_field = problem.bound_energy.response(points, weights)
    around = np.concatenate([n * 0.5 * ((responses[n][:, 0] - mean_field) ** 2) @ shares for n in widths])
    mean, error = mean_error(around)
    draws = float(limit.gap[0])
    claim = "Gaussians, t = 0: n times half the mean square distance of outputs, averaged over directions"
    note = f"{Z:g} standard errors"
    study.claim(claim, EXACT, draws, mean, Z * error, note=note)
    unit = mf.problems.PiecewiseLinearUnit((0.5, 1.5), (-2.5, 7.5))
    r = points[:, 0]
    same = 0.5 * weights @ (unit.gaussian_square((1 + DELTA) * r) + unit.gaussian_square((1 - DELTA) * r))
    every = 0.5 * float(same - shares @ mean_field**2)
    outputs = reference[_named(scales)].value
    starts = {n: _start(n, several[n]) for n in widths if n <= middle}
    found = [n * _distance(w, scales, outputs[0]) for n, w in starts.items()]
    mean, error = mean_error(np.concatenate(found))
    claim = "Gaussians, t = 0: n times half the mean square distance of outputs, at single inputs"
    note = f"{Z:g} standard errors; 2 % for 4000 inputs: directions of the weights count here, and not above"
    study.claim(claim, EXACT, every, mean, Z * error + 0.02 * every, note=note)

    # steps to zero, at a fixed width
    scanned = np.stack([_energies(pair[1]) for pair in pairs.values()])
    h = np.array(steps)
    toward = _toward_zero(h, scanned)
    slopes = (scanned - toward).mean(axis=1)[-1] / h[-1]
    for i, t in list(enumerate(times))[1:]:
        mean, error = mean_error(toward[:, i])
        claim = f"Gaussians, n = {middle}, steps to zero: E({t:g})"
        own, own_error = mean_error((energy[64][:16, i] - energy[middle][:16, i]) / (1 / 64 - 1 / middle))
        own = (abs(own) + Z * own_error) / middle
        note = f"{Z:g} standard errors of lines through {len(h)} steps, {own:.1e} for n (from n = 64); at steps of "
        note += f"{step:g} the difference is {abs(slopes[i]) * step:.1e}"
        study.claim(claim, REFERENCE, float(value[i]), mean, Z * error + own, note=note)
    for k in range(len(times) - 2):
        rates = -np.diff(np.log(scanned[:, :, k + 1 : k + 3]), axis=2)[:, :, 0] / (times[k + 2] - times[k + 1])
        mean, error = mean_error(_toward_zero(h, rates[:, :, None])[:, 0])
        claim = f"Gaussians, n = {middle}, steps to zero: rate of decay of E, t = {times[k + 1]:g} to {times[k + 2]:g}"
        expected = float(reference["decay rate of the energy"].value[k])
        study.claim(claim, REFERENCE, expected, mean, Z * error, note=f"{Z:g} standard errors")
    near = [
        centred(_responses(problem, a) - _responses(problem, b), shares) / (1 / 64 + 1 / middle)
        for a, b in pairs.values()
    ]
    toward_gap = _toward_zero(h, np.stack(near))
    for i, t in list(enumerate(times))[1:]:
        mean, error = mean_error(toward_gap[:, i])
        claim = f"Gaussians, same samples, steps to zero, t = {t:g}: n times half the variance of outputs"
        note = f"{Z:g} standard errors; n = 64 less {middle}; {near[-1][:, i].mean():.2e} at steps of {step:g}"
        study.claim(claim, CENTRAL_LIMIT, float(limit.gap[i]), mean, Z * error, note=note)

    # widths
    spread = energy[middle].std(axis=0, ddof=1)
    narrow = [n for n in widths if n < wide / 2]
    pairs_of = {n: min(several[n], several[wide]) for n in narrow}
    excess = {n: (energy[n][:count] - energy[wide][:count]) / (1 / n - 1 / wide) for n, count in pairs_of.items()}
    last = len(times) - 1
    first, first_error = mean_error(excess[64][:, last])
    for n in narrow[1:4]:
        mean, error = mean_error(excess[n][:, last])
        claim = f"Gaussians, same samples: n times the bias of E({times[last]:g}), n = {n} against n = 64"
        note = f"{Z:g} standard errors of both, and 10 % for the next order at n = 64"
        allowed = Z * math.hypot(error, first_error) + 0.1 * abs(first)
        study.claim(claim, "a bias of first order in 1/n", first, mean, allowed, note=note)
    for i in sorted({2, last}):
        by_step, uncertain = abs(slopes[i]) * step, float(np.std((scanned[-1] - toward)[:, i], ddof=1)) / 4.0
        bias, bias_error = mean_error(excess[64][:, i])
        for n in widths[1:]:
            mean, error = mean_error(energy[n][:, i])
            # few replicas do not know their deviation: that of a narrower network is at least as large
            error = max(error, float(spread[i]) / math.sqrt(several[n])) if n > middle else error
            by_width = (abs(bias) + Z * bias_error) / n
            allowed = by_step + by_width + Z * math.hypot(error, uncertain)
            claim = f"Gaussians, SGD, n = {n}: E({times[i]:g})"
            note = f"steps of {step:g} {by_step:.1e}, width {by_width:.1e} (from n = 64), {Z:g} standard errors"
            study.claim(claim, REFERENCE, float(value[i]), mean, allowed, note=note)
    apart = {n: centred(responses[n][:count] - responses[wide][:count], shares) for n, count in pairs_of.items()}
    effective = [1 / (1 / n + 1 / wide) for n in narrow]
    for i, t in enumerate(times):
        got, error = slope(effective, [apart[n][:, i] for n in narrow])
        claim = f"Gaussians, same samples, t = {t:g}: slope in n of the deviation of outputs, less those of n = {wide}"
        note = f"{Z:g} standard errors; against 1/(1/n + 1/{wide})"
        kind = Kind.WITHIN if len(narrow) > 2 else Kind.REPORTED
        study.claim(claim, "law of large numbers", -0.5, got, Z * error, kind=kind, note=note)

    # what does not agree
    study.progress(0.95, "Gaussians, batches")
    larger = _energies(_stream(reference, middle, 16, 16 * step, times, batch=16)[0])
    mean, error = mean_error(larger[:, -1] - toward[:, -1])
    claim = f"Gaussians: n times the bias of E({times[last]:g}) of networks of n neurons"
    note = f"standard error {first_error:.1e}, from n = 64. At the start independent draws add {draws:.3g} to E, as "
    note += f"recorded from the radii, and {every:.3g} to half the risk at single inputs, where directions count"
    study.report(claim, "measured", first, note=note)
    claim = (
        f"Gaussians, n = {middle}: E({times[-1]:g}), 16 samples in steps of {16 * step:g}, less that of steps to zero"
    )
    note = f"standard error {error:.1e}; one sample in steps of {step:g}: {slopes[-1] * step:.1e}. "
    note += "The gradient noise is the same, the larger step adds its own"
    study.report(claim, "measured", mean, note=note)
    lines = []
    for n in widths:
        radial = math.sqrt(float(np.mean(apart[n][:, -1]))) if n in apart else math.nan
        weights_now = networks[n].w.detach().numpy()
        full = math.sqrt(float(np.mean(_distance(weights_now, scales, outputs[-1]))))
        mean, error = mean_error(energy[n][:, -1])
        alone = math.sqrt(float(limit.gap[-1]) / n)
        lines.append((n, several[n], mean, error, radial, alone, full, math.sqrt(every / n)))
    header = (
        "n",
        "replicas",
        f"E({times[-1]:g})",
        "standard error",
        f"to n = {wide}",
        "central limit",
        "single inputs",
        "fresh draws",
    )
    text = (
        f"Steps of {step:g}; the reference has E = {value[-1]:.6f}. Distances are roots of half the mean square. "
        f"*To n = {wide}*: deviation over replicas, averaged over directions, on the same samples. *Central limit*: "
        "what the starts alone leave of it, without gradient noise. *Single inputs*: the network's output against the "
        "reference's, with the directions of the weights; *fresh draws*: what that is at the start."
    )
    study.table(f"Gaussians: widths at t = {times[-1]:g}", header, lines, text)
    _draw_energy(study, "gaussians", "Isotropic Gaussians, one sample a step", reference, times, energy, None)
    _draw_gaussians(study, times, effective, apart, limit.gap, h, scanned, value, middle, wide)


def _start(n: int, replicas: int) -> Array:
    drawn = [np.random.default_rng([4, n, r]).standard_normal((n, DIMENSION)) for r in range(replicas)]
    return np.stack(drawn) * (KAPPA / math.sqrt(DIMENSION))


def _distance(w: Array, scales: Array, outputs: Array) -> Array:
    """Half the mean square distance of each network's output to the mean field's at 4000 inputs, (replicas,)."""
    from scipy.interpolate import CubicSpline

    rng = np.random.default_rng(6)
    labels = np.where(np.arange(4000) % 2, 1.0, -1.0)
    x = rng.standard_normal((4000, DIMENSION)) * (1.0 + DELTA * labels)[:, None]
    expected = CubicSpline(scales, outputs)(np.linalg.norm(x, axis=1) / math.sqrt(DIMENSION))
    found = []
    for each in w:
        pieces = [np.clip(10 * (part @ each.T) - 7.5, -2.5, 7.5).mean(axis=1) for part in np.split(x, 8)]
        found.append(0.5 * float(np.mean((np.concatenate(pieces) - expected) ** 2)))
    return np.array(found)


def _toward_zero(h: Array, values: Array) -> Array:
    """The value at step 0 of lines in the step, one for each replica: (steps, replicas, m) to (replicas, m)."""
    centred = h - h.mean()
    weights = 1.0 / len(h) - h.mean() * centred / (centred @ centred)
    return np.asarray(np.tensordot(weights, values, 1))


# ---------------------------------------------------------------------------------------------------------------------
# figures
# ---------------------------------------------------------------------------------------------------------------------


def _draw_energy(
    study: Study,
    name: str,
    title: str,
    reference: mf.Reference,
    times: Array,
    energy: Mapping[int, Array],
    stepped: Array | None,
) -> None:
    """Energies of all widths; their differences to the reference."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), constrained_layout=True)
    value, bar = reference["energy"].value, reference["energy"].bar
    colours = plt.get_cmap("viridis")(np.linspace(0.0, 0.9, len(energy)))
    for (n, values), colour in zip(energy.items(), colours, strict=True):
        mean, spread = values.mean(axis=0), values.std(axis=0, ddof=1)
        left.errorbar(times, mean, spread, color=colour, marker=".", lw=0.8, capsize=2, label=f"n = {n}")
        right.plot(times[1:], np.sqrt(((values - value) ** 2).mean(axis=0))[1:], color=colour, marker=".")
    left.plot(times, value, "k--", lw=1.5, label="reference")
    left.set(xlabel="t", ylabel="E")
    left.set_title(f"{title}: mean and deviation", fontsize="medium")
    left.legend(fontsize="x-small", ncols=2)
    if stepped is not None:
        right.plot(times[1:], np.abs(stepped - value)[1:], "r:", label="steps alone, n infinite")
    right.fill_between(times[1:], 1e-12, bar[1:], color="0.7", label="bar of the reference")
    lowest = max(float(bar[1:].min()), 1e-7)
    right.set(xlabel="t", ylabel="rms difference of E to the reference", yscale="log", ylim=(0.3 * lowest, None))
    right.legend(fontsize="x-small")
    caption = f"{title}. Left: energies of all widths and the reference. Right: root-mean-square differences."
    study.figure(name, caption, figure)


def _draw_width(study: Study, t: float, widths: Sequence[int], lines: Sequence[Sequence[Any]]) -> None:
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6.4, 4), constrained_layout=True)
    table = np.array([line[2:] for line in lines], dtype=float)
    axis.loglog(widths, table[:, 0], "ko-", label="SGD to reference")
    axis.loglog(widths, table[:, 1], "C0s-", label="width: full gradient to n infinite")
    axis.loglog(widths, table[:, 2], "C0--", label=r"central limit theorem, $n^{-1/2}$")
    axis.loglog(widths, table[:, 3], "C1^-", label="batch: SGD to full gradient, same start and streams")
    axis.loglog(widths, table[:, 4], "C3:", label="step: n infinite to reference")
    axis.set(xlabel="n", ylabel=f"distance of outputs at t = {t:g}", ylim=(0.1 * table[:, 1].min(), None))
    axis.legend(fontsize="small", loc="lower left")
    study.figure("width", "Diabetes: distance of outputs against width, by cause.", figure)


def _draw_steps(
    study: Study,
    t: float,
    steps: Sequence[float],
    noise: Mapping[float, Array],
    excess: Mapping[float, Array],
    bias: Array,
    infinite: Mapping[float, Any],
    times: Array,
    j: int,
) -> None:
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), constrained_layout=True)
    h = np.array(steps)
    rms = np.array([math.sqrt(float(noise[k][:, j].mean())) for k in steps])
    left.loglog(h, rms, "C1^", label="batch: rms distance of outputs")
    left.loglog(h, rms[0] * np.sqrt(h / h[0]), "k--", lw=0.8, label=r"$\epsilon^{1/2}$")
    left.set(xlabel=r"step $\epsilon$", ylabel="distance of outputs", title=f"t = {t:g}")
    left.legend(fontsize="small")
    means = np.array([mean_error(excess[k][:, -1]) for k in steps])
    right.errorbar(h, means[:, 0], 2 * means[:, 1], fmt="C1^", capsize=3, label="batch: E of SGD less full gradient")
    every = np.array(list(infinite))
    right.plot(every, np.abs(bias[:, -1]), "C3o", label="step: |E of Euler steps less reference|, n infinite")
    right.plot(every, np.abs(bias[0, -1]) * every / every[0], "k--", lw=0.8, label=r"$\epsilon$")
    right.set(xlabel=r"step $\epsilon$", ylabel="difference of E", xscale="log", title=f"t = {t:g}")
    right.axhline(0.0, color="0.7", lw=0.5)
    right.legend(fontsize="small")
    for axis in (left, right):
        axis.set_xticks(every, [f"{k:g}" for k in every], minor=False)
        axis.set_xticks([], minor=True)
    caption = "Diabetes: what batches and steps do, against the step. Bars: two standard errors."
    study.figure("steps", caption, figure)


def _draw_gaussians(
    study: Study,
    times: Array,
    effective: Sequence[float],
    apart: Mapping[int, Array],
    gap: Array,
    steps: Array,
    scanned: Array,
    value: Array,
    middle: int,
    wide: int,
) -> None:
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), constrained_layout=True)
    n = np.array(effective)
    for k, i in enumerate((0, 1, len(times) - 1)):
        rms = [math.sqrt(float(values[:, i].mean())) for values in apart.values()]
        left.loglog(n, rms, f"C{k}o", label=f"t = {times[i]:g}")
        left.loglog(n, np.sqrt(gap[i] / n), f"C{k}--", lw=0.8)
    left.loglog(n, rms[0] * np.sqrt(n[0] / n), "k:", lw=0.8, label=r"$n^{-1/2}$")
    left.set(xlabel=f"1/(1/n + 1/{wide})", ylabel="deviation of outputs")
    left.set_title(f"less those of n = {wide}, same samples; dashed: central limit", fontsize="medium")
    left.legend(fontsize="small")
    for k, i in enumerate((1, len(times) // 2, len(times) - 1)):
        gaps = scanned[:, :, i] - value[i]
        error = gaps.std(axis=1, ddof=1) / math.sqrt(gaps.shape[1])
        line = np.polyfit(steps, gaps.mean(axis=1), 1)
        right.errorbar(1e5 * steps, gaps.mean(axis=1), 2 * error, fmt=f"C{k}o", capsize=3, label=f"t = {times[i]:g}")
        right.plot([0, 1e5 * steps[0]], np.polyval(line, [0, steps[0]]), f"C{k}-", lw=0.8)
    right.axhline(0.0, color="k", lw=0.5)
    right.set(xlabel=r"step $\epsilon$, in $10^{-5}$", ylabel="E of SGD less reference", title=f"n = {middle}")
    right.legend(fontsize="small")
    caption = "Isotropic Gaussians. Left: width. Right: steps of one sample; bars: two standard errors."
    study.figure("gaussians-causes", caption, figure)
