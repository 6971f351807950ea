"""Eager training on native kernels: what runs again and again with the same shapes leaves NumPy.

The pairs of the fused operations in `WORTH` are replaced, and an optimizer's step over its parameters becomes one
program. What gives NumPy's bits is compiled when NumPy has worked on it for about as long as compiling takes, the
rest for large arrays at their first call and else never, so that a run gives the same numbers again. Otherwise, and
where llvmlite is missing or TINYGRAD_DL_NATIVE is 0, NumPy runs as ever.

What treats each element alone (dropout, the optimizers) gives NumPy's bits, but for denormal numbers, which are zero
here. Sums are added in another order and exponentials are our own: batch norm, softmax and cross-entropy agree with
NumPy to 1e-6 of their norm in float32 and 1e-14 in float64. No floating-point warnings are given.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from operator import is_
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ... import optim
from ..._tensor import Tensor
from ...fused import Fused
from ...nn import activations, objectives, transformations
from ...optim.optimizer import Optimizer
from ...scope import current
from ..backends import native_wanted
from .paired import Kept, Kernels
from .updating import Ready, Step

# Where a pair takes less than 0.9 of NumPy's time, forward and backward together, in float32 and float64. Kernels sum
# along the last axis, or down the columns of a matrix; along axes in the middle they take twice NumPy's time.
WORTH: dict[Fused, Callable[..., bool]] = {
    transformations._norm: lambda x, eps: x.ndim == 2,
    transformations._dropout: lambda x, p, factor: True,
    activations._softmax: lambda x, axis: axis in (-1, x.ndim - 1) and x.size >= 2**12,
    activations._log_softmax: lambda x, axis: axis in (-1, x.ndim - 1),
    objectives._mean_cross_entropy: lambda x, ignore_index: len(x) >= 128,  # checks of labels are NumPy's
}
LEAST = 2**9  # elements of the first argument: with fewer, calls are all that a pair costs
LARGE = 2**14  # elements from which on the others are compiled at once
EXACT = {transformations._dropout}  # gives NumPy's bits
FACTOR = {transformations._dropout}  # whose backward is one multiplication: NumPy's is as fast
MOST = 2**20  # elements: while a call is recorded, memory holds all that it computes
SIGNATURES = 32  # of an operation, the latest ones: programs keep memory

# Work is counted in elements, each call of NumPy as the elements that it could have had in the meantime.
PAIR_CALLS = 2**14  # 40 µs, of a pair's forward and backward
PAIR_COMPILED = 2**24  # 50 ms
STATE_CALLS = 2**11  # 6 µs, of one parameter's update for each array that the optimizer keeps of it
STEP_WORTH = 2**14  # an optimizer's step with less work is NumPy's
STEP_COMPILED = 2**20  # 3 ms, for each parameter
_NEVER = -(2**62)
_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


class Pair:
    """The forward and backward of a fused operation: NumPy's, and kernels for the signatures that are worth it."""

    def __init__(self, op: Fused, worth: Callable[..., bool]) -> None:
        assert op.forward is not None
        self.op, self.worth = op, worth
        self.numpy_forward, self.numpy_backward = op.forward, op.backward
        self.work: dict[Any, int] = {}  # of NumPy so far, by signature
        self.kernels: dict[Any, Kernels] = {}

    def forward(self, *arrays: Any, **static: Any) -> tuple[Any, Any]:
        x = arrays[0]
        if type(x) is not np.ndarray or not LEAST <= x.size <= MOST or x.dtype not in _DTYPES:
            return self.numpy_forward(*arrays, **static)
        try:
            key = (*[a if a is None else (a.shape, a.dtype) for a in arrays], *static.values())
            kernels = self.kernels.get(key)
        except (AttributeError, TypeError):  # a number in place of an array, an option that has no hash
            return self.numpy_forward(*arrays, **static)
        if kernels is None:
            found = self.numpy_forward(*arrays, **static)  # whatever is wrong with the arguments, NumPy says it
            kernels = self._make(key, arrays, static) if self._due(key, x.size) else None
            if kernels is None:
                return found
        try:
            return kernels.forward(arrays)
        except Exception:  # such as a label outside the classes
            return self.numpy_forward(*arrays, **static)

    def backward(self, g: Any, saved: Any, needs: Any, *arrays: Any, **static: Any) -> Sequence[Any]:
        if type(saved) is Kept:
            try:
                return saved.kernels.backward(g, saved.arrays, needs, arrays)
            except Exception as error:
                _refused(f"backward of {self.op.name}", error)
                saved = self.numpy_forward(*arrays, **static)[1]
        return self.numpy_backward(g, saved, needs, *arrays, **static)  # type: ignore[no-any-return]

    def _due(self, key: Any, size: int) -> bool:
        """Are kernels to be made? Of what gives other bits than NumPy at the first call or never: a run that is
        resumed, or repeated, is to give the same numbers again. Calls with `replaying` on only try things out."""
        if current().replaying:
            return False
        if self.op not in EXACT:
            return size >= LARGE and self.work.get(key, 0) >= 0
        self.work[key] = work = self.work.get(key, 0) + size + PAIR_CALLS
        return work >= PAIR_COMPILED

    def _make(self, key: Any, arrays: tuple[Any, ...], static: dict[str, Any]) -> Kernels | None:
        """Kernels for these shapes, dtypes and options, if they are worth it."""
        if not self.worth(arrays[0], **static):
            self.work[key] = _NEVER
            return None
        try:
            self.kernels[key] = made = Kernels(self.op, arrays, static, self.op in FACTOR)
        except Exception as error:
            self.work[key] = _NEVER
            _refused(self.op.name, error)
            return None
        for others in [*self.kernels.values()]:
            if others is not made:
                others.rest()
        while len(self.kernels) > SIGNATURES:
            del self.kernels[next(iter(self.kernels))]
        return made


