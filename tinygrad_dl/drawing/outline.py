"""Folding: modules below a depth become one box each, and what is still too much is cut off."""

from __future__ import annotations

import math

from ..scope import Path
from .trace import Box, Graph

MOST = 200  # boxes; `dot` takes 9 to 15 s for 600


def fold(graph: Graph, depth: int | None) -> Graph:
    """The graph with modules nested deeper than `depth` as one box each; by default, as deep as MOST boxes allow."""
    graph = _limited(graph) if depth is None else _folded(graph, depth)
    for level in range(_deepest(graph), 0, -1):
        for boxes in _groups(graph, level).values():
            if len(boxes) == 1:
                _unwrap(boxes[0], level)
    return graph


def _limited(graph: Graph) -> Graph:
    if len(graph.boxes) <= MOST:
        return graph
    for limit in range(_deepest(graph) - 1, -1, -1):
        folded = _folded(graph, limit)
        if len(folded.boxes) <= MOST:
            return folded
    return _cut(_folded(graph, 0))


def _deepest(graph: Graph) -> int:
    return max((len(box.place) for box in graph.boxes), default=0)


def _groups(graph: Graph, level: int) -> dict[tuple[int, ...], list[Box]]:
    """The boxes of each module at a level of nesting; calls of one module from one place belong together."""
    groups: dict[tuple[int, ...], list[Box]] = {}
    for box in graph.boxes:
        if len(box.place) >= level:
            groups.setdefault(tuple(id(path.module) for path in box.place[:level]), []).append(box)
    return groups


def heading(path: Path) -> str:
    """`0  Linear`; of an outermost module, its kind."""
    return path.kind if path.name == path.kind else f"{path.name}  {path.kind}"


def _unwrap(box: Box, level: int) -> None:
    """A module with one box needs no frame around it."""
    box.module = " / ".join(filter(None, [heading(box.place[level - 1]), box.module]))
    box.place = box.place[: level - 1]


def _folded(graph: Graph, depth: int) -> Graph:
    into: dict[Box, Box] = {}
    for boxes in _groups(graph, depth + 1).values():
        into.update(dict.fromkeys(boxes, _module(boxes, depth)))
    return _replaced(graph, into)


def _module(boxes: list[Box], depth: int) -> Box:
    """One box for all that happens in a module."""
    *place, path = boxes[0].place[: depth + 1]
    operations = [box for box in boxes if box.kind == "operation"]
    sizes = [math.prod(box.shape or ()) for box in boxes if box.kind == "parameter"]
    last = (operations or boxes)[-1]
    parts = [_count(len(operations), "operation")] + ([f"{sum(sizes):,} parameters"] if sizes else [])
    module = Box("module", heading(path), tuple(place), last.shape, last.dtype, " · ".join(parts), order=last.order)
    module.result, module.value, module.grad = last.result, last.value, last.grad
    module.mark = max((box.mark for box in boxes if box.mark is not None), default=None)
    return module


def _count(n: int, thing: str) -> str:
    return f"{n:,} {thing}" + ("s" if n != 1 else "")


def _cut(graph: Graph) -> Graph:
    """Keep the latest boxes; one stands for the rest."""
    early = graph.boxes[: 1 - MOST]
    rest = Box("cut", f"… {_count(len(early), 'earlier step')}", (), order=early[-1].order)
    return _replaced(graph, dict.fromkeys(early, rest))


def _replaced(graph: Graph, into: dict[Box, Box]) -> Graph:
    """The graph with boxes put into others. Arrows inside one, and second arrows between the same two, go."""
    boxes = list(dict.fromkeys(into.get(box, box) for box in graph.boxes))
    arrows = {}
    for source, target, label in graph.arrows:
        new = into.get(source, source), into.get(target, target)
        if source not in into and target not in into:
            arrows[source, target, label] = (source, target, label)
        elif new[0] is not new[1]:
            arrows[*new, None] = (*new, None)
    return Graph(boxes, list(arrows.values()))
