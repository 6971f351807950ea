"""`write_labels`: labels looked at by machine code; only if something is wrong with them NumPy runs, to say what.

Where a label is not to be counted, 0 is written in its place, as `nll_loss` does.
"""

from __future__ import annotations

from typing import TypeGuard

import numpy as np

from ...nn import objectives
from ..axes import Node
from .calling import Written, function
from .ir import Code, Lanes
from .plan import Step

_INDEX = Lanes("i64")
_KINDS = {np.dtype(np.int64): "i64", np.dtype(np.int32): "i32"}


def is_labels(node: Step) -> TypeGuard[Node]:
    """Is it a look at labels of a usual dtype?"""
    if not isinstance(node, Node) or node.instruction is None or node.dtype not in _KINDS:
        return False
    if node.instruction.op is not objectives._safe:
        return False
    range_ = np.iinfo(node.dtype)
    return all(range_.min <= x <= range_.max for x in sizes(node))


def sizes(node: Node) -> tuple[int, int, int]:
    """How many labels and classes there are, and what is not counted."""
    step = node.instruction
    assert step is not None
    static = step.static
    return step.outputs[0].size, static["shape"][static["axis"]], static["ignore_index"]


def write_labels(node: Node) -> Written:
    """The text of a function. Its scratch memory tells whether a label is outside the classes; numbers: `sizes`."""
    code, lanes = Code(), Lanes(_KINDS[node.dtype])
    classes, ignored = (code.cast(_INDEX, lanes, x) for x in ("%classes", "%ignored"))

    def look(i: str, largest: list[str]) -> list[str]:
        label_at, kept_at = (code.let(f"getelementptr {lanes.type}, ptr {p}, i64 {i}") for p in ("%labels", "%kept"))
        label = code.let(f"load {lanes.type}, ptr {label_at}")
        kept = code.select(lanes, code.icmp("eq", lanes, label, ignored), 0, label)
        code.do(f"store {lanes.type} {kept}, ptr {kept_at}")
        return [code.select(lanes, code.icmp("ugt", lanes, kept, largest[0]), kept, largest[0])]

    largest = code.loop("0", "%n", [lanes], ["0"], look)[0]
    found = code.icmp("uge", lanes, largest, classes)  # a negative one is large so
    code.do(f"store i64 {code.cast(Lanes('i1'), _INDEX, found)}, ptr %found")
    text = function(["%labels", "%kept", "%found"], ["%n", "%classes", "%ignored"], code.text())
    return Written(text, code.declares, [*node.nodes[:1], node], [8], 1)
