"""Derivatives as functions: gradients, products with Jacobians and Hessians, and the full matrices.

Each takes a function of Tensors written in NumPy. They nest (`grad(grad(f))`), never touch anybody's
`.grad`, and record their own result when it depends on something that requires grad.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from . import ops
from ._primals import depends_beyond, filled, leaves, output, positions, primal, primals_along, rebuilt
from ._source import describe
from ._tensor import Tensor
from .autodiff import propagate
from .graph import wrap
from .scope import current, enable_grad, taping

Function = Callable[..., Any]


def gradients(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    gradient: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of outputs with respect to inputs, one Tensor per input; no `.grad` changes.

    gradient: one per output, of its shape; optional for one-element outputs.
    retain_graph: keep the values that the graph saved, to run it again; default: `create_graph`.
    create_graph: record the computation of the gradients, for higher derivatives.
    allow_unused: return None for an input that the outputs do not depend on, instead of a RuntimeError.
    Raises TypeError for anything but Tensors, ValueError for a wrong number or shape of gradients, RuntimeError for an
    input that does not require grad and for a graph that a backward pass has consumed.
    """
    ys, xs = (_tensors(given) for given in (outputs, inputs))
    for kind, given in (("outputs", ys), ("inputs", xs)):
        for i, t in enumerate(given):
            if not isinstance(t, Tensor):
                raise TypeError(f"gradients: expected Tensors in {kind}, got {describe(t)} at place {i}")
    gs = list(gradient) if isinstance(gradient, tuple | list) else [gradient] * len(ys)
    if len(gs) != len(ys):
        raise ValueError(f"gradients: expected one gradient per output ({len(ys)}), got {len(gs)}")
    for i, x in enumerate(xs):
        if x.node is None:
            raise RuntimeError(f"gradients: input {i} does not require grad; set requires_grad=True before it is used")
    pairs = [(y, g) for y, g in zip(ys, gs, strict=True) if y.node is not None or not allow_unused]
    wrapped = create_graph or taping() is not None
    seeds: list[Any] = [(y.node, y._seed_gradient(g, create_graph)) for y, g in pairs]
    wanted = {x.node for x in xs if x.node is not None}
    retain = create_graph if retain_graph is None else retain_graph
    found = propagate(seeds, second=create_graph, retain=retain, wanted=wanted)
    results: list[Tensor | None] = []
    for i, x in enumerate(xs):
        g = found.get(x.node)
        if g is None and not allow_unused:
            raise RuntimeError(
                f"gradients: the outputs do not depend on input {i}; pass allow_unused=True to get None for it"
            )
        results.append(g if g is None or wrapped else wrap(g.copy()))
    return tuple(results)


def _tensors(given: Any) -> list[Any]:
    """One, or those of a list or of a generator such as `model.parameters()`."""
    return [given] if isinstance(given, Tensor) or not isinstance(given, Iterable) else [*given]


