"""ndarray's operators and methods, each a call of the operation of that name in `ops`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

from . import ops
from ._binary import operator
from ._spelling import spelled_methods
from .graph import Handle

if TYPE_CHECKING:
    from ._tensor import Tensor

Axis = int | Sequence[int] | None


@spelled_methods
class Operators(Handle):
    """Mixed into Tensor."""

    __slots__ = ()

    def _update(self, result: Callable[[], Tensor], form: str) -> Self:
        raise NotImplementedError

    __hash__ = object.__hash__

    def __neg__(self) -> Tensor:
        return ops.negative(self)

    def __pos__(self) -> Tensor:
        return ops.positive(self)

    def __abs__(self) -> Tensor:
        return ops.absolute(self)

    def __invert__(self) -> Tensor:
        return ops.invert(self)

    def __getitem__(self, index: Any) -> Tensor:
        return ops.getitem(self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(value, Handle) and value.node is not None and self.data.dtype.kind != "f":
            raise TypeError(f"`t[i] = v`: a {self.data.dtype} tensor cannot hold a value that requires grad; cast it")
        self._update(lambda: ops.setitem(self, index, value), "t[i] = v")

    def __divmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        return ops.floor_divide(self, other), ops.remainder(self, other)

    def __rdivmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        return ops.floor_divide(other, self), ops.remainder(other, self)

    __add__, __radd__ = operator(ops.add)
    __sub__, __rsub__ = operator(ops.subtract)
    __mul__, __rmul__ = operator(ops.multiply)
    __truediv__, __rtruediv__ = operator(ops.divide)
    __floordiv__, __rfloordiv__ = operator(ops.floor_divide)
    __mod__, __rmod__ = operator(ops.remainder)
    __pow__, __rpow__ = operator(ops.power)
    __matmul__, __rmatmul__ = operator(ops.matmul)
    __and__, __rand__ = operator(ops.bitwise_and)
    __or__, __ror__ = operator(ops.bitwise_or)
    __xor__, __rxor__ = operator(ops.bitwise_xor)
    __lshift__, __rlshift__ = operator(ops.left_shift)
    __rshift__, __rrshift__ = operator(ops.right_shift)
    __lt__, __gt__ = operator(ops.less)[0], operator(ops.greater)[0]
    __le__, __ge__ = operator(ops.less_equal)[0], operator(ops.greater_equal)[0]
    __eq__, __ne__ = operator(ops.equal)[0], operator(ops.not_equal)[0]  # type: ignore[assignment]

    def __iadd__(self, other: Any) -> Self:
        return self._update(lambda: ops.add(self, other), "t += v")

    def __isub__(self, other: Any) -> Self:
        return self._update(lambda: ops.subtract(self, other), "t -= v")

    def __imul__(self, other: Any) -> Self:
        return self._update(lambda: ops.multiply(self, other), "t *= v")

    def __itruediv__(self, other: Any) -> Self:
        return self._update(lambda: ops.divide(self, other), "t /= v")

    def __ifloordiv__(self, other: Any) -> Self:
        return self._update(lambda: ops.floor_divide(self, other), "t //= v")

    def __imod__(self, other: Any) -> Self:
        return self._update(lambda: ops.remainder(self, other), "t %= v")

    def __ipow__(self, other: Any) -> Self:
        return self._update(lambda: ops.power(self, other), "t **= v")

    def __imatmul__(self, other: Any) -> Self:
        return self._update(lambda: ops.matmul(self, other), "t @= v")

    def __iand__(self, other: Any) -> Self:
        return self._update(lambda: ops.bitwise_and(self, other), "t &= v")

    def __ior__(self, other: Any) -> Self:
        return self._update(lambda: ops.bitwise_or(self, other), "t |= v")

    def __ixor__(self, other: Any) -> Self:
        return self._update(lambda: ops.bitwise_xor(self, other), "t ^= v")

    def __ilshift__(self, other: Any) -> Self:
        return self._update(lambda: ops.left_shift(self, other), "t <<= v")

    def __irshift__(self, other: Any) -> Self:
        return self._update(lambda: ops.right_shift(self, other), "t >>= v")

    # methods: reductions

    def sum(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.sum(self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.mean(self, axis=axis, keepdims=keepdims)

    def max(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.max(self, axis=axis, keepdims=keepdims)

    def min(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.min(self, axis=axis, keepdims=keepdims)

    def prod(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.prod(self, axis=axis, keepdims=keepdims)

    def any(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.any(self, axis=axis, keepdims=keepdims)

    def all(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.all(self, axis=axis, keepdims=keepdims)

    def var(self, axis: Axis = None, keepdims: bool = False, ddof: float = 0) -> Tensor:
        return ops.var(self, axis=axis, keepdims=keepdims, ddof=ddof)

    def std(self, axis: Axis = None, keepdims: bool = False, ddof: float = 0) -> Tensor:
        return ops.std(self, axis=axis, keepdims=keepdims, ddof=ddof)

    def argmax(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        return ops.argmax(self, axis=axis, keepdims=keepdims)

    def argmin(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        return ops.argmin(self, axis=axis, keepdims=keepdims)

    def cumsum(self, axis: int | None = None) -> Tensor:
        return ops.cumsum(self, axis=axis)

    def cumprod(self, axis: int | None = None) -> Tensor:
        return ops.cumprod(self, axis=axis)

    # methods: shapes

    @property
    def T(self) -> Tensor:
        """The transpose, all axes reversed."""
        return ops.transpose(self)

    @property
    def mT(self) -> Tensor:
        """The last two axes exchanged."""
        return ops.matrix_transpose(self)

    def reshape(self, *shape: Any) -> Tensor:
        return ops.reshape(self, shape=shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: Any) -> Tensor:
        return ops.transpose(self, axes=axes[0] if len(axes) == 1 else axes or None)

    def ravel(self) -> Tensor:
        return ops.ravel(self)

    def flatten(self) -> Tensor:
        return ops.ravel(self)

    def squeeze(self, axis: Axis = None) -> Tensor:
        return ops.squeeze(self, axis=axis)

    def swapaxes(self, axis1: int, axis2: int) -> Tensor:
        return ops.swapaxes(self, axis1, axis2)

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
        return ops.diagonal(self, offset, axis1, axis2)

    def trace(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
        return ops.trace(self, offset, axis1, axis2)

    def repeat(self, repeats: Any, axis: int | None = None) -> Tensor:
        return ops.repeat(self, repeats, axis)

    # methods: the rest

    def astype(self, dtype: Any) -> Tensor:
        return ops.astype(self, dtype=dtype)

    def copy(self) -> Tensor:
        return ops.copy(self)

    def clip(self, min: Any = None, max: Any = None) -> Tensor:
        return ops.clip(self, min, max)

    def round(self, decimals: int = 0) -> Tensor:
        return ops.round(self, decimals)

    def dot(self, other: Any) -> Tensor:
        return ops.dot(self, other)

    def take(self, indices: Any, axis: int | None = None) -> Tensor:
        return ops.take(self, indices, axis)

    def argsort(self, axis: int | None = -1) -> Tensor:
        return ops.argsort(self, axis=axis)

    def nonzero(self) -> tuple[Tensor, ...]:
        return tuple(ops.nonzero(self))

    def sort(self, axis: int = -1) -> None:
        """Sort in place, in the sense of `t[...] = np.sort(t)`."""
        self._update(lambda: ops.sort(self, axis), "t.sort()")

    def fill(self, value: Any) -> None:
        """Set every element, in the sense of `t[...] = value`."""
        self._update(lambda: ops.setitem(self, ..., value), "t.fill(v)")
