"""`write_labels`: labels looked at by machine code; only if something is wrong with them NumPy runs, to say what.

Where a label is not to be counted, 0 is written in its place, as `nll_loss` does.
"""

from __future__ import annotations

from typing import TypeGuard

import numpy as np

from ...nn import objectives
from ..axes import Node
from .calling import Written, function
from .ir import INDEX, Code, Lanes
from .operations import KINDS, Register, convert, lanes_of
from .plan import Step

_RANGE = np.iinfo(np.int64)


def is_labels(node: Step) -> TypeGuard[Node]:
    """Is it a look at labels, all of which 64 bits hold with their sign?"""
    if not isinstance(node, Node) or node.instruction is None or node.instruction.op is not objectives._safe:
        return False
    fits = all(_RANGE.min <= x <= _RANGE.max for x in sizes(node))
    return fits and node.dtype in KINDS and node.dtype != np.uint64


def sizes(node: Node) -> tuple[int, int, int]:
    """How many labels and classes there are, and what is not counted."""
    step = node.instruction
    assert step is not None
    static = step.static
    return step.outputs[0].size, static["shape"][static["axis"]], static["ignore_index"]


def write_labels(node: Node) -> Written:
    """The text of a function. Its scratch memory tells whether a label is outside the classes."""
    code, lanes = Code(), lanes_of(node.dtype, 1)

    def look(i: str, largest: list[str]) -> list[str]:
        label_at, kept_at = (code.let(f"getelementptr {lanes.type}, ptr {p}, i64 {i}") for p in ("%labels", "%kept"))
        label = Register(code.let(f"load {lanes.type}, ptr {label_at}"), lanes, node.dtype)
        whole = convert(code, label, np.dtype(np.int64)).name
        kept = code.select(INDEX, code.icmp("eq", INDEX, whole, "%ignored"), 0, whole)
        code.do(f"store {lanes.type} {code.cast(INDEX, lanes, kept)}, ptr {kept_at}")
        return [code.select(INDEX, code.icmp("ugt", INDEX, kept, largest[0]), kept, largest[0])]

    largest = code.loop("0", "%n", [INDEX], ["0"], look)[0]
    found = code.icmp("uge", INDEX, largest, "%classes")  # a negative one is large so
    code.do(f"store i64 {code.cast(Lanes('i1'), INDEX, found)}, ptr %found")
    text = function(["%labels", "%kept", "%found"], ["%n", "%classes", "%ignored"], code.text())
    return Written(text, code.declares, [*node.nodes[:1], node], [8], 1, numbers=sizes(node))
