"""Learning-rate schedules: each sets `lr` in the optimizer's groups from the count of its own steps.

Call `.step()` once per epoch or per batch, after the optimizer's. Names, arguments and values follow PyTorch; the last
two are from Ng's deep learning course. α₀ is a group's learning rate when the schedule is created.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..scope import taping
from .optimizer import Optimizer


class Schedule:
    """Base class: a subclass returns the factor on α₀ at a count; the rate at count 0 is set on creation."""

    _rates: tuple[str, ...] = ("base_lrs",)  # the attributes that `scale` multiplies

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__}: expected an Optimizer, got {type(optimizer).__name__}")
        self.optimizer = optimizer
        self.base_lrs = [group.setdefault("initial_lr", group["lr"]) for group in optimizer.param_groups]
        self.count = 0
        self._set()
        if (tape := taping()) is not None:
            tape.make(self)

    def rate(self, base: float, count: int, index: int) -> float:
        """The learning rate of group `index` with α₀ = base."""
        raise NotImplementedError

    def _set(self) -> None:
        groups = len(self.optimizer.param_groups)
        if groups != len(self.base_lrs):
            raise ValueError(
                f"{type(self).__name__}: made for {len(self.base_lrs)} parameter groups, the optimizer has {groups}; "
                "make the schedule after add_param_group"
            )
        rates = [self.rate(base, self.count, i) for i, base in enumerate(self.base_lrs)]
        for rate in rates:
            if not (math.isfinite(rate) and rate >= 0):
                raise ValueError(f"{type(self).__name__}: the learning rate would be {rate} at step {self.count}")
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = float(rate)

    def step(self) -> None:
        """Advance to the next count."""
        if (tape := taping()) is not None:
            return tape.schedule(self)  # type: ignore[no-any-return]
        self.count += 1
        try:
            self._set()
        except ValueError:
            self.count -= 1
            raise

    def scale(self, factor: float) -> None:
        """Multiply the current and all later rates of the groups by a factor. Raises ValueError unless it is > 0."""
        if not (math.isfinite(factor) and factor > 0):
            raise ValueError(f"{type(self).__name__}.scale: expected a factor > 0, got {factor}")
        for name in self._rates:
            old = getattr(self, name)
            setattr(self, name, [rate * factor for rate in old] if isinstance(old, list) else old * factor)
        for group in self.optimizer.param_groups:
            group["lr"] *= factor

    def get_last_lr(self) -> list[float]:
        """The current rate of each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """The schedule's position, as plain data."""
        return {k: v for k, v in self.__dict__.items() if k not in ("optimizer", "lambdas")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict()`."""
        mine = self.state_dict()
        if set(state) != set(mine):
            raise ValueError(f"{type(self).__name__}.load_state_dict: expected {sorted(mine)}, got {sorted(state)}")
        self.__dict__.update(state)
        self._set()


class StepLR(Schedule):
    """α₀ · gamma^⌊count / step_size⌋: stairs."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        if step_size < 1:
            raise ValueError(f"StepLR: expected step_size >= 1, got {step_size}")
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer)

    def rate(self, base: float, count: int, index: int) -> float:
        return float(base * self.gamma ** (count // self.step_size))


class ExponentialLR(Schedule):
    """α₀ · gammaᶜᵒᵘⁿᵗ."""

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        self.gamma = gamma
        super().__init__(optimizer)

    def rate(self, base: float, count: int, index: int) -> float:
        return float(base * self.gamma**count)


class LambdaLR(Schedule):
    """α₀ times your function of the count, one for all groups or one each."""

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[int], float] | list[Callable[[int], float]]) -> None:
        groups = len(optimizer.param_groups)
        lambdas = list(lr_lambda) if isinstance(lr_lambda, list | tuple) else [lr_lambda] * groups
        if len(lambdas) != groups:
            raise ValueError(f"LambdaLR: expected {groups} functions, one per group, got {len(lambdas)}")
        self.lambdas = lambdas
        super().__init__(optimizer)

    def rate(self, base: float, count: int, index: int) -> float:
        return base * self.lambdas[index](count)


class LinearLR(Schedule):
    """The factor changes linearly from start_factor to end_factor over total_iters counts: a warm-up."""

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
    ) -> None:
        if total_iters < 1:
            raise ValueError(f"LinearLR: expected total_iters >= 1, got {total_iters}")
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer)

    def rate(self, base: float, count: int, index: int) -> float:
        share = min(count, self.total_iters) / self.total_iters
        return base * (self.start_factor + (self.end_factor - self.start_factor) * share)


class CosineAnnealingLR(Schedule):
    """Half a cosine from α₀ to eta_min over T_max counts (Loshchilov and Hutter 2016), and back again."""

    _rates = ("base_lrs", "eta_min")

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        if T_max < 1:
            raise ValueError(f"CosineAnnealingLR: expected T_max >= 1, got {T_max}")
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer)

    def rate(self, base: float, count: int, index: int) -> float:
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * count / self.T_max)) / 2


class OneCycleLR(Schedule):
    """Up from max_lr / div_factor to max_lr over pct_start of the steps, then down to the first rate /
    final_div_factor, along half cosines (Smith and Topin 2017). Rates only; momentum is left alone."""

    _rates = ("base_lrs", "max_lr")

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float,
        total_steps: int,
        pct_start: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ) -> None:
        if total_steps < 1 or not 0 <= pct_start <= 1:
            raise ValueError(
                f"OneCycleLR: expected total_steps >= 1 and 0 <= pct_start <= 1, got {total_steps} and {pct_start}"
            )
        self.max_lr, self.total_steps, self.pct_start = max_lr, total_steps, pct_start
        self.div_factor, self.final_div_factor = div_factor, final_div_factor
        super().__init__(optimizer)

    def rate(self, base: float, count: int, index: int) -> float:
        if count >= self.total_steps:
            raise ValueError(f"OneCycleLR: step {count} is beyond the {self.total_steps} of the cycle")
        first = self.max_lr / self.div_factor
        last = first / self.final_div_factor
        top = self.pct_start * self.total_steps - 1
        if count <= top:
            start, end, share = first, self.max_lr, count / top if top > 0 else 1.0
        else:
            start, end, share = self.max_lr, last, (count - top) / max(self.total_steps - 1 - top, 1)
        return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


class ReduceLROnPlateau(Schedule):
    """Multiply the rate by `factor` when `.step(metric)` has not improved for more than `patience` calls.

    mode: "min" if lower is better, "max" if higher is. threshold: the relative ("rel") or absolute ("abs") change that
        counts as an improvement. cooldown: calls to wait after a reduction. min_lr: the smallest rate."""

    _rates = ("rates", "min_lr")

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        if mode not in ("min", "max") or threshold_mode not in ("rel", "abs"):
            raise ValueError(
                f"ReduceLROnPlateau: modes are min or max, rel or abs; got {mode!r} and {threshold_mode!r}"
            )
        if not 0 <= factor < 1:
            raise ValueError(f"ReduceLROnPlateau: expected factor from 0 to below 1, got {factor}")
        self.mode, self.factor, self.patience, self.threshold = mode, factor, patience, threshold
        self.threshold_mode, self.cooldown, self.min_lr, self.eps = threshold_mode, cooldown, min_lr, eps
        self.best = math.inf if mode == "min" else -math.inf
        self.bad = self.waiting = 0
        self.rates = [group["lr"] for group in optimizer.param_groups]
        super().__init__(optimizer)

    def rate(self, base: float, count: int, index: int) -> float:
        return float(self.rates[index])

    def _better(self, metric: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        if self.threshold_mode == "abs":
            return sign * metric > sign * self.best + self.threshold
        if math.isinf(self.best):
            return sign * metric > sign * self.best
        return sign * metric > sign * self.best * (1 + sign * self.threshold)

    def step(self, metric: float | None = None) -> None:
        """Report a metric, and reduce the rates if it no longer improves. Not allowed inside a compiled step."""
        if metric is None or math.isnan(float(metric)):
            raise ValueError(f"ReduceLROnPlateau.step: expected a number, got {metric}")
        if self._better(float(metric)):
            self.best, self.bad = float(metric), 0
        else:
            self.bad += 1
        if self.waiting:
            self.waiting, self.bad = self.waiting - 1, 0
        if self.bad > self.patience:
            lower = [max(rate * self.factor, self.min_lr) for rate in self.rates]
            self.rates = [low if rate - low > self.eps else rate for rate, low in zip(self.rates, lower, strict=True)]
            self.waiting, self.bad = self.cooldown, 0
        super().step()


class InverseTimeLR(Schedule):
    """α₀ / (1 + decay · count)."""

    def __init__(self, optimizer: Optimizer, decay: float = 1.0) -> None:
        self.decay = decay
        super().__init__(optimizer)

    def rate(self, base: float, count: int, index: int) -> float:
        return base / (1 + self.decay * count)


class InverseSqrtLR(Schedule):
    """k / √(count + 1) · α₀: the course's k / √epoch, with epochs counted from 1, since it is infinite at 0."""

    def __init__(self, optimizer: Optimizer, k: float = 1.0) -> None:
        self.k = k
        super().__init__(optimizer)

    def rate(self, base: float, count: int, index: int) -> float:
        return self.k / math.sqrt(count + 1) * base
