"""Words of messages."""

from __future__ import annotations

import pytest

from mfpde.support.words import one_line, suggestion


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (" two\n  lines\t", "two lines"),
        (ValueError("needs\n a number"), "needs a number"),
        # str() of a missing key is its repr; the first argument of an error of the system is its number
        (KeyError("no object 'steps'"), "no object 'steps'"),
        (OSError(5, "Input/output error"), "[Errno 5] Input/output error"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), None),
        # an error without a message says at least what it is
        (MemoryError(), "MemoryError"),
        (KeyError(), "KeyError"),
        ("", ""),
    ],
)
def test_a_text_or_an_error_in_one_line(said, line):
    assert one_line(said) == (str(said) if line is None else line)


def test_a_near_miss_is_suggested_before_what_is_valid():
    assert suggestion("Muscl", ["weno5", "muscl"]) == "did you mean 'muscl'? valid: 'weno5', 'muscl'"
    assert suggestion("x", ["weno5"]) == "valid: 'weno5'"
    assert suggestion("x", []) == "valid: none"
