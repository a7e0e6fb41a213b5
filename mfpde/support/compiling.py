"""How functions of this package are compiled by numba, and what happens when numba cannot keep what it compiled.

Imported with the first kernels, never by ``import mfpde``; nothing is compiled before it is called. Compiled code is
kept in files (in ``NUMBA_CACHE_DIR``, else beside the modules, else in the user's cache), so that only the first
process compiles. A run does not depend on these files: one that is empty, cut short or changed is compiled again and
replaced; without a folder, or on a full disk, there are none. Either is said once in a process.

With ``NUMBA_DISABLE_JIT=1`` the same functions run as plain Python, see `mfpde.support.interpreted`.
"""

from __future__ import annotations

import functools
import hashlib
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core import event

from mfpde.support.clock import stand_still
from mfpde.support.sources import PACKAGE

__all__ = ["by_class", "compiled", "interpreted", "primitive"]

_said: set[str] = set()


class _Compiling(event.Listener):
    """Notes when functions are compiled, for the clock of time limits: one within another counts once."""

    depth, since = 0, 0.0

    def on_start(self, _: Any) -> None:
        """A function begins to be compiled."""
        if self.depth == 0:
            self.since = time.perf_counter()
        self.depth += 1

    def on_end(self, _: Any) -> None:
        """It is."""
        self.depth -= 1
        if self.depth == 0:
            stand_still(time.perf_counter() - self.since)


event.register("numba:compile", _Compiling())


def _warn_once(kind: str, text: str) -> None:
    if kind in _said:
        return
    _said.add(kind)
    from mfpde.support.session import warn

    warn(text, stacklevel=3)


def interpreted() -> bool:
    """Whether numba is told to compile nothing, and functions stay what they are."""
    return bool(numba.config.DISABLE_JIT)  # type: ignore[attr-defined]


