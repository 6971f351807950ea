"""`trace_axes`: the graph of a program's nodes and axes, see `axes`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from ..ops._arguments import axes_of
from .axes import Axes, Axis, Graph, Node, Union, collapsed, root
from .lowering import basic_name
from .matrix_product import lies, located
from .moves import moves
from .narrow import turned_rows
from .passes import axes_order
from .product_forms import summed_products, turned_products
from .program import Instruction, Program, Value

VIEWS = ("reshape", "transpose", "broadcast_to")
REDUCTIONS = ("sum", "max", "min", "prod")
Read = tuple[Node, tuple[Axis | None, ...]]  # a node, and the axis of each dimension of the value that it stands for


class Tracer:
    def __init__(self, program: Program, lowers: Callable[[Instruction], bool]) -> None:
        self.program, self.lowers = turned_rows(summed_products(program, lowers), lowers), lowers
        self.axes = Union()
        self.nodes: list[Node] = []
        self.reads: dict[Value, Read] = {}
        self.makers = self.program.makers()
        self.turned = turned_products(self.program)
        self.uses = self.program.uses()
        self.products: dict[Value, int] = {}  # that are read once, and when each is made

    def trace(self) -> Graph:
        inputs = [self.fresh("input", v) for v in self.program.inputs]
        constants = {self.fresh("input", v): array for v, array in self.program.constants.items()}
        for step in self.program.body:
            self.instruction(step)
        outputs = [self.exact(v) for v in self.program.outputs]
        for number, node in enumerate(self.nodes):
            node.number = number
            node.layout = tuple(self.axes.find(a) for a in node.layout)
            node.over = frozenset(self.axes.find(a) for a in node.over)
        sizes = {a: self.axes.sizes[a] for node in self.nodes for a in (*node.layout, *node.over)}
        return Graph(self.nodes, inputs, constants, outputs, sizes)

    def add(self, node: Node) -> Node:
        self.nodes.append(node)
        return node

    def fresh(self, kind: str, value: Value, name: str = "", args: Sequence[Any] = ()) -> Node:
        """A node with axes of its own."""
        node = self.add(Node(kind, name, args, value.dtype))
        axes = tuple(self.axes.new(n) if n > 1 else None for n in value.shape)
        node.layout = tuple(a for a in axes if a is not None)
        self.axes.separate(node.layout)
        self.reads[value] = node, axes
        return node

    def instruction(self, step: Instruction) -> None:
        name, y = basic_name(step), step.outputs[0]
        if name in VIEWS and isinstance(step.args[0], Value) and y.size and self.view(step, step.args[0], y):
            return
        small = any(v.size == 0 for v in (*step.inputs, *step.outputs))
        if small or not self.lowers(step):
            self.opaque(step)
        elif name == "matmul":
            self.product(step, y)
        elif name in REDUCTIONS:
            self.reduction(step, y)
        elif name == "bits":
            self.fresh("map", y, name, self.arguments(step))
        elif name == "add" and self.accumulation(step, y):
            pass
        elif not self.elementwise(step, y) and not self.elementwise_apart(step, y):
            self.opaque(step)

    def arguments(self, step: Instruction) -> list[Any]:
        return [self.reads[a][0] if isinstance(a, Value) else a for a in step.args]

    def opaque(self, step: Instruction) -> None:
        """Each output of an instruction that NumPy runs is a node; the first of them runs it."""
        args = [self.exact(a) if isinstance(a, Value) else a for a in step.args]
        if found := moves(step):
            self.fresh("move", step.outputs[0], step.op.name, args).moves = found
            return
        first: Node | None = None
        for y in step.outputs:
            node = self.fresh("opaque", y, step.op.name, args if first is None else [first])
            node.instruction = step
            first = first or node

    def view(self, step: Instruction, x: Value, y: Value) -> bool:
        node, axes = self.reads[x]
        name = basic_name(step)
        if name == "transpose":
            found: list[Axis | None] = [axes[i] for i in axes_order(step)]
        elif name == "broadcast_to":
            own = (None,) * (y.ndim - x.ndim) + axes
            found = [self.axes.new(n) if a is None and n > 1 else a for a, n in zip(own, y.shape, strict=True)]
            self.axes.separate([self.axes.find(a) for a in found if a is not None])
        elif [n for n in x.shape if n > 1] == [n for n in y.shape if n > 1]:
            kept = iter([a for a in axes if a is not None])
            found = [next(kept) if n > 1 else None for n in y.shape]
        else:
            self.fresh("view", y, name, [self.exact(x)])
            return True
        self.reads[y] = node, tuple(found)
        return True

    def layout(self, node: Node) -> Axes:
        return tuple(self.axes.find(a) for a in node.layout)

    def varies(self, node: Node) -> set[Axis]:
        return set(self.layout(node))

    def accumulation(self, step: Instruction, y: Value) -> bool:
        """A product that adds to what lies in memory: to an earlier product, or to what the sum replaces, as a gradient
        does that is kept from run to run. Nothing else reads either of them."""
        alike = [a for a in step.inputs if (a.shape, a.dtype) == (y.shape, y.dtype)]
        if len(alike) < 2 or not any(a in self.products for a in alike):
            return False
        earlier, later = sorted(alike, key=lambda a: self.products.get(a, -1))
        if earlier not in self.products and not self.replaces(y, earlier):
            return False
        (first, axes), (second, own) = self.reads[earlier], self.reads[later]
        if not all(self.axes.join(a, b) for a, b in zip(axes, own, strict=True) if a is not None and b is not None):
            return False
        start = root(second)
        if start is not second and first.kind != "input":  # which of them comes first?
            return False
        start.args = (*start.args, first)
        self.reads[y] = second, own
        if self.uses.get(y) == 1:
            self.products[y] = self.products[later]
        return True

    def replaces(self, y: Value, x: Value) -> bool:
        """Is y nothing but the new value of x, which only y is computed from? So nothing can fail once it is known."""
        alone = self.uses.get(x) == self.uses.get(y) == 1
        return alone and any(
            self.program.outputs[i] is y and self.program.inputs[j] is x for i, j in self.program.updates.items()
        )

    def elementwise(self, step: Instruction, y: Value) -> bool:
        dims: list[Axis | None] = [None] * y.ndim
        for x in step.inputs:
            node, axes = self.reads[x]
            for j, a in enumerate(axes, y.ndim - x.ndim):
                if a is not None and dims[j] is None:
                    dims[j] = a
                elif a is not None and not self.axes.join(dims[j], a):  # type: ignore[arg-type]
                    return False
        dims = [a if a is None else self.axes.find(a) for a in dims]
        own = [a for a in dims if a is not None]
        if len(set(own)) < len(own):
            return False
        self.axes.separate(own)
        node = Node("map", basic_name(step), self.arguments(step), y.dtype)
        varies = {a for x in node.nodes for a in self.varies(x)}
        node.layout = tuple(a for a in own if a in varies)
        if not self.fits(node.layout, map(self.layout, node.nodes)):
            return False
        self.add(node)
        self.reads[y] = node, tuple(dims)
        return True

    def elementwise_apart(self, step: Instruction, y: Value) -> bool:
        """With axes of their own for its arguments, one after another: x[:, None] - x reads one array along two."""
        for x in reversed(list(dict.fromkeys(step.inputs))):
            self.fresh("view", x, "view", [self.exact(x)])
            if self.elementwise(step, y):
                return True
        return False

    def reduction(self, step: Instruction, y: Value) -> None:
        x = step.inputs[0]
        node, axes = self.reads[x]
        dims = axes_of(step.static.get("axis"), x.ndim)
        varies = self.varies(node)
        over = [self.axes.find(a) for i, a in enumerate(axes) if i in dims and a is not None]
        times = math.prod(self.axes.sizes[a] for a in over if a not in varies)
        left = tuple(None if i in dims else a for i, a in enumerate(axes))
        keeps = step.static.get("keepdims", False)
        lost = frozenset(a for a in over if a in varies)
        layout = tuple(found for a in left if a is not None and (found := self.axes.find(a)) in varies)
        runs = self.runs(node, layout, lost)
        if (step.op.name == "prod" and times > 1) or runs is None:
            return self.opaque(step)
        if node.dtype != y.dtype:
            node = self.derived("astype", [node], node, y.dtype)
        for gone, rest in runs:
            node = self.derived(step.op.name, [node], node, y.dtype)
            node.kind, node.over, node.layout = "reduce", gone, rest
        if step.op.name == "sum" and times > 1:
            node = self.derived("multiply", [node, times], node, y.dtype)
        kept = left if keeps else tuple(a for i, a in enumerate(left) if i not in dims)
        self.reads[y] = node, kept
        return None

    def runs(self, node: Node, layout: Axes, lost: frozenset[Axis]) -> list[tuple[frozenset[Axis], Axes]] | None:
        """The reductions that leave a layout of a node, and what each takes away and leaves: one, or one after another
        where axes do not lie side by side. None if no kernels can do that."""
        whole = self.layout(node)
        if self.fits(layout, [whole], lost):
            return [(lost, layout)] if lost else []
        found, here = [], whole
        for gone in [frozenset(run) for away, run in groupby(reversed(whole), lost.__contains__) if away]:
            kept = tuple(a for a in here if a not in gone)
            if not self.fits(kept, [here], gone):
                return None
            found.append((gone, kept))
            here = kept
        return found if here == layout else None

    def fits(self, layout: Axes, read: Iterable[Axes], over: Iterable[Axis] = ()) -> bool:
        """Are all axes that an operation deals with rows and columns, and such as are outside of everything?"""
        layouts = [layout, *read]
        axes = collapsed([frozenset(over), *map(frozenset, layouts)], layouts)
        if axes is None or len(axes) > 3:
            return False
        return len(axes) < 3 or set(axes[0]) <= set(layout)

    def derived(self, name: str, args: list[Any], like: Node, dtype: np.dtype[Any]) -> Node:
        node = self.add(Node("map", name, args, dtype))
        node.layout = like.layout
        return node

    def product(self, step: Instruction, y: Value) -> None:
        (x, first), (z, second) = (self.operand(a) for a in step.inputs)
        made, order = self.turned.get(y, (y, [*range(y.ndim)]))
        node = self.fresh("gemm", made, "matmul", [x, z])
        axes = self.reads[made][1]
        self.reads[y] = node, tuple(axes[order.index(i)] for i in range(y.ndim))
        apart = [[0] * (y.ndim - len(s)) + s for s in (first, second, self.strides(*self.reads[y]))]
        node.product, flips = located(y.shape, step.inputs[0].shape[-1], *apart)
        if flips:
            node.args = (z, x)
        if y.ndim == 2 and all(self.uses.get(v) == 1 for v in {y, made}):
            self.products[made] = len(self.nodes)

    def operand(self, x: Value) -> tuple[Node, list[int]]:
        """The node in whose memory a factor of a product lies, and its strides there."""
        node, axes = self.reads[x]
        if lies(x.shape, strides := self.strides(node, axes)) is None:
            node = self.exact(x)
            strides = self.strides(*self.reads[x])
        return node, strides

    def strides(self, node: Node, axes: Sequence[Axis | None]) -> list[int]:
        """How far apart in a node's memory neighbours along some axes are, in elements."""
        apart, step = {}, 1
        for a in reversed(self.layout(node)):
            apart[a] = step
            step *= self.axes.sizes[a]
        return [0 if a is None else apart.get(self.axes.find(a), 0) for a in axes]

    def exact(self, x: Value) -> Node:
        """A node whose memory is the value as a contiguous array."""
        node, axes = self.reads[x]
        own = tuple(self.axes.find(a) for a in axes if a is not None)
        layout = self.layout(node)
        if layout == own:
            return node
        copied = layout == tuple(a for a in own if a in layout) and self.lowers(self.makers[x])
        if copied and self.fits(own, [layout]):
            node = self.add(Node("map", "copy", [node], x.dtype))
            node.layout = own
            self.reads[x] = node, axes
            return node
        self.opaque(self.makers[x])
        return self.reads[x][0]


def trace_axes(program: Program, lowers: Callable[[Instruction], bool]) -> Graph:
    """The graph of a program. lowers: can the backend compute this instruction? All others are opaque."""
    return Tracer(program, lowers).trace()
