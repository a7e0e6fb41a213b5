"""Words of messages: texts in one line, what was probably meant, numbers with their digits. Importing costs nothing."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

__all__ = ["near_miss", "one_line", "printable", "suggestion", "with_digits"]

MOST_DIGITS = 9


def printable(text: str) -> str:
    """A text that does nothing to a terminal: control characters other than line breaks and tabs are written out.

    So are those that turn the direction of what follows. Texts of files are of whoever wrote the file.
    """
    return _ODD.sub(lambda found: repr(found[0])[1:-1] if _acts(found[0]) else found[0], text)


_ODD = re.compile(r"[^\n\t -~]")
_TURNS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def _acts(character: str) -> bool:
    """Whether a character is not shown but acted upon; repr writes out all of these."""
    control = unicodedata.category(character) in ("Cc", "Zl", "Zp")
    return control or unicodedata.bidirectional(character) in _TURNS


def one_line(said: object) -> str:
    """A text without line breaks and control characters; of an error its message, or its kind where it has none."""
    # the text of a missing key is its repr, in quotation marks
    text = said.args[0] if isinstance(said, KeyError) and said.args else said
    line = printable(" ".join(str(text).split()))
    return line or type(said).__name__ if isinstance(said, BaseException) else line


def near_miss(value: Any, valid: Iterable[Any]) -> str:
    """``did you mean 'x'? ``, with a space at the end; empty where nothing is near."""
    import difflib

    folded = {str(option).casefold(): str(option) for option in valid}
    near = difflib.get_close_matches(str(value).casefold(), folded, n=1, cutoff=0.6)
    return f"did you mean {folded[near[0]]!r}? " if near else ""


def suggestion(value: Any, valid: Iterable[Any]) -> str:
    """``did you mean 'x'? valid: ...``, the first half for near misses only."""
    options = [str(option) for option in valid]
    return f"{near_miss(value, options)}valid: {', '.join(map(repr, options)) if options else 'none'}"


def with_digits(value: float, error: float, most: int = MOST_DIGITS) -> str:
    """A number with the digits that its error leaves, one of them uncertain; at most so many."""
    if not (math.isfinite(error) and error > 0.0 and math.isfinite(value)):
        return f"{value:.{most}g}"
    first = math.floor(math.log10(abs(value))) if value != 0.0 else math.floor(math.log10(error))
    digits = first - math.floor(math.log10(error)) + 1
    return f"{value:.{min(max(digits, 1), most)}g}"
