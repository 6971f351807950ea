"""`Words`: places in memory, and what stood there: one call of machine code tells whether all is as it was.

It looks at attributes of Tensors, and at how many refer to an object, where CPython has these numbers: 1 ns each, where
a line of Python takes 12 to 40.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterator

import numpy as np

from ...graph import wrap
from .builtin import builtin, callable_code
from .engine import Compilation

_TEXT = """define i64 @NAME(ptr %words, ptr %nothing) {
entry:
  %number = load i64, ptr %words
  br label %each
each:
  %i = phi i64 [0, %entry], [%next, %look]
  %over = icmp uge i64 %i, %number
  br i1 %over, label %end, label %look
look:
  %twice = mul i64 %i, 2
  %pair = add i64 %twice, 1
  %place.at = getelementptr i64, ptr %words, i64 %pair
  %place = load ptr, ptr %place.at
  %before.at = getelementptr i64, ptr %place.at, i64 1
  %before = load i64, ptr %before.at
  %now = load i64, ptr %place
  %same = icmp eq i64 %now, %before
  %next = add i64 %i, 1
  br i1 %same, label %each, label %end
end:
  %result = phi i64 [1, %each], [0, %look]
  ret i64 %result
}
"""


class Words:
    """Some places, in this order: it does not look behind the first one that has changed, where an object may have gone
    that it led to."""

    def __init__(self) -> None:
        self._code = _compiled()
        self._table = np.zeros(1, np.int64)
        self.same: Callable[[int], int] = _never  # of 0: whether all is as it was noted

    def note(self, places: Iterator[tuple[object, str]]) -> None:
        """Note what stands there now: places are attributes of Tensors, and "references" of any object, from an
        iterator that lets go of them."""
        offsets = _offsets()
        found = [id(thing) + offsets[name] for thing, name in places]  # before any of them is read: who asks, refers
        words = [(place, ctypes.c_int64.from_address(place).value) for place in found]
        table = np.array([len(words), *(number for pair in words for number in pair)], np.int64)
        same = builtin(self._code, table.ctypes.data)
        self._table, self.same = table, same  # side by side, where no Ctrl-C comes between

    def forget(self) -> None:
        """Nothing is as it was."""
        self.same = _never


def _never(_: int) -> int:
    return 0


def available() -> bool:
    """Do these numbers stand there? CPython counts otherwise where threads need no lock."""
    return bool(_offsets())


@functools.cache
def _offsets() -> dict[str, int]:
    """Where they stand, from the beginning of an object; empty if one does not."""
    tensor, found = wrap(np.empty(1)), {}
    for name in ("data", "node", "_grad"):
        mark = object()
        setattr(tensor, name, mark)
        found[name] = [number == id(mark) for number in _content(tensor)]
        setattr(tensor, name, None)
    mark = object()
    before = _content(mark)
    more = [mark]
    found["references"] = [now == then + len(more) for now, then in zip(_content(mark), before, strict=True)]
    once = all(places.count(True) == 1 for places in found.values())
    return {name: 8 * places.index(True) for name, places in found.items()} if once else {}


def _content(thing: object) -> list[int]:
    size = type(thing).__basicsize__ // 8
    return [*(ctypes.c_int64 * size).from_address(id(thing))]


def begin(compilation: Compilation) -> str:
    """Compile what looks, beside other code; its symbol."""
    return callable_code(compilation, compilation.add(_TEXT))


@functools.cache
def _compiled() -> int:
    with Compilation() as compilation:
        return compilation.addresses([begin(compilation)])[0]
