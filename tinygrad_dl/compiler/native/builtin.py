"""`builtin`: machine code as a function of Python's own kind, which is called in 0.05 µs; through ctypes it takes 0.3.

The code takes two addresses and gives a number. The first is bound to the function, as `self` is to a method of a class
in C; the function takes the second.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

from . import engine
from .engine import Compilation

_TEXT = """define ptr @NAME(ptr %self, ptr %argument) {
  %first = call ptr @PyLong_AsVoidPtr(ptr %self)
  %second = call ptr @PyLong_AsVoidPtr(ptr %argument)
LEAVE
  %number = call i64 @CODE(ptr %first, ptr %second)
RETURN
  %result = call ptr @PyLong_FromLongLong(i64 %number)
  ret ptr %result
}
"""
_LEAVE, _RETURN = "  %thread = call ptr @PyEval_SaveThread()", "  call void @PyEval_RestoreThread(ptr %thread)"
_DECLARES = {
    "PyLong_AsVoidPtr": "ptr @PyLong_AsVoidPtr(ptr)",
    "PyLong_FromLongLong": "ptr @PyLong_FromLongLong(i64)",
    "PyEval_SaveThread": "ptr @PyEval_SaveThread()",
    "PyEval_RestoreThread": "void @PyEval_RestoreThread(ptr)",
}
_ONE_ARGUMENT = 8  # METH_O


class _Method(ctypes.Structure):
    """CPython's PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("code", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


def callable_code(compilation: Compilation, code: str, release: bool = False) -> str:
    """The symbol of what `builtin` makes a function of. code: the symbol of an `i64 (ptr, ptr)`. release: other threads
    of Python's may run meanwhile."""
    _publish()
    text = _TEXT.replace("CODE", code)
    text = text.replace("LEAVE", _LEAVE if release else "").replace("RETURN", _RETURN if release else "")
    return compilation.add(text, {f"declare i64 @{code}(ptr, ptr)", *(f"declare {d}" for d in _DECLARES.values())})


def builtin(code: int, first: int) -> Callable[[int], int]:
    """The function. code: the address of `callable_code`'s. first: what is bound to it."""
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
    function: Callable[[int], int] = make(ctypes.addressof(_method(code)), first, None)
    return function


@functools.cache
def _method(code: int) -> _Method:
    """Lives as long as the code, for ever: functions that are made of it only point there."""
    return _Method(b"native", code, _ONE_ARGUMENT, None)


@functools.cache
def _publish() -> None:
    """Texts may call what they need of CPython, wherever this process has it."""
    for name in _DECLARES:
        address = ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value
        assert address is not None
        engine.add_symbol(name, address)
