"""The reverse pass: `propagate` runs a recorded graph backwards, `accumulate` adds what arrives into `.grad`.

Nodes are visited in reverse order of creation, which is a topological order, so nothing here recurses over
the graph. A rule has two readings: on ndarrays NumPy runs it undisturbed; on Tensors (`second`) each of its
operations is recorded in turn, which gives derivatives of any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from heapq import heappop, heappush, heappushpop
from typing import TYPE_CHECKING, Any

import numpy as np

from . import graph
from ._source import describe_line, explain, user_line
from .graph import Handle, Leaf, Node, Output, unshared, wrap
from .scope import taping, watched_by, watching, within

if TYPE_CHECKING:
    from ._tensor import Tensor


def propagate(
    seeds: Sequence[tuple[Node, Any]],
    *,
    second: bool = False,
    retain: bool = False,
    wanted: set[Node] | None = None,
    stop: bool = False,
) -> dict[Node, Any]:
    """Run the graph backwards from `(node, gradient)` pairs; return the gradients of the wanted nodes.

    second: the rules run on Tensors and are recorded; for a tape they run on Tensors in any case. retain: the
    graph can be run again. wanted: default every leaf; nothing is computed that does not lead there. stop: do not
    look behind the wanted nodes.
    """
    tape, watch = taping(), watching()
    wrapped = second or tape is not None
    useful = None if wanted is None else leading_to(wanted, [node for node, _ in seeds])
    line = user_line()
    last_write = graph.last_write
    heap: list[tuple[int, Node]] = []  # the latest first
    grads: dict[Node, Any] = {}  # borrowed from the rules until an addition makes an array of our own
    owned: set[Node] = set()
    found: dict[Node, Any] = {}

    def add(node: Node, g: Any) -> None:
        if node not in grads:
            grads[node] = g
            heappush(heap, (-node.order, node))
        elif node in owned:
            np.add(grads[node], g, out=grads[node])
        else:
            total = grads[node] + g
            grads[node] = total if wrapped else np.asarray(total)
            if not wrapped:
                owned.add(node)

    ahead: Node | None = None  # a node not yet on the heap: along a chain the heap stays empty
    usual = None if watch else np.ndarray  # what needs no second look; a watch looks at every gradient
    aside = watched_by(None) if watch and wrapped else nullcontext()  # it looks at the results of rules, not inside
    with aside, within(recording=second) if wrapped else nullcontext():
        for node, g in seeds:
            add(node, g)
        while heap or ahead:
            if ahead is None:
                node = heappop(heap)[1]
            elif heap:
                node = heappushpop(heap, (-ahead.order, ahead))[1]
            else:
                node = ahead
            ahead = None
            g = grads.pop(node)
            if wanted is not None and node in wanted:
                found[node] = g
                if stop or not (useful and any(p in useful for p in node.parents)):
                    continue  # what lies behind stays as it is
            if node.retain:
                node.grad = g if node.retain == 2 or not wrapped else g.data  # a Tensor may lead back to this node
            op = node.primitive
            if op is None:
                if type(node) is Output:
                    operation: Any = node.parents[0]
                    if operation not in grads:
                        add(operation, [None] * node.siblings)
                    grads[operation][node.index] = g
                elif wanted is None:
                    found[node] = g
                continue
            if node.spent is not None:
                raise _spent(node)
            targets = node.parents if useful is None else [p if p in useful else None for p in node.parents]
            if tape is not None:
                tape.origin = node
            if last_write > node.order:
                _check_values(node)
            args, static, joint = node.args, node.static, wrapped or op.joint
            y = node if node.output is None else node.output
            try:
                results = op.pull(node, tuple(g) if type(g) is list else g, targets, wrapped) if joint else op.vjps
                i = -1
                for target in targets:  # counting by hand: `zip` would cost 0.15 of 2.8 µs
                    i += 1
                    if target is None:
                        continue
                    r = results[i]
                    if r is None:
                        continue
                    if not joint:  # `Primitive.pull`, written out
                        r = r(g, y, *args, **static) if static else r(g, y, *args)
                    if type(r) is not usual or r.shape != target.shape or r.dtype is not target.dtype:
                        r = _fit(r, node, target, wrapped)
                        if watch:
                            watch.gradient(node, g, i, r, seeds)
                    if target in grads:
                        add(target, r)
                    elif ahead is None:  # `add`, written out
                        grads[target] = r
                        ahead = target
                    else:
                        grads[target] = r
                        heappush(heap, (-target.order, target))
            except FloatingPointError:  # a watch's own message
                raise
            except Exception as error:
                described = [p or a for a, p in zip(args, node.parents, strict=True)]
                raise explain(error, f"backward of {op.name}", described, static, node.path, node.line) from error
            if not retain:
                node.release(line)
    if tape is not None:
        tape.origin = None
    return found


def accumulate(found: dict[Node, Any], create_graph: bool) -> None:
    """Add the gradients that a pass has found into `.grad` of its leaves' tensors, and take them out of `found`."""
    tape = taping()
    wrapped = create_graph or tape is not None
    leaf: Any
    for leaf in found:
        target = leaf.tensor()
        if target is not None and type(target.node) is Leaf and target.node is not leaf:
            name = f" of {target.name!r}" if target.name else ""
            raise RuntimeError(
                f"backward: a {leaf.dtype} tensor of shape {leaf.shape}{name} was cast, or frozen and "
                "thawed, after its value was used; compute the loss again"
            )
    while found:
        leaf, g = found.popitem()
        target = leaf.tensor()
        if target is None or target.node is not leaf:
            continue
        new: Tensor = g if wrapped else wrap(g)
        del g  # or the array would seem shared
        if tape is not None:
            tape.read_grad(target)
            tape.write_grad(target)
        if (old := target._grad) is None:
            leaf.added, leaf.carried = leaf.stamp, 0
            if not wrapped and not unshared(new):
                new = wrap(new.data.copy())
        else:
            if leaf.added != leaf.stamp:
                leaf.added, leaf.carried = leaf.stamp, leaf.carried + 1 if old.data.any() else 0
            if wrapped:
                with within(recording=create_graph):
                    new = old + new
            else:
                new = wrap(np.asarray(old.data + new.data))
        target._grad = new if tape is None else wrap(tape.own(new.data), new.node if create_graph else None)


