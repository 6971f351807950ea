"""What a recorded graph shows of its operations without a derivative: precision lost, arrays written to, and
fused pairs that do not do what they mean."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .._source import describe_line, line_number
from .._tensor import tensor
from ..autodiff import propagate
from ..fused import Fused
from ..graph import Array, Node, Output, is_floating

PAIR_AGREES = 1e-13  # relative, of values and gradients in float64
PAIR_DIFFERS = 1e-6  # relative; between the two, rounding that one-ulp changes of the arguments explain is allowed
PACKAGE = __name__.partition(".")[0] + "."


def frozen(value: Any) -> Any:
    """The same array, read-only; anything else unchanged."""
    if isinstance(value, np.ndarray):
        value = value.view()
        value.flags.writeable = False
    return value


def freeze(nodes: Sequence[Node]) -> None:
    """Make what the operations saved read-only, so that a rule that writes to it fails."""
    for node in nodes:
        node.args, node.output = [frozen(a) for a in node.args], frozen(node.output)


def _op(node: Node) -> Any:
    return node.primitive


def operations(nodes: Sequence[Node]) -> Iterator[Node]:
    """The nodes that are operations, in the order in which they ran."""
    return (node for node in nodes if node.primitive is not None)


def at(node: Node) -> str:
    """`tanh (train.py:12, in f: y = np.tanh(x))`."""
    return f"{_op(node).name} ({describe_line(node.line)})"


def magnitude(nodes: Sequence[Node]) -> float:
    """The largest finite value that the graph has kept."""
    values = [np.asarray(a) for n in nodes for a in (*n.args, n.output) if isinstance(a, np.ndarray | float)]
    return max((float(np.max(abs(a), where=np.isfinite(a), initial=0.0)) for a in values), default=0.0)


def imprecise(nodes: Sequence[Node]) -> Iterator[str]:
    """Operations that make less than float64 of float64."""
    for node in nodes:
        operation = node.operation
        if operation.primitive is not None and not node.several and node.dtype.itemsize < 8:
            where = at(operation)
            yield f"{where} computes in {node.dtype}, which is too coarse for differences; keep float64 throughout"
            return


def writes(nodes: Sequence[Node], rng: np.random.Generator) -> Iterator[str]:
    """Rules that write into what they are given, or lose precision. The nodes must be frozen."""
    for node in operations(nodes):
        op = _op(node)
        try:
            results = op.pull(node, _gradient(node, nodes, rng), node.parents, False)
            results = [r for r, parent in zip(results, node.parents, strict=False) if parent is not None]
        except ValueError as error:
            if "read-only" in str(error):
                yield f"the backward of {at(node)} writes into {WRITTEN}"
            continue
        for i, r in enumerate(results):
            if is_floating(r) and r.dtype.itemsize < 8:
                yield f"the rule for gradient {i} of {at(node)} returns {r.dtype} for float64 arguments"


WRITTEN = "its inputs or into the incoming gradient, which others still read; it must make a new array"


def _gradient(node: Node, nodes: Sequence[Node], rng: np.random.Generator) -> Any:
    """A random, read-only gradient of a node's output, or of those of its outputs that were used."""
    outputs = {n.index: n for n in nodes if type(n) is Output and n.operation is node}
    if not outputs:
        return frozen(rng.standard_normal(node.shape))
    siblings = next(iter(outputs.values())).siblings
    return tuple(frozen(rng.standard_normal(outputs[i].shape)) if i in outputs else None for i in range(siblings))


def mismatched(nodes: Sequence[Node], rng: np.random.Generator) -> Iterator[str]:
    """Fused operations whose raw pair does not give the values and gradients of their meaning."""
    for node in operations(nodes):
        if isinstance(node.primitive, Fused):
            yield from _pair_against_meaning(node, node.primitive, rng)


