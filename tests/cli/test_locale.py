"""Where the decimal point is a comma: numbers are written and read with points all the same."""

from __future__ import annotations

import locale
import re
import shutil
import subprocess

import numpy as np
import pytest
from shared import content, invoke

import mfpde as mf

NAME = "de_DE.UTF-8"
TOML = """
shape = [10, 8]
t_end = 0.05

[network]
data = "points.csv"
outputs = ["y"]
weights = "w"
bias = false
half_width = 2.25

[dynamics]
alpha = {kind = "piecewise-linear", times = [0.0, 0.125], values = [2.5, 0.0]}

[output]
path = "network.h5"
save = [0.0, 0.0125, 0.05]
plot = "svg"
"""
CSV = "x,y,w\n0.5,2.25,1.5\n-0.25,1e-3,0.5\n1.5,-1.75,0.25\n"
LINES = [
    ["run", "network.toml"],
    [
        "run",
        "linear-neuron",
        "--shape",
        "30",
        "--set",
        "alpha=0.5",
        "--t-end",
        "0.05",
        "--save",
        "0,0.025",
        "--no-plot",
    ],
    ["resume", "linear-neuron.h5", "--until", "0.0625"],
    ["info", "linear-neuron.h5"],
    ["info", "linear-neuron.h5", "--toml"],
    ["info", "network.h5", "--toml"],
    ["verify", "linear-neuron.h5"],
    ["compare", "linear-neuron.h5", "--sizes", "20,40", "--replicas", "2", "--dt", "0.025", "-o", "report.json"],
    ["problems", "linear-neuron"],
]


def set_locale():
    try:
        locale.setlocale(locale.LC_ALL, NAME)
    except locale.Error:
        return False
    return True


def compiled(folder, monkeypatch):
    """The locale, where the system has its source only."""
    if shutil.which("localedef") is None:
        return False
    subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", folder / NAME], capture_output=True)
    monkeypatch.setenv("LOCPATH", str(folder))
    return set_locale()


def pretended(monkeypatch):
    """What Python says of the locale, where the system has no other."""
    conventions = {**locale.localeconv(), "decimal_point": ",", "thousands_sep": ".", "grouping": [3, 3, 0]}
    monkeypatch.setattr(locale, "localeconv", lambda: conventions)


@pytest.fixture
def comma(tmp_path_factory, monkeypatch):
    """Sets the locale of the process when it is called."""
    before = locale.setlocale(locale.LC_ALL)

    def begin():
        if not set_locale() and not compiled(tmp_path_factory.mktemp("locales"), monkeypatch):
            pretended(monkeypatch)
        assert locale.localeconv()["decimal_point"] == ","

    yield begin
    locale.setlocale(locale.LC_ALL, before)


def made(folder, monkeypatch):
    """What the commands print, less what differs every time, and what the files hold."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "network.toml").write_text(TOML)
    (folder / "points.csv").write_text(CSV)
    printed = []
    for line in LINES:
        result = invoke(*line)
        assert result.exit_code in (0, 4), (line, result.output)
        printed.append(re.sub(r"[0-9.]+ s\b|\d{4}-\d\d-\d\d.*", "", result.stdout))
    files = {path.name: content(path, volatile=False) for path in folder.glob("*.h5")}
    return printed, files, (folder / "report.json").read_text()


def test_numbers_have_points(tmp_path, monkeypatch, comma):
    expected = made(tmp_path / "point", monkeypatch)
    comma()
    found = made(tmp_path / "comma", monkeypatch)
    assert found[0] == expected[0]
    assert found[1].keys() == expected[1].keys() == {"network.h5", "linear-neuron.h5"}
    assert found == expected
    again = invoke("info", "network.h5", "--toml").stdout
    assert "half_width = 2.25\n" in again
    (tmp_path / "comma" / "again.toml").write_text(again)
    assert invoke("run", "again.toml", "-f", "--no-plot").exit_code == 0
    assert content(tmp_path / "comma" / "network.h5", volatile=False) == found[1]["network.h5"]
    assert np.array_equal(mf.load("network.h5").times, [0.0, 0.0125, 0.05])
    # what other functions of the library write
    picture = (tmp_path / "comma" / "network.svg").read_text()
    assert re.search(r"<!-- -?\d+\.\d+ -->|<!-- \$\\mathdefault\{-?\d+\.\d+\}\$ -->", picture)
    assert not re.search(r"<!-- \S*\d,\d\S* -->", picture)
