"""Which line of the user's program is running, and messages that name it.

A line is kept as `(code object, instruction)`, which costs 0.1 µs to take, and is looked up only when read.
"""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any

import numpy as np

from ._spelling import KEYWORDS

Line = tuple[CodeType, int]

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep

_NUMPY = os.path.dirname(np.__file__) + os.sep

USER_FILES: set[str] = set()  # files met so far that are not this package's: a look costs 0.03 µs
_OWN_FILES: set[str] = set()  # those that are: `startswith` costs three looks, and a call may be 20 frames deep


def user_frame(frame: FrameType) -> FrameType:
    """The innermost frame, from this one outwards, that is neither this package's nor NumPy's."""
    while True:
        file = frame.f_code.co_filename
        if file not in _OWN_FILES:
            if not is_own(file):
                USER_FILES.add(file)
                return frame
            _OWN_FILES.add(file)
        if frame.f_back is None:  # a thread that begins in this package
            return frame
        frame = frame.f_back


def is_own(file: str) -> bool:
    """Is a file this package's, or NumPy's?"""
    return file.startswith((_PACKAGE, _NUMPY))


def user_line(depth: int = 1) -> Line:
    """The innermost running line that is not this package's, at least so many calls outwards."""
    try:
        frame = sys._getframe(depth)
    except ValueError:  # a thread that begins in this package
        frame = sys._getframe(1)
    if frame.f_code.co_filename not in USER_FILES:
        frame = user_frame(frame)
    return frame.f_code, frame.f_lasti


def codes_of(code: CodeType) -> Iterator[CodeType]:
    """A code object and those inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes_of(constant)


def line_number(code: CodeType, instruction: int) -> int:
    """The line of an instruction of a code object."""
    for start, end, line in code.co_lines():
        if start <= instruction < end and line is not None:
            return line
    return code.co_firstlineno


def describe_line(line: Line) -> str:
    """`file.py:12, in train: loss = f(x)`."""
    code, instruction = line
    number = line_number(code, instruction)
    text = linecache.getline(code.co_filename, number).strip()
    where = f"{os.path.basename(code.co_filename)}:{number}, in {code.co_name}"
    return f"{where}: {text}" if text else where


def shortened(text: str) -> str:
    """At most 60 characters of a text."""
    return text if len(text) <= 60 else text[:57] + "..."


def describe(value: Any) -> str:
    """An argument in a message: `float32 (3, 4) 'weight'`, or a short repr of what has no shape."""
    name = getattr(value, "name", None)
    shape = getattr(value, "shape", None)
    if shape is None or not hasattr(value, "dtype"):
        return shortened(repr(value))
    return f"{value.dtype} {tuple(shape)}" + (f" {name!r}" if isinstance(name, str) else "")


_UNREAD = "a parameter whose name begins with _ is not kept: a rule may read its shape, ndim and dtype, and for its "
_UNREAD += "values drop the underscore"
_HINTS = (
    ("could not be broadcast", "shapes must be equal, or 1, axis by axis from the last"),
    ("mismatch in its core dimension", "the last axis of the first must equal the second last of the second"),
    ("cannot reshape", "the new shape must hold the same number of elements; one entry may be -1"),
    ("out of bounds for array of dimension", "axes run from -ndim to ndim - 1"),
    *((before + kind, _UNREAD) for kind in ("Leaf", "Node", "Output") for before in ("'", "type ")),
)


_KINDS = (
    np.exceptions.AxisError, np.linalg.LinAlgError, IndexError, TypeError, ZeroDivisionError, ValueError, RuntimeError,
)  # fmt: skip


def _advice(text: str, static: dict[str, Any]) -> str:
    if "unexpected keyword" in text:
        for wrong, right in KEYWORDS.items():
            if wrong in static:
                return f"; write {right} for {wrong}= (array functions have NumPy's spelling)"
    return next((f"; {hint}" for sign, hint in _HINTS if sign in text), "")


def explain(
    error: Exception, op: str, args: Any, static: dict[str, Any], path: Any = None, line: Line | None = None
) -> Exception:
    """The same kind of exception, saying which op, in which layer, on what, and at which forward line.

    Of other classes than `_KINDS` and NumPy's own, which may need more than a message, the same one with a note."""
    rebuilt = type(error) in _KINDS or type(error).__module__.startswith("numpy.")
    kind = next((kind for kind in _KINDS if isinstance(error, kind)), None) if rebuilt else None
    shown = [describe(a) for a in args] + [f"{k}={v!r}" for k, v in static.items()]
    message = op if path is None else f"{op} in layer {path}"
    message += ("" if kind is None else f": {error}") + _advice(str(error), static)
    message += f"\n  called with ({', '.join(shown)})"
    if line is not None:
        message += f"\n  forward at {describe_line(line)}"
    if kind is not None:
        return kind(message)
    error.add_note(message)
    return error
