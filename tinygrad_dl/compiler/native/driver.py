"""`Driver`: the text of the function that runs rounds of tasks one after another, from a table of pointers.

Its arguments are the table and the state of the pool of threads. A round that is shared out is a function of
its own, which does the task of a number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from ..axes import Graph, Node
from ..fuse import Kernel
from . import engine, pool
from .plan import Step
from .rounds import GRAIN, Round, Task, by_rows, shared

_FLAGS = {False: 111, True: 112}  # CBLAS: as it lies, transposed
_ROW_MAJOR = 101
PART = 50  # rounds of one function: LLVM takes time that grows with the square of a function's length


T = TypeVar("T")


def _batched(sequence: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (sequence[i : i + size] for i in range(0, len(sequence), size))


class Driver:
    """Writes for one program.

    code: the address of each own function, and whether it takes a range. slots: where in the table the
    pointers of each task's arguments are."""

    def __init__(
        self, graph: Graph, code: Mapping[Step, tuple[int, bool]], slots: Mapping[Task, list[int]], threads: int
    ) -> None:
        self.graph, self.code, self.slots, self.threads = graph, code, slots, threads

    def text(self, found: Sequence[Round]) -> str:
        """The function of some rounds."""
        parts = [self._part(i, list(some)) for i, some in enumerate(_batched(found, PART))]
        calls = [f"  call void @NAME.part{i}(ptr %table, ptr %pool)" for i in range(len(parts))]
        before, after = engine.WITHOUT_DENORMALS
        body = "\n".join([*before, *self._with_threads(calls, found), *after])
        return f"define void @NAME(ptr %table, ptr %state) {{\n{body}\n  ret void\n}}\n" + "".join(parts)

    def _with_threads(self, calls: list[str], found: Sequence[Round]) -> list[str]:
        """OpenBLAS's own threads are idle meanwhile, and have their number again afterwards. Where that has become one
        since the program was built, it is one here as well."""
        products = any(task.step not in self.code for tasks in found for task in tasks)
        if self.threads == 1 or not (products or any(shared(tasks, self.threads) for tasks in found)):
            return ["  %pool = getelementptr i8, ptr %state, i64 0", *calls]
        number, settle = (engine.blas_routine(f"{verb}_num_threads") for verb in ("get", "set"))
        one, back = (f"  call void inttoptr (i64 {settle} to ptr)(i32 {n})" for n in ("1", "%number"))
        return [
            f"  %number = call i32 inttoptr (i64 {number} to ptr)()",
            "  %several = icmp sgt i32 %number, 1",
            "  %pool = select i1 %several, ptr %state, ptr null",
            *([one, *calls, back] if products else calls),
        ]

    def _part(self, number: int, found: Sequence[Round]) -> str:
        lines, helpers = list[str](), list[str]()
        for i, tasks in enumerate(found):
            if shared(tasks, self.threads):
                name = f"@NAME.round{number}.{len(helpers)}"
                helpers.append(self._round(name, tasks))
                arguments = f"ptr %pool, i64 {len(tasks)}, ptr {name}, ptr %table"
                lines.append(f"  call void inttoptr (i64 {pool.dispatch()} to ptr)({arguments})")
            else:
                for j, task in enumerate(tasks):
                    lines += self._call(task, f"t{i}.{j}.")
        body = "\n".join(lines)
        text = f"define void @NAME.part{number}(ptr %table, ptr %pool) {{\n{body}\n  ret void\n}}\n"
        return text + "".join(helpers)

    def _round(self, name: str, tasks: Round) -> str:
        cases = " ".join(f"i64 {i}, label %task{i}" for i in range(len(tasks)))
        lines = ["entry:", f"  switch i64 %i, label %end [{cases}]"]
        for i, task in enumerate(tasks):
            lines += [f"task{i}:", *self._call(task, f"t{i}."), "  br label %end"]
        body = "\n".join([*lines, "end:"])
        return f"define void {name}(i64 %i, ptr %table) {{\n{body}\n  ret void\n}}\n"

    def _call(self, task: Task, prefix: str) -> list[str]:
        """A call; the names of its registers begin with the prefix."""
        lines: list[str] = []
        loaded: dict[int, str] = {}  # for this call alone: what lives over many calls, LLVM takes long to place

        def pointer(slot: int, offset: int = 0, kind: str = "") -> str:
            if slot not in loaded:
                loaded[slot] = f"%{prefix}b{slot}"
                lines.append(f"  %{prefix}a{slot} = getelementptr ptr, ptr %table, i64 {slot}")
                lines.append(f"  %{prefix}b{slot} = load ptr, ptr %{prefix}a{slot}")
            if not offset:
                return f"ptr {loaded[slot]}"
            name = f"%{prefix}p{slot}.{offset}"
            if name not in loaded.values():
                loaded[-1 - len(loaded)] = name
                lines.append(f"  {name} = getelementptr {kind}, ptr {loaded[slot]}, i64 {offset}")
            return f"ptr {name}"

        step, slots = task.step, self.slots[task]
        if step in self.code:
            address, ranged = self.code[step]
            arguments = [pointer(slot) for slot in slots]
            if isinstance(step, Kernel):
                arguments += [f"i64 {self.graph.size(step.rows)}", f"i64 {self.graph.size(step.columns)}"]
            arguments += [f"i64 {task.start}", f"i64 {task.end}"] if ranged else []
        else:
            assert isinstance(step, Node)
            found = engine.product_routine(step.dtype.name)
            assert found is not None
            address = found
            offsets, sizes = _piece(step, task)
            kind = "float" if step.dtype.itemsize == 4 else "double"
            a, b, y = (pointer(slot, offset, kind) for slot, offset in zip(slots, offsets, strict=True))
            arguments = _product(step, kind, sizes, a, b, y)
        lines.append(f"  call void inttoptr (i64 {address} to ptr)({', '.join(arguments)})")
        return lines


def _piece(product: Node, task: Task) -> tuple[tuple[int, int, int], tuple[int, int]]:
    """Of a part of a product: where its factors and its result begin, and its numbers of rows and columns."""
    m, k, n = product.shape
    first, second = product.transposed
    start, end = task.start * GRAIN, task.end * GRAIN
    if by_rows(product):
        return (start * (1 if first else k), 0, start * n), (min(end, m) - start, n)
    return (0, start * (k if second else 1), start), (m, min(end, n) - start)


def _product(product: Node, kind: str, sizes: tuple[int, int], a: str, b: str, y: str) -> list[str]:
    """The arguments of CBLAS for a matrix product."""
    m, k, n = product.shape
    first, second = product.transposed
    flags = [f"i32 {x}" for x in (_ROW_MAJOR, _FLAGS[first], _FLAGS[second])]
    left, right = f"i64 {m if first else k}", f"i64 {k if second else n}"
    numbers = [f"i64 {x}" for x in (*sizes, k)]
    scale = "0.0" if product.shows is None else "1.0"
    return [*flags, *numbers, f"{kind} 1.0", a, left, b, right, f"{kind} {scale}", y, f"i64 {n}"]
