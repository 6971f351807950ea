"""One element of a gradient, split into its parts: by the way it took through the graph, and by the sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from .._source import describe_line
from ..graph import Node
from .batch import Batch
from .flow import Flow, Link, Use, way
from .history import Index

MOST = 64  # ways that are told apart; beyond that, only the first operation of each


class Part(NamedTuple):
    """A part of one element of a gradient."""

    label: str
    value: float


def by_path(flow: Flow, index: Index) -> list[Part]:
    """A part for each way from the loss to the tensor, or, if there are very many, for each use of the tensor."""
    ways = flow.paths(MOST)
    if ways is None:
        return [Part(_label([use]), float(flow.share(use)[index])) for use in flow.uses[flow.target]]
    return [Part(_label(uses), float(_along(flow, uses)[index])) for uses in ways]


def _along(flow: Flow, uses: Sequence[Use], g: Any = None) -> Any:
    """What comes to the tensor by one way, of the gradient at its end, or of g."""
    for use in reversed(uses):
        g = flow.share(use, g)
    return g


def _name(use: Use) -> str:
    node: Any = use.node.operation
    several = sum(p is node.parents[use.position] for p in node.parents) > 1
    return f"{node.primitive.name} (operand {use.position})" if several else str(node.primitive.name)


def _label(uses: Sequence[Use]) -> str:
    names = [_name(use) for use in uses]
    short = names if len(names) <= 8 else [*names[:4], "...", *names[-3:]]
    return f"{' > '.join(short)}, first at {describe_line(uses[0].node.line)}"


def by_sample(flow: Flow, index: Index) -> list[Part] | None:
    """A part for each row of the batch: the gradient that comes through that row of the first results that have a row
    for each sample; and one for what comes through none, such as a penalty. Empty if there is no batch; None if it is
    not certain which rows are the samples', or if very many ways lead to them."""
    batch = Batch(flow)
    if not batch.n:
        return []
    ways = list(islice(_to_rows(flow, batch), MOST + 1))
    if not batch.certain or len(ways) > MOST or not all(certain for _, _, certain in ways):
        return None
    totals, beside = np.zeros(batch.n), 0.0
    for uses, rows, _ in ways:
        if not rows:
            beside += float(_along(flow, uses)[index])
            continue
        g = flow.gradient(uses[-1].node)
        for row in range(batch.n):
            alone = np.zeros_like(g)
            alone[row] = g[row]
            totals[row] += _along(flow, uses, alone)[index]
    parts = [Part(f"sample {row}", float(value)) for row, value in enumerate(totals)]
    return [*parts, Part("of no sample", beside)] if beside else parts


def _to_rows(flow: Flow, batch: Batch) -> Iterator[tuple[list[Use], bool, bool]]:
    """The ways from the tensor up to the first results that have a row for each sample. Or up to the loss, then with
    False. And whether that is certain: the rows must be those of data, and none may have a part in what is beside."""
    stack: list[tuple[Node, Link, bool]] = [(flow.target, None, True)]
    while stack:
        node, link, beside = stack.pop()
        if node in batch.rows:
            yield way(link), True, batch.rows[node]
        elif node is flow.loss.node:
            yield way(link), False, beside
        else:
            for use in reversed(flow.uses[node]):
                stack.append((use.node, (use, link), beside and batch.beside(use)))