def compiled(*, cache: bool = True, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that compiles a function when it is called.

    Parameters
    ----------
    cache : bool, optional
        Keep what was compiled, for functions that are called from Python. Those which only compiled functions call
        are part of their callers.
    **options
        As `numba.njit` takes them.

    Returns
    -------
    callable
        It takes a function and gives numba's dispatcher of it, or, with ``NUMBA_DISABLE_JIT=1``, the function.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        if interpreted():
            return _as_compiled(function) if cache else function
        dispatcher = numba.njit(**options)(function)
        if cache:
            _keep(dispatcher, function)
        return dispatcher

    return decorate


def primitive(plain: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """A decorator for what compiled functions are made of: an intrinsic, or `plain` where nothing is compiled.

    Calls lack the first argument of the definition, the compiler's context.
    """
    if interpreted():
        return lambda definition: plain
    from numba.extending import intrinsic

    return intrinsic


def by_class(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """A decorator for a function of several variants, of which compiled callers get one by their first argument.

    Parameters
    ----------
    **options
        As `numba.njit` takes them, for all variants.

    Returns
    -------
    callable
        It takes a function, of which only the name and the docstring count, and gives it ``register(*classes)``: a
        decorator of the variant for first arguments of these classes of named tuples. The choice is made when the
        caller is compiled, or, with ``NUMBA_DISABLE_JIT=1``, at every call.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        variants: dict[type, Callable[..., Any]] = {}

        def register(*classes: type) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
            def add(variant: Callable[..., Any]) -> Callable[..., Any]:
                variants.update(dict.fromkeys(classes, getattr(variant, "py_func", variant)))
                return variant

            return add

        @functools.wraps(function)
        def chosen(first: Any, *others: Any) -> Any:
            return variants[type(first)](first, *others)

        if not interpreted():
            from numba.extending import overload

            @overload(chosen, jit_options=options, strict=False)  # type: ignore[arg-type]
            def choose(first: Any, *others: Any) -> Any:
                return variants.get(getattr(first, "instance_class", None))  # type: ignore[arg-type]

        chosen.register = register  # type: ignore[attr-defined]
        return chosen

    return decorate


def _as_compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled code gives inf and NaN without a word."""
    _warn_once(
        "interpreted",
        "NUMBA_DISABLE_JIT is set: compiled functions run as plain Python, about a thousand times slower; unset it for "
        "anything but a look inside",
    )

    @functools.wraps(function)
    def quiet(*arguments: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*arguments)

    return quiet


# ---------------------------------------------------------------------------------------------------------------------
# what was compiled, in files
# ---------------------------------------------------------------------------------------------------------------------


def _keep(dispatcher: Any, function: Callable[..., Any]) -> None:
    """Let numba keep what it compiles, as far as it can."""
    try:
        dispatcher.enable_caching()
    except Exception as error:  # of many kinds: where numba looks for a folder depends on the machine and its version
        own = Path(function.__code__.co_filename).parent / "__pycache__"
        folder = numba.config.CACHE_DIR or own  # type: ignore[attr-defined]
        known = "no locator available" in str(error)  # numba's words for it
        _warn_once("nowhere", _cannot_keep(f"{folder}, nor in the user's cache", None if known else error))
        return
    # a numba that does it otherwise is left to itself
    kept = getattr(dispatcher, "_cache", None)
    if all(hasattr(kept, name) for name in ("load_overload", "save_overload", "flush", "cache_path")):
        dispatcher._cache = _Tolerant(kept)


def _cannot_keep(folder: object, error: Exception | None) -> str:
    why = "" if error is None else f" ({_named(error)})"
    return (
        f"compiled code cannot be kept in {folder}{why}: every process compiles anew, for some seconds; "
        f"set NUMBA_CACHE_DIR to a folder with room that can be written to"
    )


def _named(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


class _Tolerant:
    """A cache of numba's whose files are not to be relied on: no error of theirs gets out."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache
        files = getattr(cache, "_cache_file", None)
        if hasattr(files, "load") and hasattr(files, "save"):
            cache._cache_file = _Sealed(files)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def load_overload(self, signature: Any, context: Any) -> Any:
        """What was compiled for a signature, or None: it is compiled then, and saved."""
        try:
            return self._cache.load_overload(signature, context)
        except Exception as error:  # anything may come out of a damaged file
            self._start_anew(error)
            return None

    def save_overload(self, signature: Any, result: Any) -> None:
        """Save what was compiled, if that is possible."""
        try:
            self._cache.save_overload(signature, result)
        except Exception as error:
            _warn_once("nowhere", _cannot_keep(self._cache.cache_path, error))

    def _start_anew(self, error: Exception) -> None:
        """Forget what the files of this function hold: the index too may be damaged, and is read before a save."""
        folder = self._cache.cache_path
        try:
            self._cache.flush()
        except Exception as cause:
            _warn_once("nowhere", _cannot_keep(folder, cause))
            return
        _warn_once(
            "damaged",
            f"files of compiled code in {folder} are damaged ({_named(error)}) and replaced; if this comes again, "
            f"delete the folder, or set NUMBA_CACHE_DIR to another",
        )


_SOURCES = (
    "equation/energy/gaussian_sums.py",
    "lagrangian/compiled/*.py",
    "mesh/compiled/*.py",
    "mesh/constants.py",
    "particles/kernels.py",
    "support/calls.py",
    "support/lanes.py",
    "support/pointers.py",
)
"""What compiled code is made of. They contain each other's functions, and numba looks at one file only."""


@functools.cache
def _version_of_sources() -> bytes:
    return hashlib.sha256(
        b"".join(file.read_bytes() for name in _SOURCES for file in sorted(PACKAGE.glob(name)))
    ).digest()


class _Sealed:
    """Cache files whose entries carry their checksum, and what they are for.

    A bit that has changed in compiled code would be run. Numba notes an entry before it writes it: where the writing
    fails, the note leads to what an older version has left under that name. And it takes an entry for that of the
    present version if the file of the function is the same, whatever has become of the functions that it calls.
    """

    def __init__(self, files: Any) -> None:
        self._files = files

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)

    def save(self, key: Any, data: Any) -> None:
        """Save the entry of a key."""
        from numba.core.serialize import dumps

        content = dumps((self._source(), key, data))
        self._files.save(key, (hashlib.sha256(content).digest(), content))

    def load(self, key: Any) -> Any:
        """The entry of a key, or None.

        Raises
        ------
        Exception
            Of any kind, if the files are damaged.
        """
        entry = self._files.load(key)
        if not (isinstance(entry, tuple) and len(entry) == 2 and all(isinstance(part, bytes) for part in entry)):
            return None  # there is none, or it is of another version
        checksum, content = entry
        if hashlib.sha256(content).digest() != checksum:
            raise ValueError("a checksum is not right")
        source, kept, data = pickle.loads(content)
        return data if (source, kept) == (self._source(), key) else None

    def _source(self) -> Any:
        """Numba's stamp of the module, and ours of all of them."""
        return getattr(self._files, "_source_stamp", None), _version_of_sources()