def value_and_grad(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """A function that returns `(f(*args), gradient)`; see `grad`."""
    return _differentiated("value_and_grad", f, argnums, has_aux)


def _differentiated(who: str, f: Function, argnums: int | Sequence[int], has_aux: bool = False) -> Function:
    """`value_and_grad`, for the transform that messages name."""

    def differentiated(*args: Any, **kwargs: Any) -> Any:
        numbers = positions(who, argnums, len(args))
        trees = [args[i] for i in numbers]
        inputs = [primal(who, x) for x in leaves(trees)]
        inner = list(args)
        for i, tree in zip(numbers, rebuilt(trees, iter(inputs)), strict=True):
            inner[i] = tree
        recording = current().recording
        with enable_grad():
            result = f(*inner, **kwargs)
        if has_aux and not (isinstance(result, tuple) and len(result) == 2):
            raise TypeError(f"{who}: has_aux: expected the function to give (value, aux), got {describe(result)}")
        y, aux = result if has_aux else (result, None)
        y = output(who, y)
        if y.size != 1:
            raise TypeError(f"{who}: expected a function of one element, got shape {y.shape}; sum it, or use jacobian")
        further = recording and depends_beyond(y, inputs)
        found = gradients(y, inputs, create_graph=further, retain_graph=True, allow_unused=True)
        gs = rebuilt(trees, iter(filled(found, inputs)))
        value = y if further else y.detach()
        return ((value, aux) if has_aux else value), gs[0] if isinstance(argnums, int) else tuple(gs)

    return differentiated


def grad(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """The gradient of a function that returns a one-element Tensor, as a function of the same arguments.

    argnums: which arguments to differentiate by; an int gives one gradient, a sequence a tuple. An
        argument may be a Tensor, an array, a number, or nested tuples, lists and dicts of them.
    has_aux: f returns `(value, aux)`, and the gradient function `(gradient, aux)`.
    Raises TypeError if f returns anything else, or an argument is not floating.
    """
    return _gradient("grad", f, argnums, has_aux)


def _gradient(who: str, f: Function, argnums: int | Sequence[int], has_aux: bool = False) -> Function:
    both = _differentiated(who, f, argnums, has_aux)

    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, g = both(*args, **kwargs)
        return (g, value[1]) if has_aux else g

    return gradient


def vjp(f: Function, *primals: Any) -> tuple[Tensor, Callable[[Any], tuple[Tensor, ...]]]:
    """`(y, pull)` where y = f(*primals) and `pull(v)` gives vᵀJ, one Tensor per primal; v has y's shape.

    Raises TypeError for primals that are not floating, and if f returns anything but one Tensor."""
    inputs = [primal("vjp", x) for x in primals]
    recording = current().recording
    with enable_grad():
        y = output("vjp", f(*inputs))
    further = recording and depends_beyond(y, inputs)

    def pull(v: Any) -> tuple[Tensor, ...]:
        second = further or (isinstance(v, Tensor) and v.node is not None)
        found = gradients(y, inputs, v, retain_graph=True, create_graph=second, allow_unused=True)
        return tuple(filled(found, inputs))

    return (y if further else y.detach()), pull


def jvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """`(y, Jv)`: the value and the derivative in the direction of the tangents, one per primal, of its shape.

    By two reverse passes: vᵀJ is linear in v, and its transpose is Jv (Townsend 2017, A new trick for calculating
    Jacobian vector products). Raises TypeError or ValueError for a wrong number or shape of tangents."""
    inputs = primals_along("jvp", primals, tangents)
    with enable_grad():
        y = output("jvp", f(*inputs))
    if y.node is None:
        return y.detach(), wrap(np.zeros_like(y.data))
    v = Tensor(np.zeros_like(y.data), requires_grad=True)
    pulled = gradients(y, inputs, v, create_graph=True, allow_unused=True)
    pairs = [(g, t) for g, t in zip(pulled, tangents, strict=True) if g is not None and g.node is not None]
    second = current().recording and (depends_beyond(y, inputs) or _recorded(tangents))
    found = gradients(
        [g for g, _ in pairs], v, [t for _, t in pairs], create_graph=second, retain_graph=True, allow_unused=True
    )[0]
    return (y if second else y.detach()), wrap(np.zeros_like(y.data)) if found is None else found


def hvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Tensor, Any]:
    """`(y, Hv)`: the value of a function with a one-element result and its Hessian times the tangents.

    Hv is one Tensor for one primal, otherwise a tuple, one per primal. Raises TypeError if the result has more
    elements, TypeError or ValueError for a wrong number or shape of tangents."""
    inputs = primals_along("hvp", primals, tangents)
    with enable_grad():
        y = output("hvp", f(*inputs))
    if y.size != 1:
        raise TypeError(f"hvp: expected a function of one element, got shape {y.shape}; sum it")
    first = gradients(y, inputs, create_graph=True, allow_unused=True)
    pairs = [(g, t) for g, t in zip(first, tangents, strict=True) if g is not None and g.node is not None]
    beyond = current().recording and depends_beyond(y, inputs)
    second = beyond or (current().recording and _recorded(tangents))
    found = gradients(
        [g for g, _ in pairs], inputs, [t for _, t in pairs], create_graph=second, retain_graph=True, allow_unused=True
    )
    products = filled(found, inputs)
    return (y if beyond else y.detach()), products[0] if len(products) == 1 else tuple(products)


def _recorded(tangents: Sequence[Any]) -> bool:
    return any(isinstance(t, Tensor) and t.requires_grad for t in tangents)


def jacobian(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """A function that returns the Jacobian of f, of shape `y.shape + x.shape`, one per argument in argnums.

    It runs one reverse pass for each element of y. Raises TypeError for arguments that are not floating arrays."""

    def matrix(*args: Any, **kwargs: Any) -> Any:
        numbers = positions("jacobian", argnums, len(args))
        inputs = [primal("jacobian", args[i]) for i in numbers]
        inner = list(args)
        for i, x in zip(numbers, inputs, strict=True):
            inner[i] = x
        recording = current().recording
        with enable_grad():
            y = output("jacobian", f(*inner, **kwargs))
        further = recording and depends_beyond(y, inputs)
        rows: list[list[Tensor]] = [[] for _ in inputs]
        for k in range(y.size):
            unit = np.zeros(y.size, y.dtype)
            unit[k] = 1
            found = gradients(
                y, inputs, unit.reshape(y.shape), retain_graph=True, create_graph=further, allow_unused=True
            )
            for row, g in zip(rows, filled(found, inputs), strict=True):
                row.append(g)
        full = [
            ops.reshape(ops.stack(row), shape=y.shape + x.shape) if row else wrap(np.zeros(y.shape + x.shape, x.dtype))
            for row, x in zip(rows, inputs, strict=True)
        ]
        return full[0] if isinstance(argnums, int) else tuple(full)

    return matrix


def hessian(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """A function that returns the Hessian, of shape `x.shape + x.shape`, of a function with a one-element result.

    With several argnums, a tuple of tuples: block [i][j] has shape `x_i.shape + x_j.shape`."""
    if isinstance(argnums, int):
        return jacobian(_gradient("hessian", f, argnums), argnums)
    blocks = [jacobian(_gradient("hessian", f, i), tuple(argnums)) for i in argnums]
    return lambda *args, **kwargs: tuple(block(*args, **kwargs) for block in blocks)
