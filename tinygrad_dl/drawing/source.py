"""A traced graph as DOT text: modules as nested clusters, boxes as small tables, in colours by what they are."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import graphviz

from .label import FONT, INK, QUIET, label, text
from .outline import heading
from .trace import Box, Graph

FORMULA = 24  # boxes; so many without a module are drawn from left to right, as one reads a formula

_GRAPH = {
    "bgcolor": "white", "pad": "0.15", "nodesep": "0.3", "ranksep": "0.38", "fontname": FONT, "labeljust": "l",
}  # fmt: skip
_NODE = {"shape": "plain", "fontname": FONT, "fontsize": "11", "fontcolor": INK}
_EDGE = {"color": "#8b95a5", "arrowsize": "0.6", "penwidth": "1.1", "fontname": FONT, "fontsize": "8.5"}
_CLUSTER = {"style": "rounded,filled", "color": "#d3dae4", "margin": "12", "fontsize": "10.5", "fontcolor": QUIET}
_SHADES = ("#f6f8fb", "#eef2f7", "#e6ecf3", "#dee6ef")  # of nested clusters


def dot(graph: Graph, values: bool | Literal["auto"], grads: bool) -> str:
    """The DOT text of a graph."""
    return _Writer(graph, values, grads).text()


class _Writer:
    def __init__(self, graph: Graph, values: bool | Literal["auto"], grads: bool) -> None:
        self.graph, self.values, self.grads = graph, values, grads
        self.names = {box: f"b{i}" for i, box in enumerate(graph.boxes)}
        self.beside = _companions(graph)

    def text(self) -> str:
        boxes = self.graph.boxes
        formula = len(boxes) <= FORMULA and not any(box.place for box in boxes)
        direction = {"rankdir": "LR" if formula else "TB"}
        picture = graphviz.Digraph("graph", graph_attr=_GRAPH | direction, node_attr=_NODE, edge_attr=_EDGE)
        self._fill(picture, boxes, 0)
        for source, target, argument in self.graph.arrows:
            self._arrow(picture, source, target, argument)
        return str(picture.source)

    def _fill(self, picture: graphviz.Digraph, boxes: list[Box], depth: int) -> None:
        """Write the boxes at a depth, and the clusters of those that lie deeper."""
        inner: dict[int, list[Box]] = {}
        for box in boxes:
            if len(box.place) > depth:
                inner.setdefault(id(box.place[depth].module), []).append(box)
                continue
            tooltip = graphviz.nohtml(text(box.line or box.title, 120))
            picture.node(self.names[box], label(box, self.values, self.grads), tooltip=tooltip)
            if box in self.beside:
                with picture.subgraph(graph_attr={"rank": "same"}) as row:
                    for member in (box, *self.beside[box]):
                        row.node(self.names[member])
        for members in inner.values():
            title = graphviz.nohtml(text(heading(members[0].place[depth])))
            cluster = graphviz.Digraph(
                f"cluster_{self.names[members[0]]}_{depth}",
                graph_attr=_CLUSTER | {"label": title, "fillcolor": _SHADES[min(depth, 3)]},
            )
            self._fill(cluster, members, depth + 1)
            picture.subgraph(cluster)

    def _arrow(self, picture: graphviz.Digraph, source: Box, target: Box, argument: str | None) -> None:
        options = {} if argument is None else {"headlabel": argument, "labeldistance": "1.4", "fontcolor": QUIET}
        tail, head = self.names[source], self.names[target]
        row = self.beside.get(target, [])
        if source in row and row.index(source) % 2:  # every second companion stands on the right
            picture.edge(head, tail, dir="back", **options)
        else:
            main = "1" if source.kind in ("parameter", "constant") else "5"  # keeps the way of the data straight
            picture.edge(tail, head, weight=main, **options)


def _companions(graph: Graph) -> dict[Box, list[Box]]:
    """The parameters and constants that only one operation of their own module uses: they stand beside it."""
    uses = Counter(source for source, _, _ in graph.arrows)
    found: dict[Box, list[Box]] = {}
    for source, target, _ in graph.arrows:
        here = [path.module for path in source.place] == [path.module for path in target.place]
        if source.kind in ("parameter", "constant") and source.place and here and uses[source] == 1:
            found.setdefault(target, []).append(source)
    return found
