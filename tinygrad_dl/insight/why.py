"""`why`: why a tensor has no gradient, why its gradient is zero, or what one of its elements is made of.

Everything is read from the recorded graph and the program's text; where neither tells, the answer says so.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import index as whole
from typing import Any

import numpy as np

from .._source import describe, describe_line, user_frame
from .._tensor import Tensor
from ..graph import Leaf, Node
from .broken import cuts, origin
from .flow import Flow, ancestors
from .history import Index
from .split import Part, by_path, by_sample
from .zero import reasons

SHOWN = 8  # parts and broken edges that are printed


@dataclass(frozen=True)
class Answer:
    """What `why` found; printed, it is the text. verdict: "none", "zero", "partly zero" or "nonzero". paths, samples:
    the parts of one element, each of which adds up to it."""

    verdict: str
    lines: tuple[str, ...]
    paths: tuple[Part, ...] = ()
    samples: tuple[Part, ...] = ()

    def __str__(self) -> str:
        return "\n".join(self.lines)

    __repr__ = __str__


def why(t: Tensor, loss: Tensor | None = None, index: int | Sequence[int] | None = None) -> Answer:
    """Why a tensor has no gradient, or a gradient of zero; with an index, the contributions to one element of it.

    t: a tensor. Without a loss the answer says what can be known from the tensor alone.
    loss: a one-element result whose graph has not been freed by `backward`. The answer names each value that entered
        its graph without a gradient (detached, under `no_grad`, cast to integers), with its line; or, for a gradient
        of zero, each operation that stops it and why (dead units, saturation, elements not selected, factors of zero,
        underflow).
    index: of an element of t, whose gradient is split by path through the graph (`.paths`) and by row of the batch
        (`.samples`), if it is certain which rows those are.
    Nothing changes: no `.grad` is written, and `backward` can still be run.
    Raises TypeError for anything but a Tensor, IndexError for an index out of range, RuntimeError if backward has
    freed the graph, ValueError for a loss of several elements.
    """
    for name, value in (("t", t), ("loss", loss)):
        if not isinstance(value, Tensor) and (name == "t" or value is not None):
            raise TypeError(f"why: expected a Tensor for {name}, got {describe(value)}")
    if index is not None and loss is None:
        raise TypeError("why: an element is split along a loss's graph; pass the loss: why(t, loss, index)")
    what = _title(t, t.name)
    if t.node is None:
        return Answer("none", (f"{what} has no gradient: nothing was recorded of how it came about", *_plain(t)))
    if loss is None:
        return _alone(t, t.node, what)
    if loss.node is None:
        lines = (f"{what} has no gradient, because the loss has none:", *_plain(loss))
        return Answer("none", lines)
    if loss.size != 1:
        raise ValueError(f"why: expected a loss of one element, got shape {loss.shape}; take its sum or mean")
    if t.node not in ancestors(loss.node):
        return _unreached(t.node, loss.node, what)
    if t.node is loss.node:
        return Answer("nonzero", (f"{what} is the loss itself, whose gradient is 1",))
    flow = Flow(loss, t.node)
    g = flow.gradient(t.node)
    what = _title(t, t.name or next((flow.operand(use).name for use in flow.uses[t.node]), None))
    return _whole(flow, g, what) if index is None else _element(flow, g, _place(t, index), what)


def _title(t: Tensor, name: str | None) -> str:
    return f"{name}, {t.dtype} {t.shape}," if name else f"this {t.dtype} tensor {t.shape}"


def _plain(t: Tensor) -> Iterator[str]:
    """Why a tensor has no node."""
    if t._is_state:
        yield "  it is frozen: requires_grad is False; set it to True, or call requires_grad_() of its module"
        return
    if t.dtype.kind != "f":
        yield f"  {t.dtype} has no gradient: a cast, a comparison or an index (argmax, argsort) ends it"
    frame = user_frame(sys._getframe(1))
    names = [n for n, v in {**frame.f_globals, **frame.f_locals}.items() if v is t and n.isidentifier() and n[0] != "_"]
    told = [line for n in names[-1:] for line in origin(frame.f_code, frame.f_lineno, n)[0]]
    yield from (f"  {line}" for line in told)
    if not told and t.dtype.kind == "f":
        yield "  it was made without requires_grad=True, computed from such tensors only or under no_grad, or detached;"
        yield "  which of these is not recorded"


def _alone(t: Tensor, node: Node, what: str) -> Answer:
    """What can be known without a loss."""
    g = t.grad
    if g is not None:
        zeros = int(np.count_nonzero(g.data == 0))
        verdict = "zero" if zeros == g.size else "partly zero" if zeros else "nonzero"
        return Answer(verdict, (f"{what} has a gradient, of which {zeros} of {g.size} elements are 0", _HINT))
    if not isinstance(node, Leaf):
        line = f"  it is the result at {describe_line(node.line)}"
        return Answer("none", (f"{what} keeps no gradient:", line, "  call .retain_grad() on it before backward"))
    lines = [f"{what} has no gradient:"]
    readers = sorted((n for n in _living() if node in n.parents), key=lambda n: n.order)
    for n in readers[:SHOWN]:
        op: Any = n.primitive
        lines.append(f"  {op.name} at {describe_line(n.line)} uses it, but no backward pass has come from there")
    if not readers:
        lines.append("  no operation whose result is still alive has used it since it was made or its graph was freed,")
        lines.append("  or zero_grad() has cleared its gradient")
    return Answer("none", (*lines, _HINT))


_WILD = "  run the step inside `with tg.detect_nan():`, which names the first operation that gives it"
_HINT = "  pass the loss, before backward is run, for more: tg.why(t, loss)"


def _living() -> Iterator[Node]:
    return (o for o in gc.get_objects() if type(o) is Node and o.primitive is not None)


def _unreached(target: Node, loss: Node, what: str) -> Answer:
    """The loss does not depend on the tensor."""
    lines = [f"{what} has no gradient: the loss does not depend on it, as far as was recorded"]
    if isinstance(target, Leaf) and target.order > loss.order:
        lines.append(f"  it became part of a graph only after the loss was computed, at {describe_line(target.line)}")
    found = cuts(loss, target)
    certain = [cut for cut in found if cut.leads]
    for cut in (certain or found)[:SHOWN]:
        lines.append(f"  {cut.text}")
    if certain:
        return Answer("none", tuple(lines))
    if not found:
        lines.append("  no cut was found: the tensor was never used in the loss's graph, or was cut off before it")
    else:
        lines.append("  if it was used, it was cut off before one of these, or at an unknown place; what they were")
        lines.append("  computed from is not recorded")
    return Answer("none", tuple(lines))


def _whole(flow: Flow, g: Any, what: str) -> Answer:
    wild = g.size - int(np.count_nonzero(np.isfinite(g)))
    if wild:
        return Answer("nonzero", (f"{what} has a gradient of which {wild} of {g.size} elements are not finite", _WILD))
    zero = g == 0
    count = int(np.count_nonzero(zero))
    if not count:
        size = float(np.linalg.norm(g.astype(np.float64)))  # squares leave the range of narrower dtypes
        return Answer("nonzero", (f"{what} has a gradient of norm {size:.4g}; no element of it is 0",))
    verdict = "zero" if count == g.size else "partly zero"
    lines = [f"{what} has a gradient of 0 in {count} of {g.size} elements" + _lines_of(zero)]
    return Answer(verdict, (*lines, *(f"  {line}" for line in reasons(flow, zero))))


def _lines_of(zero: Any) -> str:
    """Rows and columns that are zero throughout."""
    if zero.ndim != 2 or zero.all():
        return ""
    parts = [
        f"{len(found)} whole {kind}s ({', '.join(map(str, found[:SHOWN]))}{', ...' * (len(found) > SHOWN)})"
        for kind, axis in (("row", 1), ("column", 0))
        if len(found := np.flatnonzero(zero.all(axis=axis)))
    ]
    return f": {' and '.join(parts)}" if parts else ""


def _place(t: Tensor, index: int | Sequence[int]) -> Index:
    try:
        place = [whole(i) for i in (index if isinstance(index, Sequence) else [index])]
        inside = [-n <= i < n for i, n in zip(place, t.shape, strict=True)]
    except (TypeError, ValueError):  # no whole numbers, or not one for each axis
        inside = [False]
    if not all(inside):
        raise IndexError(f"why: expected an index of one element of a tensor of shape {t.shape}, got {index}")
    return tuple(i % n for i, n in zip(place, t.shape, strict=True))


def _element(flow: Flow, g: Any, place: Index, what: str) -> Answer:
    """The parts of one element."""
    value = float(g[place])
    paths, samples = by_path(flow, place), by_sample(flow, place)
    shown = f"[{', '.join(map(str, place))}]" if place else ""
    lines = [f"{what} has the gradient {value:.6g} at {shown or 'its one element'}"]
    lines += _table("ways through the graph", paths)
    lines += _table("samples", samples or [])
    if samples is None:
        lines.append("  by samples: undecided; it is not certain which rows of the values on the way are a sample's")
    if value == 0:
        zero = np.zeros(g.shape, bool)
        zero[place] = True
        lines += [f"  {line}" for line in reasons(flow, zero)]
    return Answer("nonzero" if value else "zero", tuple(lines), tuple(paths), tuple(samples or ()))


def _table(title: str, parts: list[Part]) -> Iterator[str]:
    """The largest parts."""
    if not parts:
        return
    order = sorted(parts, key=lambda p: -abs(p.value))
    yield f"  by {title}, {len(parts)} in all:"
    yield from (f"    {p.value:+.6g}  {p.label}" for p in order[:SHOWN])
    if len(order) > SHOWN:
        rest = sum(p.value for p in order[SHOWN:])
        yield f"    {rest:+.6g}  the other {len(order) - SHOWN}"
