"""`Gradients`: where a compiled step leaves the new gradients of its parameters, and whose memory they may use again.

A gradient that nobody else has seen gets its next value in the array that it has. Where the backend can look at many
places of memory at once (`native/words.py`), it stays attached to its parameter meanwhile; else the step takes it away
before it computes, which shows whether the array is free, and puts it back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from sys import getrefcount
from typing import Any, cast

import numpy as np

from .._tensor import Tensor
from ..graph import Array, unshared, wrap
from .straight import Straight

NOTED = 64  # runs until it is noted again where gradients stand: that takes as long as a small step


class Gradients:
    """found: outputs of a program, by number, and the tensors whose gradients they are. words: `Words`, if the backend
    has any, and leaves all of these outputs in memory that it uses again.

    What is written out has `kept`: do gradients stay attached, with the arrays of the latest run?"""

    def __init__(self, found: Sequence[tuple[int, Tensor]], words: Any) -> None:
        self.found = found
        self.words: Any = words
        self.due = 0  # the run from which on it is noted again where they stand

    @property
    def numbers(self) -> set[int]:
        """Of the outputs."""
        return {i for i, _ in self.found}

    def write_kept(self, text: Straight, usual: str) -> None:
        """Write out whether gradients are where the latest run has left them, and nobody else has them. usual: whether
        the program will use the same memory again."""
        kept = f"{usual} and {text.name(self.words)}.same(0)" if self.words else "False"
        text.lines.append(f"kept = {kept}")

    def write_freed(self, text: Straight) -> None:
        """Write out how arrays are let go, whose memory may be used again, and gradients that others have."""
        if not self.found:
            return
        probe = wrap(np.empty(1))
        probe._grad = wrap(np.empty(1))
        count, nothing = text.name(getrefcount), text.name(np.empty(0))
        with text.block("if not kept:"):
            text.lines += ["free = True", f"grad = {text.name(probe)}._grad", f"alone = {count}(grad)"]
            for _, tensor in self.found:
                text.lines += [
                    f"grad = {text.name(tensor)}._grad",
                    f"if grad is not None and {count}(grad) == alone and grad.node is None: grad.data = {nothing}",
                    f"else: {text.name(tensor)}._grad = None; free = False",
                ]

    def write_new(self, text: Straight, result: str) -> None:
        """Write out how the new ones are put in their places, and `result`."""
        text.lines.append(f"result = {result}")
        if not self.found:
            return
        with text.block("if not kept:"):
            for i, tensor in self.found:
                text.lines += [
                    f"grad = {text.name(tensor)}._grad",
                    f"if grad is None: {text.name(tensor)}._grad = {text.name(wrap)}(outputs[{i}])",
                    f"else: grad.data = outputs[{i}]",
                ]
            if self.words:
                own = text.name(self)
                with text.block(f"if free and self.runs >= {own}.due:"):
                    text.lines += ["grad = outputs = None", f"{own}.note(self.runs)"]

    def note(self, runs: int) -> None:
        """Note where gradients stand, at the end of a run."""
        self.due = runs + NOTED
        self.words.note(self._places())

    def _places(self) -> Iterator[tuple[Tensor | Array, str]]:
        for _, tensor in self.found:
            grad = cast(Tensor, tensor._grad)
            yield from ((tensor, "_grad"), (grad, "references"), (grad, "node"), (grad, "data"))
            yield grad.data, "references"

    def clear(self) -> None:
        """There are none, after a run that has ended in the middle."""
        for _, tensor in self.found:
            tensor._grad = None


def own_gradient(tensor: Tensor) -> Array:
    """The array of its gradient, which a run may write over: a copy, if somebody else has it."""
    grad = cast(Tensor, tensor._grad)
    if getrefcount(grad) != _ALONE or grad.node is not None or not unshared(grad) or not grad.data.flags.carray:
        tensor._grad = grad = wrap(grad.data.copy())
    return grad.data


def _alone() -> int:
    tensor = wrap(np.empty(1))
    tensor._grad = wrap(np.empty(1))
    grad = tensor._grad
    return getrefcount(grad)


_ALONE = _alone()  # how many refer to a gradient there if nobody else does; differs between Python's versions
