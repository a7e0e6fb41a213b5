"""Words of messages: texts in one line, and what was probably meant. Importing costs nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["one_line", "suggestion"]


def one_line(said: object) -> str:
    """A text without line breaks; of an error its message, or its kind where it has none."""
    # the text of a missing key is its repr, in quotation marks
    text = said.args[0] if isinstance(said, KeyError) and said.args else said
    line = " ".join(str(text).split())
    return line or type(said).__name__ if isinstance(said, BaseException) else line


def suggestion(value: Any, valid: Iterable[Any]) -> str:
    """``did you mean 'x'? valid: ...``, the first half for near misses only."""
    import difflib

    options = [str(option) for option in valid]
    folded = {option.casefold(): option for option in options}
    near = difflib.get_close_matches(str(value).casefold(), folded, n=1, cutoff=0.6)
    hint = f"did you mean {folded[near[0]]!r}? " if near else ""
    return f"{hint}valid: {', '.join(map(repr, options)) if options else 'none'}"
