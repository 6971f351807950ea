"""Layers with state or structure: Linear, BatchNorm1d, Dropout, GaussianNoise, Sequential and their relatives."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from .._tensor import Tensor
from ..random import Source, generator, normal
from . import functional as F
from .initializers import initializer
from .module import Module
from .state import Buffer, Parameter
from .transformations import check_dropout


class Linear(Module):
    """x Wᵀ + b: (..., in_features) to (..., out_features); weight (out, in), bias (out,).

    bias: set it to False before a batch norm, which would cancel it. init: for the weight, a name in `nn.init` or a
        function that writes a tensor; default He normal, for ReLU. The bias starts at zero. dtype: default float32.
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, init: Any = None, dtype: Any = None
    ) -> None:
        for name, value in (("in_features", in_features), ("out_features", out_features)):
            if not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"Linear: expected {name} >= 1, got {value!r}")
        self.in_features, self.out_features = in_features, out_features
        dtype = np.dtype(dtype or np.float32)
        self.weight = Parameter(np.zeros((out_features, in_features), dtype))
        initializer(init or "he_normal_")(self.weight)
        self.bias = Parameter(np.zeros(out_features, dtype)) if bias else None

    def forward(self, x: Any) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}" + ("" if self.bias is not None else ", bias=False")


class CentredLinear(Linear):
    """A Linear whose weight is g (v − mean v) / ‖v − mean v‖ for each unit: centred weight normalisation (Huang et
    al. 2017, Centered weight normalization in accelerating training of deep neural networks).

    `weight` is v, (out, in); `gain` is g, (out,), also a parameter. It starts with the weights that `init` draws,
    centred. Raises ValueError if these are all equal in a unit (a single weight always is): they have no direction
    then."""

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, init: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(in_features, out_features, bias, init, dtype)
        v = self.weight.detach().numpy()
        if not np.ptp(v, axis=1).all():
            raise ValueError(
                f"CentredLinear: expected a unit's weights to differ, got all equal ones for in_features={in_features}"
                f"{'' if init is None else f', init={init!r}'}; draw two or more at random"
            )
        self.gain = Parameter(np.linalg.norm(v - v.mean(axis=1, keepdims=True), axis=1))

    def forward(self, x: Any) -> Tensor:
        centred = self.weight - self.weight.mean(axis=1, keepdims=True)
        scale = self.gain / np.sqrt(np.square(centred).sum(axis=1))
        return F.linear(x, centred * scale.reshape((-1, 1)), self.bias)


class BatchNorm1d(Module):
    """Batch norm over (N, C) or (N, C, L), per channel C (Ioffe and Szegedy 2015); state as PyTorch's.

    Training uses the batch's mean and biased variance, and moves the running statistics towards the batch's by
    `momentum` (None: their plain average), with the unbiased variance. Evaluation uses the running statistics. affine:
    learn γ and β. track_running_stats: False always uses batch statistics. Raises ValueError for other shapes, and in
    training for a single value per channel. For other statistics in evaluation see `population_statistics` and
    `recompute_statistics`.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        if num_features < 1:
            raise ValueError(f"BatchNorm1d: expected num_features >= 1, got {num_features}")
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.weight = Parameter(np.ones(num_features, np.float32)) if affine else None
        self.bias = Parameter(np.zeros(num_features, np.float32)) if affine else None
        self.running_mean = Buffer(np.zeros(num_features, np.float32)) if track_running_stats else None
        self.running_var = Buffer(np.ones(num_features, np.float32)) if track_running_stats else None
        self.num_batches_tracked = Buffer(0) if track_running_stats else None
        self.by_population = False  # does evaluation go by the batch's own statistics? see `population_statistics`

    def forward(self, x: Any) -> Tensor:
        if x.ndim not in (2, 3) or x.shape[1] != self.num_features:
            n, place = self.num_features, f" in layer {self._path}" if self._path else ""
            raise ValueError(f"BatchNorm1d{place}: expected an input (N, {n}) or (N, {n}, L), got shape {x.shape}")
        count = self.num_batches_tracked if self.training else None
        momentum: Any = self.momentum
        if momentum is None:
            momentum = 0.0 if count is None else 1 / (count.astype(x.dtype) + 1)
        own = self.by_population and not self.training
        mean, var = (None, None) if own else (self.running_mean, self.running_var)
        y = F.batch_norm(x, mean, var, self.weight, self.bias, self.training, momentum, self.eps)
        if count is not None:
            count.assign(count + 1)
        return y

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"


class Dropout(Module):
    """Zero each element with probability p in training; see `functional.dropout`.

    p: the probability of dropping. scale: "train" divides by 1 - p in training, "test" multiplies by 1 - p at test
        time. rng: a seed or numpy Generator of its own; default the scope's or process's."""

    def __init__(self, p: float = 0.5, scale: str = "train", rng: Source = None) -> None:
        check_dropout("Dropout", p, scale)
        self.p, self.scale = p, scale
        self.rng = None if rng is None else generator(rng)

    def forward(self, x: Any) -> Tensor:
        return F.dropout(x, self.p, self.training, self.scale, self.rng)

    def extra_repr(self) -> str:
        return f"p={self.p}" + ("" if self.scale == "train" else f", scale={self.scale!r}")


class GaussianNoise(Module):
    """x + noise from N(0, std²) in training, x itself in evaluation; on inputs it is known as jitter.

    std: the standard deviation, in the units of x. Each call draws new noise from the scope's or process's generator.

    The gradient passes unchanged. Raises ValueError for std below 0, TypeError for inputs that are not floating."""

    def __init__(self, std: float) -> None:
        if not 0 <= std < math.inf:
            raise ValueError(f"GaussianNoise: expected a finite std >= 0, got {std}")
        self.std = std

    def forward(self, x: Any) -> Tensor:
        if x.dtype.kind != "f":
            raise TypeError(f"GaussianNoise: expected floating inputs, got {x.dtype}; normalise them first")
        return x + normal(0.0, self.std, x.shape, x.dtype) if self.training and self.std else x

    def extra_repr(self) -> str:
        return f"std={self.std}"


class Sequential(Module):
    """Modules one after the other, kept as attributes '0', '1', …; indexable, iterable."""

    def __init__(self, *modules: Any) -> None:
        for i, module in enumerate(modules):
            if not callable(module) or isinstance(module, type):
                kind = f"the class {module.__name__}" if isinstance(module, type) else type(module).__name__
                raise TypeError(f"Sequential: expected modules or functions, got {kind} at place {i}")
            setattr(self, str(i), module)

    def forward(self, x: Any) -> Any:
        for module in self:
            x = module(x)
        return x

    def _modules(self) -> list[Any]:
        return [part for name, part in self.__dict__.items() if name.isdigit()]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._modules())

    def __len__(self) -> int:
        return len(self._modules())

    def __getitem__(self, index: int | slice) -> Any:
        found = self._modules()[index]
        return Sequential(*found) if isinstance(index, slice) else found

    def __setitem__(self, index: int, module: Any) -> None:
        setattr(self, str(range(len(self))[index]), module)


class Identity(Module):
    """Returns its input."""

    def forward(self, x: Any) -> Any:
        return x


class Flatten(Module):
    """All axes but the first become one: (N, ...) to (N, features)."""

    def forward(self, x: Any) -> Tensor:
        return x.reshape((x.shape[0], math.prod(x.shape[1:])))
