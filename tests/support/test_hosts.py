"""Where a run takes place: signals that belong to others, streams that are missing, closed, full or read by nobody."""

import errno
import io
import os
import signal
import subprocess
import sys
import warnings

import pytest
from shared import ROOT

import mfpde as mf
from mfpde.cli import main

RUN = ["run", "linear-neuron", "--shape", "40", "--t-end", "0.1", "--save", "2", "--no-plot", "-o", "run.h5"]

# every test works in a folder of its own
pytestmark = pytest.mark.usefixtures("folder")


def command(*arguments):
    """The exit code of a command line in this process."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code


def process(line, folder):
    """A line of the shell, in which mfpde is the command."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    line = f"mfpde() {{ '{sys.executable}' -m mfpde \"$@\"; }}; {line}"
    options = {"capture_output": True, "text": True, "timeout": 120, "env": environment, "cwd": folder}
    return subprocess.run(["bash", "-c", line], **options)


def small(**options):
    return mf.solve(mf.problems.linear_neuron(), 40, 0.1, save=2, **options)


# ----- signals


@pytest.mark.parametrize("owned", [{signal.SIGINT, signal.SIGTERM}, {signal.SIGTERM}])
def test_signals_of_a_host_stay_with_it(monkeypatch, owned):
    """A handler that C has set before Python began is None to Python, and None cannot be set."""
    real, seen = signal.getsignal, signal.signal
    before = real(signal.SIGINT)
    changed = []

    def get(number):
        return None if number in owned else real(number)

    def put(number, handler):
        was = get(number)
        changed.append(number)
        seen(number, handler)  # TypeError for None
        return was

    monkeypatch.setattr(signal, "getsignal", get)
    monkeypatch.setattr(signal, "signal", put)
    assert small(progress=False).result is mf.Result.SUCCESS
    assert not owned & set(changed)
    assert real(signal.SIGINT) is before


def test_no_signals_in_an_interpreter_within_another(monkeypatch):
    def refuse(number, handler):
        raise ValueError("signal only works in main thread of the main interpreter")

    monkeypatch.setattr(signal, "signal", refuse)
    assert small(progress=False).result is mf.Result.SUCCESS


# ----- streams and the progress bar


class Stream(io.StringIO):
    """A terminal that does `fails` when it is written to, asked or flushed."""

    def __init__(self, fails=None, asked=True):
        super().__init__()
        self.fails, self.asked = fails, asked

    def write(self, text):
        if self.fails is not None:
            raise self.fails
        return super().write(text)

    def flush(self):
        if self.fails is not None:
            raise self.fails

    def isatty(self):
        if isinstance(self.asked, Exception):
            raise self.asked
        return self.asked


def closed():
    stream = Stream()
    stream.close()
    return stream


STREAMS = {
    "none": lambda: None,
    "closed": closed,
    "full": lambda: Stream(OSError(errno.ENOSPC, "No space left on device")),
    "read by nobody": lambda: Stream(BrokenPipeError(errno.EPIPE, "Broken pipe")),
    "odd": lambda: Stream(RuntimeError("the window was closed"), ValueError("I/O operation on closed file")),
    "no stream": lambda: object(),
}


@pytest.mark.parametrize("progress", [None, True])
@pytest.mark.parametrize("kind", STREAMS)
def test_no_run_ends_with_its_progress_bar(monkeypatch, kind, progress, tmp_path):
    monkeypatch.setattr(sys, "stderr", STREAMS[kind]())
    solution = small(progress=progress)
    assert solution.result is mf.Result.SUCCESS
    problem = mf.problems.linear_neuron(alpha=0.0)
    exact = mf.characteristics(problem, t_end=0.1, save=2, tolerance=1e-3, progress=progress)
    assert exact.converged
    assert len(mf.fluctuations(problem, t_end=0.1, save=2, tolerance=1e-2, progress=progress).times) == 2
    assert mf.particles.simulate(problem, n=10, t_end=0.1, dt=0.05, progress=progress).times[-1] == 0.1
    if progress:
        mf.animate(solution, tmp_path / "film.gif", progress=progress)


@pytest.mark.parametrize("name", ["__init__", "start", "update", "stop"])
def test_a_bar_that_raises_ends_no_run(monkeypatch, name):
    from rich.progress import Progress

    def fail(*arguments, **options):
        raise RuntimeError("the bar")

    monkeypatch.setattr(Progress, name, fail)
    monkeypatch.setattr(sys, "stderr", Stream())
    assert small(progress=True).result is mf.Result.SUCCESS


def test_a_bar_hides_no_error_of_the_run(monkeypatch):
    monkeypatch.setattr(sys, "stderr", STREAMS["full"]())

    def stop(snapshot):
        raise OSError("of the user")

    with pytest.raises(OSError, match="of the user"):
        small(progress=True, stop=stop)


def test_what_is_printed_meanwhile_goes_where_it_goes(monkeypatch):
    """Above the bar on a terminal; into a file otherwise, and not to the terminal of the bar."""
    monkeypatch.setattr(sys, "stderr", Stream())
    monkeypatch.setattr(sys, "stdout", Stream(asked=False))
    small(progress=True, stop=lambda snapshot: print("one step"))
    assert "one step" in sys.stdout.getvalue()
    assert "one step" not in sys.stderr.getvalue()
    assert "linear-neuron" in sys.stderr.getvalue()


def test_a_warning_that_cannot_be_shown_ends_no_run():
    def show(*arguments, **options):
        raise ValueError("I/O operation on closed file")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        found = mf.characteristics(mf.problems.double_well(), t_end=2.0, save=2, max_nodes=60, progress=False)
    assert not found.converged


# ----- the command line


def test_a_full_disk_under_the_output(folder):
    """The run is saved and says so by its file, whatever becomes of the table."""
    found = process(f"mfpde {' '.join(RUN)} > /dev/full", folder)
    *warnings, last = found.stderr.splitlines()  # its mesh is coarse
    assert last == "mfpde: the output could not be written: No space left on device"
    assert all(line.startswith("warning: ") for line in warnings)
    assert found.returncode == 1
    assert mf.verify("run.h5").ok
    for line in ("problems", "--help", "cite linear-neuron"):
        found = process(f"mfpde {line} > /dev/full", folder)
        assert (found.returncode, found.stderr.count("\n")) == (1, 1), found.stderr
        assert "No space left on device" in found.stderr
    found = process("mfpde verify nosuch.h5 2> /dev/full; mfpde run nosuch > /dev/full", folder)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("mfpde: ")
    assert process("mfpde verify nosuch.h5 2> /dev/full", folder).returncode == 2


def test_the_exit_code_is_that_of_the_run(monkeypatch, capsys):
    for fails in (OSError(errno.ENOSPC, "No space left on device"), BrokenPipeError(errno.EPIPE, "Broken pipe")):
        monkeypatch.setattr(sys, "stdout", Stream(fails))
        assert command(*RUN, "--max-steps", "2", "-f") == 3
        assert "the run failed" in capsys.readouterr().err
        assert command(*RUN, "-f") == 1
        said = capsys.readouterr().err
        assert said.count("could not be written") == (not isinstance(fails, BrokenPipeError))
        assert command(*RUN, "-f", "-q") == 0
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert command(*RUN, "-f") == 0
    assert command("run", "nosuch") == 2
    for stream in (sys.stdout, sys.stderr):  # opened in their place
        stream.close()


def test_standard_streams_that_are_closed(folder):
    """The numbers of closed streams are the next files': a message to standard error would go into the results."""
    code = (
        "from mfpde.cli import main\n"
        f"try:\n    main({RUN!r})\n"
        "except SystemExit as end:\n"
        "    with open('after.txt', 'w') as file:\n"
        "        file.write(f'{end.code} {file.fileno() > 2}')\n"
    )
    (folder / "host.py").write_text(code)
    process(f"'{sys.executable}' host.py <&- >&- 2>&-", folder)
    assert (folder / "after.txt").read_text() == "0 True"
    assert mf.verify("run.h5").ok


def test_letters_that_the_output_does_not_have(monkeypatch):
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding="cp1252"))
    assert command(*RUN[:-1], "\u03c4.h5") == 0
    assert b"written: \\u03c4.h5" in buffer.getvalue()


@pytest.mark.parametrize(
    "error", [EOFError("of a file"), BrokenPipeError(errno.EPIPE, "of another"), RuntimeError("of ours")]
)
def test_only_an_interrupt_is_one(monkeypatch, error):
    """The parser takes every EOFError for Ctrl-C, and every broken pipe for that of the output."""

    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(mf, "verify", fail)
    monkeypatch.setattr("mfpde.verification.laws.verify", fail)
    if isinstance(error, OSError):  # refused, in one line
        assert command("verify", "run.h5") == 2
    else:
        with pytest.raises(type(error), match="of "):
            main(["verify", "run.h5"])
    monkeypatch.setattr("mfpde.problems.names", fail)
    with pytest.raises(type(error), match="of "):
        main(["problems"])


def test_a_host_without_arguments(monkeypatch):
    for arguments in ([], None):
        monkeypatch.setattr(sys, "argv", arguments) if arguments is not None else monkeypatch.delattr(sys, "argv")
        assert small(progress=False).provenance["volatile"]["command"] == ""
