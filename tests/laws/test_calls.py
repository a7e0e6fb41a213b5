"""How far it is from `solve` to the flux through a face, counted while it happens; a companion steps likewise."""

import pytest
from shared import python

TRACE = '''
import dataclasses, sys, warnings
warnings.simplefilter("ignore")
import mfpde as mf
import mfpde.mesh.schemes
from mfpde.mesh.compiled import stencils
found, compiler = [], ("support/compiling.py", "support/interpreted.py")

def watch(frame, event, argument):
    """The calls of the package from `solve` to a function that makes fluxes."""
    if event != "call" or (frame.f_code.co_filename, frame.f_code.co_name) not in wanted:
        return
    calls = []
    while frame is not None:
        # what stands in for the compiler, which resolves such calls before anything runs
        if "/mfpde/" in frame.f_code.co_filename and not frame.f_code.co_filename.endswith(compiler):
            calls.append((frame.f_code.co_filename.rpartition("/mfpde/")[2], frame.f_code.co_name))
        if calls and calls[-1] == ("mesh/run.py", "solve"):
            found.append(calls[::-1])
            break
        frame = frame.f_back

wanted = {(stencils.__file__, name) for name in ("points", "muscl_flux", "_upwind_flux", "_fitted_flux")}
wanted.add((sys.modules["mfpde.mesh.schemes"].__file__, "faces"))
sys.setprofile(watch)
try:
    small = {"max_steps": 1, "throw": False, "progress": False, "estimate": False}
    mf.solve(PROBLEM, int(sys.argv[1]), scheme=SCHEME, **small)
finally:
    sys.setprofile(None)
for file, name in max(found, key=len):
    print(file, name)
'''


@pytest.mark.parametrize(
    ("scheme", "flux"),
    [
        (
            "mf.Weno5()",
            ["mesh/compiled/sweep.py sweep", "mesh/compiled/sweep.py _weno_tile", "mesh/compiled/stencils.py points"],
        ),
        (
            "mf.Upwind()",
            [
                "mesh/compiled/sweep.py sweep",
                "mesh/compiled/sweep.py _two_cell_tile",
                "mesh/compiled/stencils.py _upwind_flux",
            ],
        ),
    ],
)
@pytest.mark.parametrize(
    ("problem", "files", "steps"),
    [
        (
            "dataclasses.replace(mf.problems.linear_neuron(), schedule=mf.ExponentialDecay(1.0, 1.0))",
            6,
            ["mesh/solver.py step", "mesh/methods/exponential.py step", "mesh/transport.py rate"],
        ),
        (
            "mf.problems.linear_neuron()",
            8,
            [
                "mesh/run.py _stretch",
                "mesh/program.py advance",
                "mesh/compiled/stepping.py advance",
                "mesh/compiled/stepping.py _made",
                "mesh/compiled/states.py attempt",
                "mesh/compiled/exponential.py unsplit",
                "mesh/compiled/states.py rate",
                "mesh/compiled/moving.py move",
            ],
        ),
    ],
    ids=["pass by pass", "program"],
)
def test_from_solve_to_a_face_flux(scheme, flux, problem, files, steps):
    """Eight calls in six files where Python goes from pass to pass. Compiled code runs as plain Python, to be seen.

    The program is in pieces that are compiled once for all schemes and methods, and takes eight.
    """
    script = TRACE.replace("SCHEME", scheme).replace("PROBLEM", problem)
    done = python("-c", script, "12", environment={"NUMBA_DISABLE_JIT": "1"})
    assert done.returncode == 0, done.stderr
    seen = done.stdout.split("\n")[:-1]
    assert seen == ["mesh/run.py solve", "mesh/run.py complete", *steps, *flux]
    assert len({line.split()[0] for line in seen}) <= files
