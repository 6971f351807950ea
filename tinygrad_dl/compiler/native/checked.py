"""`write_checked`: what looks up by integers, which may be wrong: labels among classes, rows of a table.

Machine code does it; only where an integer is wrong, the run ends there, and NumPy's operation runs, to say what.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeGuard

import numpy as np

from ...nn import objectives
from ...ops import index as _index
from ..axes import Node
from ..lowering import bounded
from ..program import Instruction, Value
from .calling import Written, function
from .ir import INDEX, Code, Lanes
from .registers import KINDS, Register, convert, lanes_of

VECTOR = 32  # bytes of a row that are added at once
_RANGE = np.iinfo(np.int64)


def is_checked(step: Any) -> TypeGuard[Node]:
    """Is it an operation that ends the run where an integer is wrong?"""
    return isinstance(step, Node) and _writer(step.instruction) is not None


def write_checked(node: Node) -> Written:
    """The text of a function. Its scratch memory tells whether an integer is wrong."""
    writer = _writer(node.instruction)
    assert writer is not None
    return writer(node)


def _writer(step: Instruction | None) -> Callable[[Node], Written] | None:
    if step is None:
        return None
    y, static = step.outputs[0], step.static
    if step.op is objectives._safe:
        fits = all(_RANGE.min <= n <= _RANGE.max for n in _classes(step))
        return _labels if fits and _is_integer(step.inputs[0]) else None
    if step.op is bounded:
        return _indices
    if static.get("index") != (_index.ARRAY,) or len(step.inputs) != 2 or not _is_integer(step.inputs[1]):
        return None
    if step.op is _index._getitem:
        return _taken
    fits = step.op is _index.scatter_add and step.inputs[0].shape == step.inputs[1].shape + y.shape[1:]
    return _added if fits and y.dtype in (np.float32, np.float64) else None


def _is_integer(x: Value) -> bool:
    """Do 64 bits hold all of its numbers with their sign?"""
    return x.dtype in KINDS and x.dtype.kind in "iu" and x.dtype != np.uint64


def _classes(step: Instruction) -> tuple[int, int]:
    """How many there are, and the label that is not counted."""
    static = step.static
    return static["shape"][static["axis"]], static["ignore_index"]


def _labels(node: Node) -> Written:
    """Labels as they are, but 0 where one is not to be counted, as `nll_loss` does."""
    assert node.instruction is not None

    def kept(code: Code, label: str) -> str:
        return code.select(INDEX, code.icmp("eq", INDEX, label, "%ignored"), 0, label)

    return _looked_at(node, kept, _classes(node.instruction))


def _indices(node: Node) -> Written:
    """Indices as they are counted from the front."""
    assert node.instruction is not None

    def kept(code: Code, index: str) -> str:
        return _from_the_front(code, index, "%classes")

    return _looked_at(node, kept, (node.instruction.static["size"], 0))


def _looked_at(node: Node, keep: Callable[[Code, str], str], numbers: tuple[int, int]) -> Written:
    """Integers, each as it is kept, if all of these are classes; numbers: how many there are, and `%ignored`."""
    assert node.instruction is not None
    code, lanes = Code(), lanes_of(node.dtype, 1)

    def look(i: str, largest: list[str]) -> list[str]:
        kept = keep(code, _integer(code, node.dtype, "%labels", i))
        kept_at = code.let(f"getelementptr {lanes.type}, ptr %kept, i64 {i}")
        code.do(f"store {lanes.type} {code.cast(INDEX, lanes, kept)}, ptr {kept_at}")
        return [_larger(code, kept, largest[0])]

    largest = code.loop("0", "%n", [INDEX], ["0"], look)[0]
    _tell(code, code.icmp("uge", INDEX, largest, "%classes"))  # a negative one is large so
    text = function(["%labels", "%kept", "%found"], ["%n", "%classes", "%ignored"], code.text())
    counts = [node.instruction.outputs[0].size, *numbers]
    return Written(text, code.declares, [*node.nodes[:1], node], [8], 1, numbers=counts)


def _taken(node: Node) -> Written:
    """Rows of a table."""
    assert node.instruction is not None
    table, indices = node.instruction.inputs
    code, size = Code(), math.prod(table.shape[1:]) * node.dtype.itemsize
    code.declares.add("declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")

    def copy(number: str, row: str) -> None:
        source, target = _after(code, "%table", row, size), _after(code, "%y", number, size)
        code.do(f"call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {source}, i64 {size}, i1 false)")

    _look_up(code, indices.dtype, copy)
    text = function(["%table", "%indices", "%y", "%found"], ["%n", "%rows"], code.text())
    return Written(text, code.declares, [*node.nodes, node], [8], 1, numbers=[indices.size, table.shape[0]])


def _added(node: Node) -> Written:
    """Zeros, to whose rows other rows are added, one after another as NumPy does."""
    assert node.instruction is not None
    y, indices = node.instruction.outputs[0], node.instruction.inputs[1]
    code, count, bits = Code(), math.prod(y.shape[1:]), y.dtype.itemsize
    vector = VECTOR // bits
    code.declares.add("declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")

    def add(number: str, row: str) -> None:
        source, target = (_after(code, p, i, count * bits) for p, i in (("%rows.given", number), ("%y", row)))

        def part(lanes: Lanes, start: int) -> Callable[[str, list[str]], list[str]]:
            def each(i: str, _: list[str]) -> list[str]:
                place = code.binary("add", INDEX, code.binary("mul", INDEX, i, lanes.width), start)
                given, at = (code.let(f"getelementptr {lanes.kind}, ptr {p}, i64 {place}") for p in (source, target))
                x, z = (code.let(f"load {lanes.type}, ptr {p}, align {bits}") for p in (given, at))
                code.do(f"store {lanes.type} {code.fadd(lanes, z, x)}, ptr {at}, align {bits}")
                return []

            return each

        whole, rest = divmod(count, vector)
        code.loop("0", str(whole), [], [], part(lanes_of(y.dtype, vector), 0))
        code.loop("0", str(rest), [], [], part(lanes_of(y.dtype, 1), whole * vector))

    def clear() -> None:
        code.do(f"call void @llvm.memset.p0.i64(ptr %y, i8 0, i64 {y.nbytes}, i1 false)")

    _look_up(code, indices.dtype, add, clear)
    text = function(["%rows.given", "%indices", "%y", "%found"], ["%n", "%rows"], code.text())
    return Written(text, code.declares, [*node.nodes, node], [8], 1, numbers=[indices.size, y.shape[0]])


def _look_up(
    code: Code, dtype: Any, each: Callable[[str, str], None], before: Callable[[], None] = lambda: None
) -> None:
    """Do something for each index, told its number and the row that it names, if all of them name one."""

    def row(i: str) -> str:
        return _from_the_front(code, _integer(code, dtype, "%indices", i), "%rows")

    largest = code.loop("0", "%n", [INDEX], ["0"], lambda i, found: [_larger(code, row(i), found[0])])[0]
    wrong = code.icmp("uge", INDEX, largest, "%rows")
    _tell(code, wrong)
    right, done = code.fresh("right"), code.fresh("done")
    code.do(f"br i1 {wrong}, label %{done}, label %{right}")
    code.label(right)
    before()

    def one(i: str, _: list[str]) -> list[str]:
        each(i, row(i))
        return []

    code.loop("0", "%n", [], [], one)
    code.do(f"br label %{done}")
    code.label(done)


def _integer(code: Code, dtype: Any, pointer: str, i: str) -> str:
    lanes = lanes_of(dtype, 1)
    address = code.let(f"getelementptr {lanes.type}, ptr {pointer}, i64 {i}")
    given = Register(code.let(f"load {lanes.type}, ptr {address}"), lanes, dtype)
    return convert(code, given, np.dtype(np.int64)).name


def _from_the_front(code: Code, index: str, size: str) -> str:
    """An index that may count from the end."""
    return code.select(INDEX, code.icmp("slt", INDEX, index, 0), code.binary("add", INDEX, index, size), index)


def _larger(code: Code, a: str, b: str) -> str:
    """Of two numbers without sign."""
    return code.select(INDEX, code.icmp("ugt", INDEX, a, b), a, b)


def _tell(code: Code, wrong: str) -> None:
    code.do(f"store i64 {code.cast(Lanes('i1'), INDEX, wrong)}, ptr %found")


def _after(code: Code, pointer: str, number: str, size: int) -> str:
    return code.let(f"getelementptr i8, ptr {pointer}, i64 {code.binary('mul', INDEX, number, size)}")