class History:
    """An optimizer's steps over the same parameters: NumPy's work so far, then the program in its place."""

    __slots__ = ("compiled", "each", "members", "work")

    def __init__(self, optimizer: Optimizer, members: list[Tensor]) -> None:
        kept = [v for p in members for v in optimizer.state[p].values() if isinstance(v, Tensor)]
        self.members, self.compiled = members, None  # type: tuple[list[Tensor], Step | None]
        self.each = sum(p.data.size for p in members) + STATE_CALLS * len(kept)
        self.work = 0 if self.each >= STEP_WORTH and _is_ours(optimizer) else _NEVER


def _is_ours(optimizer: Optimizer) -> bool:
    """Is its rule the library's? What another rule reads besides its arguments, nobody would look at again."""
    return vars(optim).get(type(optimizer).__name__) is type(optimizer)


_histories: WeakKeyDictionary[Optimizer, History] = WeakKeyDictionary()


def step(optimizer: Optimizer, ready: Ready) -> bool:
    """Take an optimizer's step, or say that NumPy shall."""
    members = [p for p, _ in ready]
    history = _histories.get(optimizer)
    if history is None or len(history.members) != len(members) or not all(map(is_, history.members, members)):
        _histories[optimizer] = history = History(optimizer, members)
    if history.compiled is None:
        history.work += history.each
        if history.work < STEP_COMPILED * len(members):
            return False
        try:
            history.compiled = Step(optimizer, ready)
        except Exception as error:
            history.work = _NEVER
            _refused(f"{type(optimizer).__name__}.step", error)
            return False
    try:
        prepared = history.compiled.prepare()
    except Exception:  # something else than numbers has changed, or NumPy will say what is wrong
        del _histories[optimizer]
        return False
    history.compiled.run(prepared)
    return True


def _refused(name: str, error: Exception) -> None:
    warnings.warn(f"{name} runs as NumPy: no kernel could be made: {error!r}", RuntimeWarning, stacklevel=2)


def install() -> None:
    """Fill the slots of `Fused` and `Optimizer`, if llvmlite is installed and not switched off."""
    if not native_wanted():
        return
    for op, worth in WORTH.items():
        pair = Pair(op, worth)
        op.forward, op.backward = pair.forward, pair.backward
    Optimizer.native = step
