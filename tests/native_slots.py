"""Native kernels or NumPy in the slots of the library, as a test wants it; native kernels need llvmlite."""

from __future__ import annotations

import numpy as np

from tinygrad_dl import optim
from tinygrad_dl.compiler.native import eager
from tinygrad_dl.compiler.native.eager import WORTH, Pair

NORM, SOFTMAX, LOG_SOFTMAX, CROSS_ENTROPY, DROPOUT = (
    next(op for op in WORTH if op.name == name)
    for name in ("batch_norm", "softmax", "log_softmax", "cross_entropy", "dropout")
)
DTYPES = [np.float32, np.float64]
BOUND = {np.dtype(np.float32): 1e-6, np.dtype(np.float64): 1e-14}


def raw(op):
    """NumPy's pair, whatever stands in its place."""
    pair = getattr(op.forward, "__self__", None)
    return (pair.numpy_forward, pair.numpy_backward) if isinstance(pair, Pair) else (op.forward, op.backward)


class Slots:
    """Native kernels or NumPy, as a test wants it."""

    def __init__(self, monkeypatch):
        self.patch = monkeypatch
        self.off()
        self.pairs = {op: Pair(op, lambda *arrays, **static: True) for op in WORTH}

    def off(self):
        for op in WORTH:
            for name, function in zip(("forward", "backward"), raw(op), strict=True):
                self.patch.setattr(op, name, function)
        self.patch.setattr(optim.Optimizer, "native", None)

    def on(self):
        for op, pair in self.pairs.items():
            self.patch.setattr(op, "forward", pair.forward)
            self.patch.setattr(op, "backward", pair.backward)
        self.patch.setattr(optim.Optimizer, "native", staticmethod(eager.step))

    def both(self, compute):
        """What NumPy gives, and what the kernels do."""
        self.off()
        want = compute()
        self.on()
        compute()  # the first call of some is NumPy's all the same
        return want, compute()


def agree(got, want, bound=None):
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_array_equal(got[np.isinf(want)], want[np.isinf(want)])
    finite = np.isfinite(want)
    exact = want[finite].astype(np.float64)
    bound = BOUND.get(want.dtype, 0) if bound is None else bound
    assert np.linalg.norm(got[finite] - exact) <= bound * np.linalg.norm(exact)
