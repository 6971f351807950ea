"""What the doctor looks for in the way that a step is put together: operations in a wrong order, parameters that are
not where they should be, modes, dtypes. Each function gives a place and figures for every time that it finds its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from .._tensor import Tensor
from ..graph import Leaf, Node
from ..nn.layers import BatchNorm1d, Dropout, GaussianNoise
from .flow import ancestors, below
from .rehearsal import Rehearsal, kind, source, title

Figures = dict[str, Any]
Found = Iterator[tuple[Node | None, Figures]]

SHOWN = 4  # names in a list
SQUEEZING = ("relu", "sigmoid", "tanh", "softmax")  # whose results are no logits: these are of any sign and size
FEW = 8  # values per channel: the relative error of a variance of n values is √(2 / (n - 1)), 0.53 for 8
REPEATED = 1.8  # how many times a batch's gradient may be another's, before training; later no number of times is odd


def listed(names: Iterable[str]) -> str:
    """`'a', 'b', 'c', 'd' and 3 more`."""
    found = list(names)
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more


def softmax_twice(r: Rehearsal) -> Found:
    for node in r.called("cross_entropy", "log_softmax"):
        x = r.operand(node, 0)
        axis = 1 if title(node) == "cross_entropy" else node.static["axis"]
        if x is None or not x.size or x.shape[axis] < 2 or not (x >= 0).all():
            continue
        if np.allclose(x.sum(axis=axis), 1, rtol=0, atol=1e-3):
            yield source(below(node)[0]) or node, {"op": title(node), "classes": x.shape[axis]}


def squeezed_logits(r: Rehearsal) -> Found:
    for node in r.called("cross_entropy", "log_softmax"):
        made = source(below(node)[0])
        if made is not None and kind(made) in SQUEEZING and (x := r.value(made)) is not None and x.size:
            figures = {"activation": kind(made), "low": float(x.min()), "high": float(x.max())}
            yield made, {"op": title(node), **figures}


def sigmoid_twice(r: Rehearsal) -> Found:
    given = {}
    for node in r.called("softplus"):
        made = source(below(node)[0], ["negative"])
        if node.static["threshold"] == np.inf and made is not None and _is_sigmoid(made):
            given[made] = r.value(made)
    for made, p in given.items():
        yield made, {"low": float(p.min()), "high": float(p.max())}


def _is_sigmoid(node: Node) -> bool:
    """A sigmoid, also one written out: 1 / (1 + exp(-x))."""
    if title(node) not in ("divide", "reciprocal"):
        return title(node) == "sigmoid"
    add = below(node)[-1]
    return add is not None and title(add) == "add" and any(p is not None and title(p) == "exp" for p in below(add))


def outer_difference(r: Rehearsal) -> Found:
    """The targets, as they were given, as an operand of an operation that makes a row of them for each output."""
    target = r.inputs[-1].data
    n = len(target) if target.ndim else 0
    for node in r.nodes:
        if n < 2 or node.shape != (n, n) or node.primitive is None or not node.primitive.elementwise:
            continue
        arrays = [q.array for q in r.graph.operation(node).operands]
        shapes = {np.shape(a) for a in arrays}
        if shapes == {(n,), (n, 1)} and any(np.shape(a) == target.shape and np.array_equal(a, target) for a in arrays):
            yield node, {"op": title(node), "shapes": " and ".join(map(str, map(np.shape, arrays))), "n": n}


def bias_before_norm(r: Rehearsal) -> Found:
    for node in r.called("batch_norm"):
        before = source(below(node)[0])
        if before is None or title(before) not in ("linear", "add"):
            continue
        parents = below(before)[2:] if title(before) == "linear" else below(before)
        for bias in parents:
            if isinstance(bias, Leaf) and bias.shape == (node.shape[1],):
                size = float(np.abs(r.gradients.get(bias, np.zeros(1))).max())
                yield bias, {"bias": r.name(bias), "gradient": size}


def dropout_before_norm(r: Rehearsal) -> Found:
    latest: dict[Node, Node | None] = {}  # of each value, the last dropout before it
    found: dict[Node, Node] = {}
    for node in r.nodes:
        above = [d for p in below(node) if p is not None and (d := latest[p]) is not None]
        latest[node] = node if title(node) == "dropout" else max(above, key=lambda d: d.order, default=None)
        dropout = latest[node]
        if title(node) == "batch_norm" and dropout is not None:
            found.setdefault(dropout, node)
    for dropout, norm in found.items():
        yield dropout, {"p": dropout.static["p"], "norm": str(norm.path or "batch_norm")}


def float64_leaks(r: Rehearsal) -> Found:
    sizes = {np.float32: 0, np.float64: 0}
    for p in r.parameters.values():
        sizes[np.float64 if p.dtype == np.float64 else np.float32] += p.size
    if sizes[np.float64] > sizes[np.float32]:
        return  # float64 is wanted
    for node in r.nodes:
        inside = any(p is not None and p.dtype == np.float64 and not isinstance(p, Leaf) for p in below(node))
        if node.dtype != np.float64 or isinstance(node, Leaf) or inside:
            continue
        operation = r.graph.operation(node)
        kinds = np.ndarray | np.generic
        wide = [q for q in operation.operands if isinstance(q.array, kinds) and q.array.dtype.name != "float32"]
        texts = (f"the {q.title}, {q.array.dtype} {q.array.shape}" for q in wide)
        yield node, {"op": title(node), "wide": listed(texts) or "what it does inside"}


def in_evaluation(r: Rehearsal) -> Found:
    names = [name or type(m).__name__ for name, m in r.model.named_modules() if not m.training and _acts_in_training(m)]
    if names:
        yield None, {"listed": listed(map(repr, names)), "count": len(names)}


def _acts_in_training(module: Any) -> bool:
    """Is there a difference between its modes, and has it not been frozen on purpose?"""
    if isinstance(module, BatchNorm1d):
        own = list(module.parameters())
        return not own or any(p.requires_grad for p in own)
    return (isinstance(module, Dropout) and module.p > 0) or (isinstance(module, GaussianNoise) and module.std > 0)


def evaluated_in_training(r: Rehearsal) -> Found:
    for name, module in r.model.named_modules():
        if isinstance(module, BatchNorm1d) and module.num_batches_tracked is not None:
            count = int(module.num_batches_tracked.data)
            if r.steps < count <= 2 * r.steps:  # beyond, it has more likely been trained before
                yield None, {"name": name, "batches": count, "steps": r.steps}
                return


def unreached(r: Rehearsal) -> Found:
    yield from _some(r, {n: p for n, p in r.parameters.items() if p.node is not None and p.node not in r.users})


def _some(r: Rehearsal, found: dict[str, Tensor]) -> Found:
    """Parameters, at the first of them."""
    if found:
        first = next(iter(found.values()))
        yield first.node, {"listed": listed(map(repr, found)), "count": len(found), "all": len(r.parameters)}


def nothing_learns(r: Rehearsal) -> Found:
    if r.parameters and all(p.node is None for p in r.parameters.values()):
        yield None, {"all": len(r.parameters)}


def not_in_optimizer(r: Rehearsal) -> Found:
    held = {id(p) for p in r.held}
    yield from _some(r, {n: p for n, p in r.parameters.items() if p.node in r.users and id(p) not in held})


def foreign(r: Rehearsal) -> Found:
    own = {id(p) for p in r.parameters.values()}
    found = [p for p in r.held if id(p) not in own and p.node not in r.users]
    if found:
        yield found[0].node, {"listed": listed(map(r.name, found)), "count": len(found), "all": len(r.held)}


def accumulated(r: Rehearsal) -> Found:
    """Gradients that have outlived two steps: one is no sign, for in a GAN the other network's pass adds to them before
    they are cleared."""
    pairs = [(p.grad.data, r.gradients[p.node]) for p in r.held if p.grad is not None and p.node in r.gradients]
    old, new = (float(np.sqrt(sum(np.vdot(pair[i], pair[i]) for pair in pairs))) for i in (0, 1))
    carried = any(p.grad is not None and p.node.carried > 1 for p in r.held if isinstance(p.node, Leaf))
    if carried or (not r.steps and old > REPEATED * new > 0):
        yield None, {"old": old, "new": new, "steps": r.steps}


def old_graph(r: Rehearsal) -> Found:
    given = set().union(*(ancestors(x.node) for x in r.inputs))  # the batch may well have been computed
    old = [n for n in r.nodes if n.order < r.began and not isinstance(n, Leaf) and n not in given]
    if old:
        yield old[-1], {"count": len(old), "all": sum(not isinstance(n, Leaf) for n in r.nodes)}


def tiny_batches(r: Rehearsal) -> Found:
    for node in r.called("batch_norm"):
        values = int(np.prod(node.shape)) // node.shape[1]
        if values < FEW:
            yield node, {"values": values, "error": float(np.sqrt(2 / (values - 1)))}
            return
