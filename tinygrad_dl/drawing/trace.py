"""What a picture shows: boxes and arrows, found by a walk over the recorded graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from .._source import describe_line
from .._tensor import Tensor
from ..graph import Array, Leaf, Node, Output, behind
from ..nn.state import named_state
from ..scope import Path

Place = tuple[Path, ...]  # the modules around a box, from the outermost


class Mark(NamedTuple):
    """What somebody found out about an operation. weight: of the marks in a folded module the heaviest is shown."""

    weight: int
    text: str
    colour: str


NO_MARKS: Mapping[Node, Mark] = MappingProxyType({})


@dataclass(eq=False)
class Box:
    """kind: parameter, input, constant or operation; module, once folded; or cut.

    detail: an operation's constants and options; a folded module's contents. module: of which this is all."""

    kind: str
    title: str
    place: Place
    shape: tuple[int, ...] | None = None
    dtype: str = ""
    detail: str = ""
    module: str = ""
    line: str = ""
    value: Array | None = None
    grad: Array | None = None
    result: bool = False
    order: int = 0
    stale: bool = False  # has its tensor been overwritten since?
    mark: Mark | None = None


@dataclass
class Graph:
    """Arrows go from box to box, with the number of the argument where that matters, or None."""

    boxes: list[Box] = field(default_factory=list)
    arrows: list[tuple[Box, Box, str | None]] = field(default_factory=list)


def trace(roots: Sequence[Tensor], inputs: Iterable[Any] = (), marks: Mapping[Node, Mark] = NO_MARKS) -> Graph:
    """The graph behind tensors; `inputs` are leaves to be shown as inputs rather than as parameters."""
    nodes = behind([t.node for t in roots if t.node is not None])
    tracer = _Tracer(nodes, {id(t) for t in inputs})
    graph = tracer.run(roots)
    for node, mark in marks.items():
        tracer.boxes[node].mark = mark
    return graph


class _Tracer:
    def __init__(self, nodes: list[Node], inputs: set[int]) -> None:
        self.nodes, self.inputs = nodes, inputs
        self.graph = Graph()
        self.boxes: dict[Node, Box] = {}
        self.constants: dict[int, Box] = {}  # by identity of the array
        self.inside: set[Box] = set()  # belong to the modules that use them
        self.names, self.buffers = _names_of_state(nodes)
        outputs: dict[Node, list[Output]] = {}
        for node in nodes:
            if type(node) is Output:
                outputs.setdefault(node.operation, []).append(node)
        self.single = {op: some[0] for op, some in outputs.items() if len(some) == 1}
        self.first_use: dict[Node, int] = {}
        for node in nodes:
            for parent in node.parents:
                if parent is not None:
                    self.first_use.setdefault(parent, node.order)

    def run(self, roots: Sequence[Tensor]) -> Graph:
        for node in self.nodes:
            if type(node) is Leaf:
                self.boxes[node] = self._leaf(node)
            elif type(node) is Output and node.operation in self.single:
                self.boxes[node] = self.boxes[node.operation]
            else:
                self.boxes[node] = self._operation(node)
        for tensor in roots:
            box = self.boxes[tensor.node]  # type: ignore[index]
            box.result, box.value = True, tensor.data
            box.title = f"{tensor.name} = {box.title}" if tensor.name and box.kind == "operation" else box.title
        self._place_values()
        found = dict.fromkeys([*self.constants.values(), *self.boxes.values()])  # of one order, a constant comes first
        self.graph.boxes = sorted(found, key=lambda box: box.order)
        return self.graph

    def _leaf(self, node: Leaf) -> Box:
        box = Box("parameter", node.name or "leaf", (), node.shape, node.dtype.name, order=node.order)
        box.value, box.grad = node.output, node.grad
        box.stale = node.stamp > self.first_use.get(node, node.stamp)
        tensor = node.tensor()
        if tensor is not None:
            if id(tensor) in self.names:
                self.inside.add(box)
                box.title = self.names[id(tensor)]
            box.title = tensor.name or box.title
            box.kind = "input" if id(tensor) in self.inputs else box.kind
            box.value, box.grad = tensor.data, None if tensor._grad is None else tensor._grad.data
        return box

    def _operation(self, node: Node) -> Box:
        place = _place(node.path)
        if type(node) is Output:
            box = Box("operation", f"output {node.index}", place, node.shape, node.dtype.name, order=node.order)
            self.graph.arrows.append((self.boxes[node.operation], box, None))
        else:
            box = Box("operation", node.primitive.name, place, order=node.order)  # type: ignore[union-attr]
        shown = self.single.get(node, node)  # the one output stands for its operation
        if not shown.several:
            box.shape, box.dtype, box.value, box.grad = shown.shape, shown.dtype.name, shown.output, shown.grad
        box.line = describe_line(node.line)
        if type(node) is not Output:
            self._arguments(node, box)
        return box

    def _arguments(self, node: Node, box: Box) -> None:
        """Arrows from what the operation was computed from; numbers and options go into its box."""
        op: Any = node.primitive
        sources: list[tuple[Box, int]] = []
        written: list[str] = []
        for i, (arg, parent) in enumerate(zip(node.args, node.parents, strict=True)):
            if parent is not None:
                sources.append((self.boxes[parent], i))
            elif isinstance(arg, np.ndarray) and (arg.ndim or i in (node.names or {})):
                sources.append((self._constant(arg, node, i), i))
            elif isinstance(arg, np.ndarray | np.generic | int | float):
                written.append(_number(arg))
                continue
            written.append("·")
        if any(text != "·" for text in written):
            box.detail = f"({', '.join(written)})"
        options = [f"{key}={value}" for key, value in node.static.items() if value != op.defaults.get(key)]
        box.detail = "  ".join([box.detail, *options]).strip()
        numbered = isinstance(op.kernel, np.ufunc) and op.name not in _SYMMETRIC and len(sources) > 1
        for source, i in sources:
            self.graph.arrows.append((source, box, str(i + 1) if numbered else None))

    def _constant(self, array: Array, node: Node, position: int) -> Box:
        """A constant array: one box, however often it is used."""
        box = self.constants.get(id(array))
        if box is None:
            given = (node.names or {}).get(position)
            name = given or self.buffers.get(id(array if array.base is None else array.base), "constant")
            box = Box("constant", name, (), array.shape, array.dtype.name, value=array, order=node.order)
            self.constants[id(array)] = box
            if given is None:
                self.inside.add(box)
        return box

    def _place_values(self) -> None:
        """What a module made or owns stands in the module that uses it; what the user gave a name, outside."""
        users: dict[Box, list[Place]] = {}
        for source, target, _ in self.graph.arrows:
            if source in self.inside:
                users.setdefault(source, []).append(target.place)
        for box, places in users.items():
            box.place = _common(places)
            box.title = box.title.removeprefix(".".join(path.name for path in box.place[1:]) + ".")


_SYMMETRIC = {"add", "multiply", "maximum", "minimum", "fmax", "fmin", "logaddexp", "hypot"}


def _number(value: Any) -> str:
    """A number in a title; what is too long for it, such as the key of a random mask, as dots."""
    short = f"{value:.4g}" if np.asarray(value).dtype.kind == "f" else str(value)
    return short if len(short) <= 10 else "…"


def _place(path: Path | None) -> Place:
    place: list[Path] = []
    while path is not None:
        place.append(path)
        path = path.parent
    return tuple(reversed(place))


def _common(places: Sequence[Place]) -> Place:
    first, *others = places
    for n, path in enumerate(first):
        if any(len(other) <= n or other[n].module is not path.module for other in others):
            return first[:n]
    return first


def _names_of_state(nodes: list[Node]) -> tuple[dict[int, str], dict[int, str]]:
    """The names of the running models' tensors, by identity, and of their buffers' arrays."""
    roots = {id(place[0].module): place[0].module() for node in nodes if (place := _place(node.path))}
    names: dict[int, str] = {}
    arrays: dict[int, str] = {}
    for model in filter(None, roots.values()):
        for name, tensor in named_state(model).items():
            names.setdefault(id(tensor), name)
            arrays.setdefault(id(tensor.data), name)
    return names, arrays
