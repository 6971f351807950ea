"""`Optimizer`: the base class, which walks, validates, keeps state and writes.

A subclass writes the arithmetic of one parameter in augmented assignments, which run in place on arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any, ClassVar

import numpy as np

from .._tensor import Tensor
from ..graph import unshared, wrap
from ..scope import taping

BLOCK = 32768  # elements: a block of parameter, gradient and state stays in L2 between a rule's passes
GROUP = ("params", "initial_lr", "param_names")  # of a group, beside its options
BESIDE = (*GROUP, "foreach", "fused", "capturable", "differentiable")  # PyTorch's ways to compute the same


class Optimizer:
    """Base class. `param_groups` holds the options, which you may change at any time; `state` what the update rule
    keeps.

    params: Tensors, (name, Tensor) pairs, or dicts {"params": ..., option: ...}. Raises ValueError for no or repeated
    parameters and options out of range, TypeError for anything but leaf Tensors.
    """

    elementwise: ClassVar[bool] = True  # the rule treats each element alone, so it may run over blocks
    needs: ClassVar[dict[str, str]] = {}  # options that are no use unless this has been kept from the first step on
    native: ClassVar[Callable[[Any, Any], bool] | None] = None  # takes the step if it can; the compiler fills it

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Tensor, dict[str, Any]] = {}
        if isinstance(params, Tensor):
            raise TypeError(f"{self._name}: expected an iterable of Tensors, got one Tensor; write [tensor]")
        if hasattr(params, "parameters"):
            kind = type(params).__name__
            raise TypeError(f"{self._name}: expected an iterable of Tensors, got a {kind}; write model.parameters()")
        if callable(params):
            raise TypeError(f"{self._name}: expected an iterable of Tensors, got a function; write model.parameters()")
        groups = list(params)
        if not groups:
            raise ValueError(f"{self._name}: expected at least one parameter, got none")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)
        if (tape := taping()) is not None:
            tape.make(self)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Add parameters with options of their own: {"params": [...], "lr": ...}."""
        if "params" not in group:
            raise ValueError(f"{self._name}: a parameter group needs 'params', got {sorted(group)}")
        for option in group:
            if option not in {*self.defaults, *GROUP}:
                raise ValueError(f"{self._name}: no option {option!r}; there are {', '.join(self.defaults)}")
        given = group["params"]
        found = [given] if isinstance(given, Tensor) else list(given)
        named = [p if isinstance(p, tuple) else (None, p) for p in found]
        for name, p in named:
            if not isinstance(p, Tensor):
                raise TypeError(
                    f"{self._name}: expected Tensors, got {type(p).__name__}{f' for {name}' if name else ''}"
                )
            if not p.is_leaf:
                raise ValueError(
                    f"{self._name}: a parameter must be a leaf, got the result of {p.node and p.node.primitive}"
                )
        tensors = [p for _, p in named]
        before = [p for g in self.param_groups for p in g["params"]]
        if len({id(p) for p in before + tensors}) != len(before) + len(tensors):
            raise ValueError(f"{self._name}: a parameter is given twice")
        new = {**self.defaults, **group, "params": tensors}
        new.update(_weak(new))
        self.check(new)
        self.param_groups.append(new)

    def check(self, group: dict[str, Any]) -> None:
        """Raise a ValueError for options out of range."""
        for option, value in group.items():
            values = value if isinstance(value, tuple) else (value,)
            if option in ("params", "param_names") or (isinstance(value, bool) and option != "lr"):
                continue
            for v in values:
                number = isinstance(v, int | float | np.floating | np.integer) and not isinstance(v, bool)
                if not number or not math.isfinite(v) or v < 0:
                    raise ValueError(f"{self._name}: expected {option} to be a finite number >= 0, got {value!r}")
            if option == "betas" and len(values) != 2:
                raise ValueError(f"{self._name}: expected betas to be two numbers, got {value!r}")
            if option in ("betas", "alpha") and not all(v < 1 for v in values):
                raise ValueError(f"{self._name}: expected {option} below 1, got {value!r}")

    def zero_grad(self) -> None:
        """Clear the gradients: `.grad` becomes None."""
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    def step(self) -> None:
        """Update every parameter that has a gradient and is not frozen.

        Raises RuntimeError if none has one, or if an option was switched on that needs state which was not kept."""
        for group in self.param_groups:
            group.update(_weak(group))
        ready = [
            (p, group)
            for group in self.param_groups
            for p in group["params"]
            if p._grad is not None and p.node is not None
        ]
        if not ready:
            raise RuntimeError(
                f"{self._name}.step: no parameter has a gradient; call loss.backward() first, and zero_grad() before it"
            )
        tape = taping()
        for p, group in ready:
            if p not in self.state:
                with nullcontext() if tape is None else tape.beside(self):
                    self.state[p] = {"step": 0, **self.init_state(p, group)}
            for option, name in self.needs.items():
                if group[option] and name not in self.state[p]:
                    raise RuntimeError(
                        f"{self._name}.step: {option} was off when training began, so there is no {name}; "
                        "make a new optimizer to use it"
                    )
        if tape is not None:
            tape.optimize(self, ready)
            return
        native = type(self).native
        if native is not None and native(self, ready):
            return
        for p, group in ready:
            state = self.state[p]
            state["step"] += 1
            options = {**group, **self.constants(state, group)}
            gradient = p._grad.data
            # what others can see is not written: `assign` would copy it all the same
            target = p.data if unshared(p) else p.data.copy()
            for block in self._blocks(target, gradient, state):
                self.update(*block, options)
            if target is not p.data:
                p.data = target
            p.node.overwritten()

    def _blocks(self, p: Any, g: Any, state: dict[str, Any]) -> Iterable[tuple[Any, Any, dict[str, Any]]]:
        """The arrays of one parameter as the rule gets them: whole, or flat blocks that stay in cache."""
        arrays = {name: value.data for name, value in state.items() if isinstance(value, Tensor)}
        if (p.ndim and (not self.elementwise or p.size <= BLOCK)) or not all(
            a.flags.c_contiguous for a in (p, g, *arrays.values())
        ):
            yield p, g, arrays
        else:
            p, g = p.reshape(-1), g.reshape(-1)
            flat = {name: a.reshape(-1) for name, a in arrays.items()}
            for start in range(0, p.size, BLOCK):
                part = slice(start, start + BLOCK)
                yield p[part], g[part], {name: a[part] for name, a in flat.items()}

    def init_state(self, p: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        """The state that the rule keeps for a parameter: Tensors of its shape, and numbers."""
        return {}

    def constants(self, state: dict[str, Any], group: dict[str, Any]) -> dict[str, Any]:
        """Numbers that the rule needs at `state["step"]`, such as bias corrections."""
        return {}

    def update(self, p: Any, g: Any, state: dict[str, Any], o: dict[str, Any]) -> None:
        """The update rule: change p and the arrays of `state` in place, using the gradient g; g itself must not
        change."""
        raise NotImplementedError(f"{self._name} must define update(p, g, state, o)")

    def state_dict(self) -> dict[str, Any]:
        """State and options as plain data, parameters by number; PyTorch's structure."""
        numbers = {id(p): i for i, p in enumerate(p for g in self.param_groups for p in g["params"])}
        groups = [{**g, "params": [numbers[id(p)] for p in g["params"]]} for g in self.param_groups]
        state = {
            numbers[id(p)]: {k: v.copy() if isinstance(v, Tensor) else v for k, v in s.items()}
            for p, s in self.state.items()
        }
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a `state_dict()`. Everything is checked before anything changes."""
        if not {"state", "param_groups"} <= set(state_dict):
            raise KeyError(f"{self._name}.load_state_dict: expected 'state' and 'param_groups', got {list(state_dict)}")
        saved = state_dict["param_groups"]
        if [len(g["params"]) for g in saved] != [len(g["params"]) for g in self.param_groups]:
            have, got = [len(g["params"]) for g in self.param_groups], [len(g["params"]) for g in saved]
            raise ValueError(f"{self._name}.load_state_dict: expected groups of {have} parameters, got {got}")
        unknown = {option for group in saved for option, value in group.items() if value} - {*self.defaults, *BESIDE}
        if unknown:
            raise ValueError(
                f"{self._name}.load_state_dict: expected no options but {', '.join(self.defaults)}, got "
                f"{', '.join(sorted(unknown))}; the state is another optimizer's"
            )
        state = self._read_state(state_dict)
        groups = [{**old, **new, "params": old["params"]} for old, new in zip(self.param_groups, saved, strict=True)]
        for group in groups:
            for p in filter(state.__contains__, group["params"]):
                wanted = {"step": 0, **self.init_state(p, group)}
                if not set(wanted) <= set(state[p]) <= {*wanted, *self.needs.values()}:
                    raise ValueError(
                        f"{self._name}.load_state_dict: expected {sorted(wanted)} of each parameter, got "
                        f"{sorted(state[p])}; the state is another optimizer's"
                    )
                for key, array in state[p].items():
                    whole = array.ndim or isinstance(wanted.get(key), Tensor)
                    state[p][key] = wrap(array.astype(p.dtype)) if whole else array.item()
                state[p]["step"] = int(state[p]["step"])
            self.check({k: group[k] for k in self.defaults})
        self.param_groups, self.state = groups, state

    def _read_state(self, state_dict: dict[str, Any]) -> dict[Tensor, dict[str, Any]]:
        """What is kept of each parameter, as arrays."""
        params = [p for g in self.param_groups for p in g["params"]]
        numbers = [n for g in state_dict["param_groups"] for n in g["params"]]
        state: dict[Tensor, dict[str, Any]] = {}
        for number, p in zip(numbers, params, strict=True):
            kept = state_dict["state"].get(number, state_dict["state"].get(str(number)))
            if kept is None:
                continue
            state[p] = {"step": np.asarray(1)}  # PyTorch's SGD counts none
            for key, value in kept.items():
                array = np.asarray(value.data if isinstance(value, Tensor) else value)
                if value is None:  # as PyTorch has it where there is no momentum
                    continue
                if array.shape not in ((), p.shape):
                    where = f"{self._name}.load_state_dict: {key} of parameter {number}"
                    raise ValueError(f"{where}: expected {p.shape}, got {array.shape}")
                state[p][key] = array
        return state

    def __repr__(self) -> str:
        lines = []
        for group in self.param_groups:
            options = ", ".join(f"{k}={v}" for k, v in group.items() if k not in ("params", "param_names"))
            lines.append(f"{len(group['params'])} parameters: {options}")
        return f"{self._name}({'; '.join(lines)})"


def _weak(group: dict[str, Any]) -> dict[str, Any]:
    """A group's NumPy numbers as Python's, which leave a step of float32 one of float32."""
    return {option: value.item() for option, value in group.items() if isinstance(value, np.generic)}


def zeros(p: Tensor) -> Tensor:
    """State of a parameter's shape and dtype, all zero."""
    return wrap(np.zeros_like(p.data, order="C"))


def signed(p: Any, g: Any, o: dict[str, Any], decoupled: bool = False) -> Any:
    """The gradient to descend along, with weight decay in it; decoupled: done to p instead (Loshchilov and Hutter
    2017)."""
    g = -g if o["maximize"] else g
    if o["weight_decay"] and decoupled:
        p *= 1 - o["lr"] * o["weight_decay"]
    elif o["weight_decay"]:
        g = g + o["weight_decay"] * p
    return g
