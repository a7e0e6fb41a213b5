"""Words of messages."""

from __future__ import annotations

import pytest

from mfpde.support.words import one_line, printable, suggestion


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
        (ValueError("\x1b[2J is no key"), r"\x1b[2J is no key"),
    ],
)
def test_a_text_or_an_error_in_one_line(said, line):
    assert one_line(said) == (str(said) if line is None else line)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\n\ttext", "plain\n\ttext"),
        ("é, \N{GRINNING FACE}, a\N{COMBINING ACUTE ACCENT}", "é, \N{GRINNING FACE}, a\N{COMBINING ACUTE ACCENT}"),
        # colours, the title of a window, a rubout, a line that is overwritten, C1 codes, a bell
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x1b]0;title\a", r"\x1b]0;title\x07"),
        ("safe\b\b\b\bevil\rgood", r"safe\x08\x08\x08\x08evil\rgood"),
        ("\x9b2J\x7f\0", r"\x9b2J\x7f\x00"),
        # what follows is shown from right to left; a line break that is none for `split`
        ("\u202egnp.exe\u2066", r"\u202egnp.exe\u2066"),
        ("one\u2028two", r"one\u2028two"),
    ],
)
def test_nothing_that_acts_on_a_terminal_is_left_in_a_text(text, shown):
    assert printable(text) == shown


def test_a_near_miss_is_suggested_before_what_is_valid():
    assert suggestion("Muscl", ["weno5", "muscl"]) == "did you mean 'muscl'? valid: 'weno5', 'muscl'"
    assert suggestion("x", ["weno5"]) == "valid: 'weno5'"
    assert suggestion("x", []) == "valid: none"
