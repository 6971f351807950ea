"""`Tables`: how the rounds of a program are run. What is to be called, and with which numbers, stands in memory, so
that the code that walks it (`runner`) is the same for all programs, as is the call of OpenBLAS's product (`product`).

All numbers have 64 bits. A task is its function, where its own numbers are, and its range. Tasks that one thread does
after each other are a share: how many shares have to be done before, where its tasks are, and how many. A stretch is
how many shares it has, where they are, in how many lanes several threads do them, or 0, where it stands which lane has
which (`dispatching.py`), and the address of a number that ends the run there unless it is zero, or 0; a run is how many
stretches it has, where they are, and what becomes of OpenBLAS's own threads.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ...graph import Array
from ..axes import Node
from . import blas, dispatching, engine, pool
from .calling import Written, function
from .checked import is_checked
from .engine import Compilation
from .memory import ALIGNMENT, aligned
from .plan import Step
from .rounds import GRAIN, Round, Task, by_rows, lanes_of, shares_of, stretches

_FLAGS = {False: 111, True: 112}  # CBLAS: as it lies, transposed
_ROW_MAJOR = 101
_ASK, _SETTLE = 1, 2  # OpenBLAS's threads: helpers run only if there are several; besides, there is one meanwhile
_PLACES = ["%from.a", "%from.b", "%from.y"]  # where the parts begin, in elements
_SIZES = ["%turn.a", "%turn.b", "%m", "%n", "%k", "%row.a", "%row.b", "%row.y", "%adds"]

_SHARE = """define void @NAME.share(i64 %i, ptr %shares) {
entry:
  %start = mul i64 %i, FIELDS
  %share = getelementptr i64, ptr %shares, i64 %start
  %tasks.at = getelementptr i64, ptr %share, i64 1
  %tasks = load ptr, ptr %tasks.at
  %count.at = getelementptr i64, ptr %share, i64 2
  %count = load i64, ptr %count.at
  br label %each
each:
  %t = phi i64 [0, %entry], [%next, %each]
  %from = mul i64 %t, 4
  %task = getelementptr i64, ptr %tasks, i64 %from
  %function = load ptr, ptr %task
  %numbers.at = getelementptr i64, ptr %task, i64 1
  %numbers = load ptr, ptr %numbers.at
  %first.at = getelementptr i64, ptr %task, i64 2
  %first = load i64, ptr %first.at
  %last.at = getelementptr i64, ptr %task, i64 3
  %last = load i64, ptr %last.at
  call void %function(ptr %numbers, i64 %first, i64 %last)
  %next = add i64 %t, 1
  %more = icmp ult i64 %next, %count
  br i1 %more, label %each, label %end
end:
  ret void
}
"""
_STRETCHES = """define i64 @NAME.stretches(ptr %stretches, i64 %n, ptr %pool) {
entry:
  br label %each
each:
  %r = phi i64 [0, %entry], [%next, %done], [%next, %check]
  %over = icmp uge i64 %r, %n
  br i1 %over, label %end, label %stretch
stretch:
  %start = mul i64 %r, 5
  %stretch.at = getelementptr i64, ptr %stretches, i64 %start
  %count = load i64, ptr %stretch.at
  %shares.from = getelementptr i64, ptr %stretch.at, i64 1
  %shares = load ptr, ptr %shares.from
  %lanes.at = getelementptr i64, ptr %stretch.at, i64 2
  %lanes = load i64, ptr %lanes.at
  %lists.at = getelementptr i64, ptr %stretch.at, i64 3
  %lists = load ptr, ptr %lists.at
  %out = icmp ne i64 %lanes, 0
  br i1 %out, label %several, label %alone
several:
  call void @DISPATCH(ptr %pool, i64 %count, ptr @NAME.share, ptr %shares, i64 %lanes, ptr %lists)
  br label %done
alone:
  %i = phi i64 [0, %stretch], [%following, %alone]
  call void @NAME.share(i64 %i, ptr %shares)
  %following = add i64 %i, 1
  %more = icmp ult i64 %following, %count
  br i1 %more, label %alone, label %done
done:
  %next = add i64 %r, 1
  %error.at = getelementptr i64, ptr %stretch.at, i64 4
  %error = load ptr, ptr %error.at
  %safe = icmp eq ptr %error, null
  br i1 %safe, label %each, label %check
check:
  %wrong = load i64, ptr %error
  %stop = icmp ne i64 %wrong, 0
  br i1 %stop, label %end, label %each
end:
  %stopped = phi i64 [0, %each], [%next, %check]
  ret i64 %stopped
}
"""
_RUN = """define i64 @NAME(ptr %run, ptr %state) {
BEFORE
  %n = load i64, ptr %run
  %stretches.at = getelementptr i64, ptr %run, i64 1
  %stretches = load ptr, ptr %stretches.at
  %threads.at = getelementptr i64, ptr %run, i64 2
  %threads = load i64, ptr %threads.at
  %asks = icmp ne i64 %threads, 0
  br i1 %asks, label %ask, label %go
ask:
  %number = call i32 @GET()
  %several = icmp sgt i32 %number, 1
  %pool = select i1 %several, ptr %state, ptr null
  %products = icmp eq i64 %threads, 2
  %settles = and i1 %products, %several
  br i1 %settles, label %settle, label %plain
plain:
  %asked = call i64 @NAME.stretches(ptr %stretches, i64 %n, ptr %pool)
  br label %end
settle:
  call void @SET(i32 1)
  %settled = call i64 @NAME.stretches(ptr %stretches, i64 %n, ptr %pool)
  call void @SET(i32 %number)
  br label %end
go:
  %went = call i64 @NAME.stretches(ptr %stretches, i64 %n, ptr %state)
  br label %end
end:
  %stopped = phi i64 [%asked, %plain], [%settled, %settle], [%went, %go]
AFTER
  ret i64 %stopped
}
"""


# What stands in where there are no threads: then nothing is shared out, and nobody asks.
_ABSENT = {
    "DISPATCH": "define void @NAME.dispatch(ptr, i64, ptr, ptr, i64, ptr) {\n  ret void\n}\n",
    "GET": "define i32 @NAME.get() {\n  ret i32 1\n}\n",
    "SET": "define void @NAME.set(i32 %number) {\n  ret void\n}\n",
}
_DECLARES = {"DISPATCH": "void @{}(ptr, i64, ptr, ptr, i64, ptr)", "GET": "i32 @{}()", "SET": "void @{}(i32)"}


def runner(compilation: Compilation, threads: int) -> str:
    """The symbol of the function that takes the address of a run and the state of the pool of threads; it gives 0, or
    the number of the stretch that ended it, from 1 on.

    Where OpenBLAS's number of threads has become one since the program was built, it is one here as well, and is not
    set again at the end: who made it one for a moment, as another run does, may have taken that back."""
    found = {"DISPATCH": pool.dispatch(compilation) if threads > 1 else None}
    found |= {verb: blas.symbol(f"{verb.lower()}_num_threads") for verb in ("GET", "SET")}
    before, after = map("\n".join, engine.WITHOUT_DENORMALS)
    text = _RUN.replace("BEFORE", before).replace("AFTER", after)
    text += _STRETCHES + _SHARE.replace("FIELDS", str(dispatching.FIELDS))
    declares = set(engine.CONTROLS)
    for name, symbol in found.items():
        text = text.replace(f"@{name}(", f"@{symbol or f'NAME.{name.lower()}'}(")
        if symbol is None:
            text += _ABSENT[name]
        else:
            declares.add("declare " + _DECLARES[name].format(symbol))
    return compilation.add(text, declares)


def product(compilation: Compilation, dtype: str) -> str:
    """The symbol of the function that calls OpenBLAS's product."""
    symbol, kind = blas.product_symbol(dtype), "float" if dtype == "float32" else "double"
    body = [f"  %{x} = getelementptr {kind}, ptr %all.{x}, i64 %from.{x}" for x in "aby"]
    body += [f"  %flag.{x} = trunc i64 %turn.{x} to i32" for x in "ab"]
    body.append(f"  %scale = uitofp i64 %adds to {kind}")
    arguments = f"i32 {_ROW_MAJOR}, i32 %flag.a, i32 %flag.b, i64 %m, i64 %n, i64 %k, {kind} 1.0, "
    arguments += f"ptr %a, i64 %row.a, ptr %b, i64 %row.b, {kind} %scale, ptr %y, i64 %row.y"
    body.append(f"  call void @{symbol}({arguments})")
    types = ", ".join(argument.split()[0] for argument in arguments.split(", "))
    text = function([f"%all.{x}" for x in "aby"], [*_PLACES, *_SIZES], "\n".join(body))
    return compilation.add(text, [f"declare void @{symbol}({types})"])