def _check_values(node: Node) -> None:
    """Has a leaf been assigned to since this operation saved its value (or a view of it)?"""
    for arg, parent in zip(node.args, node.parents, strict=True):
        if parent is not None and arg is not parent:
            leaf = parent if type(parent) is Leaf else parent.origin
            if leaf is not None and leaf.stamp > node.order:
                raise _stale(node, leaf)


def leading_to(wanted: set[Node], roots: Sequence[Node]) -> set[Node]:
    """The nodes below the roots through which a gradient reaches a wanted one."""
    first = min((node.order for node in wanted), default=0)
    seen, stack = set(roots), list(roots)
    while stack:
        for parent in stack.pop().parents:
            if parent is not None and parent not in seen and parent.order >= first:
                seen.add(parent)
                stack.append(parent)
    useful: set[Node] = set()
    for node in sorted(seen, key=lambda n: n.order):
        if node in wanted or any(p in useful for p in node.parents):
            useful.add(node)
    return useful


def _spent(node: Node) -> RuntimeError:
    op: Any = node.primitive
    line: Any = node.spent
    return RuntimeError(
        f"backward through {op.name} a second time: its saved values were freed by the first backward, "
        f"at {describe_line(line)}\n"
        f"  forward at {describe_line(node.line)}\n"
        "  pass retain_graph=True to the first backward, or compute the loss again"
    )


def _stale(node: Node, leaf: Leaf) -> RuntimeError:
    op: Any = node.primitive
    tensor = leaf.tensor()
    name = (tensor is not None and tensor.name) or f"a {leaf.dtype} tensor of shape {leaf.shape}"
    written: Any = leaf.written
    return RuntimeError(
        f"backward of {op.name}: {name} was overwritten at {describe_line(written)}\n"
        f"  after its value was used at {describe_line(node.line)}\n"
        "  run backward before the update, or compute the loss again after it"
    )


def unbroadcast(g: Any, shape: tuple[int, ...]) -> Any:
    """Sum a gradient over the axes along which its argument was broadcast."""
    if g.dtype == np.float16:  # whose sums stagnate
        return unbroadcast(g.astype(np.float32), shape).astype(np.float16)
    if g.ndim > len(shape):
        g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    axes = tuple(i for i, (have, want) in enumerate(zip(g.shape, shape, strict=True)) if want == 1 != have)
    return g.sum(axis=axes, keepdims=True) if axes else g


def _fit(r: Any, node: Node, parent: Node, wrapped: bool) -> Any:
    """A rule's result as a gradient of exactly its argument's shape and dtype."""
    if not isinstance(r, Handle if wrapped else np.ndarray):
        r = wrap(np.asarray(r)) if wrapped else np.asarray(r)
    if r.dtype.kind not in "fiub":
        position = list(node.parents).index(parent)
        text = f"the rule for argument {position} returned a gradient of {r.dtype}, expected {parent.dtype}"
        raise TypeError(text + ("; take its real part" if r.dtype.kind == "c" else "; return an array of numbers"))
    if r.shape != parent.shape:
        op: Any = node.primitive
        if not op.elementwise or not _broadcasts(parent.shape, r.shape):
            raise ValueError(_wrong_shape(node, parent, r.shape))
        r = unbroadcast(r, parent.shape)
        r = r if wrapped else np.asarray(r)  # NumPy's sum of everything is no array
    return r if r.dtype == parent.dtype else r.astype(parent.dtype)


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    pairs = zip(reversed(shape), reversed(to), strict=False)
    return len(shape) <= len(to) and all(have in (1, want) for have, want in pairs)


def _wrong_shape(node: Node, parent: Node, got: tuple[int, ...]) -> str:
    position = list(node.parents).index(parent)
    text = f"the rule for argument {position} returned a gradient of shape {got}, expected its shape {parent.shape}"
    if _broadcasts(parent.shape, got):
        lead = len(got) - len(parent.shape)
        axes = tuple(i for i in range(len(got)) if i < lead or parent.shape[i - lead] != got[i])
        return f"{text}; sum it over the broadcast axes {axes}, or declare the primitive with elementwise=True"
    return f"{text}; return a gradient of the argument's own shape"
