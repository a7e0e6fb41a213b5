"""The mutants that are kept fit the code: each break can be made, and the tests that are to see it exist."""

from __future__ import annotations

import re

import pytest
from mutation import ROOT, kept


def test_there_are_some():
    assert len(kept()) > 200
    assert 0 < len(kept("mfpde/mesh")) < len(kept())


@pytest.mark.parametrize("file", sorted({mutant.file for mutant in kept()}))
def test_they_fit(file):
    source = (ROOT / file).read_text(encoding="utf-8")
    for mutant in kept():
        if mutant.file == file:
            assert mutant.applied(source) != source, mutant.old


def test_their_tests_exist():
    for name in {test for mutant in kept() for test in mutant.tests}:
        path, *parts = name.split("::")
        source = (ROOT / path).read_text(encoding="utf-8")
        for part in parts:
            assert re.search(rf"^\s*(class|def) {part}\b", source, flags=re.M), name


def test_a_break_that_fits_nowhere_is_said():
    mutant = kept()[0]
    with pytest.raises(ValueError, match=r"has 0 times, not once"):
        mutant.applied("")