class Tables:
    """Of one program.

    code: the address of each step's function; own: those that are not OpenBLAS's. table: the address of that of all
    pointers; slots: which of them are each task's. threads: what rounds are planned for."""

    def __init__(
        self,
        code: Mapping[Step, int],
        own: Mapping[Step, Written],
        table: int,
        slots: Mapping[Task, list[int]],
        threads: int,
    ) -> None:
        self.code, self.own = code, own
        self.table, self.slots, self.threads = table, slots, threads
        self.kept: list[Array] = []  # what the addresses are of
        self.common: dict[Step, int] = {}  # where memory is that all tasks of a step share

    def run(self, found: Sequence[Round]) -> int:
        """The address of a run of some rounds, for the function that `runner` gives."""
        rows = [*map(self._stretch, stretches(found))]
        return self._keep([(len(rows), self._keep(rows), self._threads(found))])

    def _stretch(self, found: Sequence[Round]) -> tuple[int, int, int, int, int]:
        shares = shares_of(found)
        rows = [(share.needs, self._keep(map(self._task, share.tasks)), len(share.tasks)) for share in shares]
        lanes, lists = lanes_of(shares) if any(each.shared for each in found) else (0, [])
        return len(rows), self._keep(rows), lanes, self._keep([lists]), self._error(found[0])

    def _error(self, each: Round) -> int:
        """Where integers that are wrong are told of."""
        if not is_checked(each.first):
            return 0
        return ctypes.c_size_t.from_address(self.table + 8 * self.slots[each.tasks[0]][-1]).value

    def _common(self, step: Step) -> list[int]:
        """Where the memory is that all tasks of a step share, if they do."""
        size = self.own[step].common
        if size and step not in self.common:
            memory = np.zeros(size + ALIGNMENT, np.uint8)
            self.kept.append(memory)
            self.common[step] = aligned(memory.ctypes.data)
        return [self.common[step]] if size else []

    def _keep(self, rows: Iterable[Iterable[int]]) -> int:
        array = np.array([*rows], np.int64)
        self.kept.append(array)
        return array.ctypes.data

    def _threads(self, found: Sequence[Round]) -> int:
        products = any(task.step not in self.own for each in found for task in each.tasks)
        if self.threads == 1 or not (products or any(each.shared for each in found)):
            return 0
        return _SETTLE if products else _ASK

    def _task(self, task: Task) -> tuple[int, int, int, int]:
        step, numbers = task.step, [self.table + 8 * slot for slot in self.slots[task]]
        if step in self.own:
            numbers += [*self.own[step].numbers, *self._common(step)]
        else:
            assert isinstance(step, Node)
            numbers += _piece(step, task)
        return self.code[step], self._keep([numbers]), task.start, task.end


def _piece(node: Node, task: Task) -> list[int]:
    """Of a part of a product: `_PLACES` and `_SIZES`."""
    (m, k, n), (first, second), (far_a, far_b, far_y) = node.product.shape, node.product.transposed, node.product.apart
    start, end = task.start * GRAIN, task.end * GRAIN
    if by_rows(node):
        offsets, sizes = (start * (1 if first else far_a), 0, start * far_y), (min(end, m) - start, n)
    else:
        offsets, sizes = (0, start * (far_b if second else 1), start), (m, min(end, n) - start)
    return [*offsets, _FLAGS[first], _FLAGS[second], *sizes, k, far_a, far_b, far_y, node.shows is not None]