def _pair_against_meaning(node: Node, op: Fused, rng: np.random.Generator) -> Iterator[str]:
    live = [i for i, parent in enumerate(node.parents) if parent is not None]
    assert op.forward is not None
    values, _ = op.forward(*node.args, **node.static)
    raw = values if isinstance(values, tuple) else (values,)
    weights = [rng.standard_normal(np.shape(y)) for y in raw]
    meant, gradients = _meaning(op, node, node.args, live, weights)
    nudged = [a * (1 + rng.choice([-1, 1], a.shape) * 2.0**-52) if is_floating(a) else a for a in node.args]
    meant_near, gradients_near = _meaning(op, node, nudged, live, weights)
    for j, (y, expected, near) in enumerate(zip(raw, meant, meant_near, strict=True)):
        if text := _difference(y, expected, near):
            which = f"output {j}" if isinstance(values, tuple) else "the output"
            yield f"{at(node)}: the fused forward disagrees with the op's definition, in {which}: {text}"
    for i, expected, near in zip(live, gradients, gradients_near, strict=True):
        _, saved = op.forward(*node.args, **node.static)
        g = tuple(weights) if isinstance(values, tuple) else weights[0]
        got = op.vjp(g, values, saved, node.args, node.static, [i])[i]
        if text := _difference(np.zeros_like(expected) if got is None else got, expected, near):
            yield f"{at(node)}: the fused backward disagrees with the op's definition, in argument {i}: {text}"


def _meaning(op: Fused, node: Node, args: Sequence[Any], live: Sequence[int], weights: Sequence[Array]) -> Any:
    """The values of the op's definition, and their gradients for the live arguments."""
    tensors: list[Any] = [tensor(a, requires_grad=True) if i in live else a for i, a in enumerate(args)]
    result = op.meaning(*tensors, **node.static)
    outputs = result if isinstance(result, tuple) else (result,)
    leaves = [tensors[i].node for i in live]
    seeds = [(y.node, w) for y, w in zip(outputs, weights, strict=True) if getattr(y, "node", None) is not None]
    found = propagate(seeds, wanted=set(leaves))
    zeros = (np.zeros(leaf.shape) for leaf in leaves)
    gradients = [found.get(leaf, zero) for leaf, zero in zip(leaves, zeros, strict=True)]
    return [np.asarray(getattr(y, "data", y)) for y in outputs], gradients


def _difference(got: Any, expected: Array, near: Array) -> str | None:
    """Where two arrays that should be equal differ most, unless rounding explains it."""
    got = np.asarray(got)
    if got.shape != expected.shape:
        return f"shape {got.shape}, expected {expected.shape}"
    if not got.size:
        return None
    gap = np.where(np.equal(got, expected) | (np.isnan(got) & np.isnan(expected)), 0.0, abs(got - expected))
    size = np.max(abs(expected), where=np.isfinite(expected), initial=0.0)
    rounding = min(32 * np.max(abs(near - expected), where=np.isfinite(near), initial=0.0), PAIR_DIFFERS * size)
    if np.max(gap) <= PAIR_AGREES * size + rounding:
        return None
    worst = np.unravel_index(np.argmax(np.where(np.isnan(gap), np.inf, gap)), gap.shape)
    place = f" at {[int(i) for i in worst]}" if worst else ""
    return f"{float(got[worst])!r}{place}, the meaning gives {float(expected[worst])!r}"


def route(nodes: Sequence[Node], most: int = 4) -> list[str]:
    """The operations that a gradient comes through, those defined outside of this package first."""
    found = sorted(operations(nodes), key=lambda node: not foreign(node))
    places = [f"{_op(n).name} at {os.path.basename(n.code.co_filename)}:{line_number(*n.line)}" for n in found]
    places = list(dict.fromkeys(places))
    return places[:most] + ["..."] * (len(places) > most)


def foreign(node: Node) -> bool:
    """Was the operation defined outside of this package?"""
    op = _op(node)
    rules = [op.backward] if isinstance(op, Fused) else op.vjps
    return any(rule is not None and not rule.__module__.startswith(PACKAGE) for rule in rules)
