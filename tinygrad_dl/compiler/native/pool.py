"""Threads for the steps of compiled programs: `DISPATCH` runs numbered tasks, on this thread and on helpers.

Whoever comes first takes the next task, and waits until as many are done as it needs: rounds follow each other without
anybody being called. So the caller finishes alone where no helper shows up, as beside a busy process. Where one is kept
from the task that it has taken, who waits for it sleeps, and so gives it a core: the system moves a thread to a core
that has nothing to do, but leaves it waiting for tens of milliseconds beside one that spins. A helper spins for a
millisecond after its last task and then sleeps: OpenBLAS's own threads, which spin for 30 ms, are not used meanwhile,
since two spinning pools make a step three times as slow.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import sys
import threading
from typing import Any

import numpy as np

from . import engine
from .engine import Compilation

_MACHINE = platform.machine().lower()
_FUTEX = {"x86_64": 202, "amd64": 202, "aarch64": 98}.get(_MACHINE) if sys.platform == "linux" else None
_PAUSE = "llvm.aarch64.hint(i32 1)" if _MACHINE == "aarch64" else "llvm.x86.sse2.pause()"
_DECLARES = [
    "declare void @llvm.aarch64.hint(i32)" if _MACHINE == "aarch64" else "declare void @llvm.x86.sse2.pause()",
    "declare i64 @syscall(i64, ...)",
    "declare i32 @sched_yield()",
]
WAITS = 4_000  # pauses of 50 ns before whoever waits for others' tasks sleeps
SPINS = 20_000  # before a helper sleeps: rounds lie apart, and waking takes as long as a round
OFFERS = 64  # between two times that a helper offers its core to others, which takes as long as a few; a power of two

# The state, by offset: the next task with the number of the round above it (0), tasks that are done (64), how many
# there are (128), the function (136) and its argument (144), sleepers (192) and what they sleep on (196), how many
# sleep until more is done (200), and whether a round is under way (256). Each on a cache line of its own where several
# threads write.
_SIZE = 320
_OFFSETS = {
    "done": 64,
    "count": 128,
    "task": 136,
    "table": 144,
    "sleepers": 192,
    "word": 196,
    "waiting": 200,
    "busy": 256,
}
_FIELDS = "\n".join(f"  %{name} = getelementptr i8, ptr %state, i64 {n}" for name, n in _OFFSETS.items())
_WAIT, _WAKE = 128, 129  # of a futex, which only this process has
_EVERY = 2**31 - 1


def _futex(word: str, verb: int, number: str | int) -> str:
    """Sleep while the word is the number, or wake so many that do."""
    return (
        f"call i64 (i64, ...) @syscall(i64 {_FUTEX}, ptr {word}, i32 {verb}, i32 {number}, ptr null, ptr null, i32 0)"
    )


# Tasks 0 to n - 1 of a function of its number and a table. In its rows of FIELDS numbers the first says how many
# tasks have to be done before, which are the first so many. Without a state, or if another thread has it, this thread
# does them all. While the fields of a run are written it is closed: its next number is beyond every count.
FIELDS = 3
_DISPATCH = f"""define void @NAME(ptr %state, i64 %n, ptr %function, ptr %argument) {{
entry:
  %alone = icmp eq ptr %state, null
  br i1 %alone, label %serial, label %try
try:
{_FIELDS}
  %lock = cmpxchg ptr %busy, i32 0, i32 1 acquire monotonic
  %locked = extractvalue {{i32, i1}} %lock, 1
  br i1 %locked, label %publish, label %serial
publish:
  %before = load atomic i64, ptr %state monotonic, align 8
  %number = lshr i64 %before, 32
  %following = add i64 %number, 1
  %opened = shl i64 %following, 32
  %closed = or i64 %opened, 4294967295
  %was = atomicrmw xchg ptr %state, i64 %closed seq_cst
  store i64 %n, ptr %count
  store ptr %function, ptr %task
  store ptr %argument, ptr %table
  store atomic i64 0, ptr %done monotonic, align 8
  %closing = atomicrmw xchg ptr %state, i64 %opened seq_cst
  %asleep = load atomic i32, ptr %sleepers seq_cst, align 4
  %none = icmp eq i32 %asleep, 0
  br i1 %none, label %claim, label %wake
wake:
  %ticket = atomicrmw add ptr %word, i32 1 seq_cst
  %woken = {_futex("%word", _WAKE, _EVERY)}
  br label %claim
claim:
  %now = load atomic i64, ptr %state acquire, align 8
  %i = and i64 %now, 4294967295
  %left = icmp ult i64 %i, %n
  br i1 %left, label %take, label %ready
take:
  %next = add i64 %now, 1
  %swap = cmpxchg ptr %state, i64 %now, i64 %next acq_rel monotonic
  %taken = extractvalue {{i64, i1}} %swap, 1
  br i1 %taken, label %run, label %claim
run:
  %row = mul i64 %i, {FIELDS}
  %needs.at = getelementptr i64, ptr %argument, i64 %row
  %needs = load i64, ptr %needs.at
  call void @NAME.wait(ptr %state, i64 %needs)
  call void %function(i64 %i, ptr %argument)
  call void @NAME.done(ptr %state)
  br label %claim
ready:
  call void @NAME.wait(ptr %state, i64 %n)
  store atomic i32 0, ptr %busy release, align 4
  ret void
serial:
  %j = phi i64 [0, %entry], [0, %try], [%k, %more]
  %rest = icmp ult i64 %j, %n
  br i1 %rest, label %more, label %end
more:
  call void %function(i64 %j, ptr %argument)
  %k = add i64 %j, 1
  br label %serial
end:
  ret void
}}
"""

# What both have to do: to wait until so many tasks are done, and to say that another one is.
_SHARED = f"""define void @NAME.wait(ptr %state, i64 %needed) {{
entry:
{_FIELDS}
  br label %look
look:
  %spins = phi i64 [0, %entry], [%longer, %pause], [0, %slept]
  %found = load atomic i64, ptr %done seq_cst, align 8
  %all = icmp uge i64 %found, %needed
  br i1 %all, label %end, label %idle
idle:
  %longer = add i64 %spins, 1
  %tired = icmp ugt i64 %longer, {WAITS}
  br i1 %tired, label %sleep, label %pause
pause:
  call void @{_PAUSE}
  br label %look
sleep:
  %more = atomicrmw add ptr %waiting, i32 1 seq_cst
  %low = trunc i64 %found to i32
  %awake = {_futex("%done", _WAIT, "%low")}
  br label %slept
slept:
  %fewer = atomicrmw sub ptr %waiting, i32 1 seq_cst
  br label %look
end:
  ret void
}}

define void @NAME.done(ptr %state) {{
entry:
{_FIELDS}
  %ran = atomicrmw add ptr %done, i64 1 seq_cst
  %asleep = load atomic i32, ptr %waiting seq_cst, align 4
  %none = icmp eq i32 %asleep, 0
  br i1 %none, label %end, label %wake
wake:
  %woken = {_futex("%done", _WAKE, _EVERY)}
  br label %end
end:
  ret void
}}
"""

_BEFORE = "\n".join(engine.WITHOUT_DENORMALS[0])

# A task is taken by a swap of the whole word, so its fields, read before, belong to this round.
_HELP = f"""define void @NAME(ptr %state) {{
entry:
{_FIELDS}
{_BEFORE}
  br label %look
look:
  %spins = phi i64 [0, %entry], [%longer, %pause], [%longer, %yield], [0, %claimed], [0, %slept], [%spins, %take]
  %now = load atomic i64, ptr %state acquire, align 8
  %i = and i64 %now, 4294967295
  %n = load i64, ptr %count
  %left = icmp ult i64 %i, %n
  br i1 %left, label %take, label %idle
take:
  %function = load ptr, ptr %task
  %argument = load ptr, ptr %table
  %next = add i64 %now, 1
  %swap = cmpxchg ptr %state, i64 %now, i64 %next acq_rel monotonic
  %taken = extractvalue {{i64, i1}} %swap, 1
  br i1 %taken, label %claimed, label %look
claimed:
  %row = mul i64 %i, {FIELDS}
  %needs.at = getelementptr i64, ptr %argument, i64 %row
  %needs = load i64, ptr %needs.at
  call void @NAME.wait(ptr %state, i64 %needs)
  call void %function(i64 %i, ptr %argument)
  call void @NAME.done(ptr %state)
  br label %look
idle:
  %longer = add i64 %spins, 1
  %tired = icmp ugt i64 %longer, {SPINS}
  br i1 %tired, label %sleep, label %pause
pause:
  call void @{_PAUSE}
  %part = and i64 %longer, {OFFERS - 1}
  %now.and.then = icmp eq i64 %part, 0
  br i1 %now.and.then, label %yield, label %look
yield:
  %yielded = call i32 @sched_yield()
  br label %look
sleep:
  %more = atomicrmw add ptr %sleepers, i32 1 seq_cst
  %ticket = load atomic i32, ptr %word seq_cst, align 4
  %again = load atomic i64, ptr %state seq_cst, align 8
  %changed = icmp ne i64 %again, %now
  br i1 %changed, label %slept, label %rest
rest:
  %awake = {_futex("%word", _WAIT, "%ticket")}
  br label %slept
slept:
  %fewer = atomicrmw sub ptr %sleepers, i32 1 seq_cst
  br label %look
}}
"""


class Pool:
    """The helpers of this process."""

    def __init__(self) -> None:
        memory = np.zeros(_SIZE + 64, np.uint8)
        start = -memory.ctypes.data % 64
        self.memory = memory[start : start + _SIZE]
        self.state = self.memory.ctypes.data
        self.helpers: list[threading.Thread] = []

    def grow(self, threads: int) -> None:
        """Have helpers for so many threads in all."""
        while len(self.helpers) < threads - 1:
            helper = threading.Thread(target=_entry(), args=(self.state,), name="tinygrad_dl", daemon=True)
            helper.start()
            self.helpers.append(helper)


_pool = Pool()


def _after_fork() -> None:
    """A child has none of its parent's threads."""
    global _pool
    _pool = Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def threads() -> int:
    """How many threads a step may use: OpenBLAS's number, at most one per core; 1 where there are no helpers."""
    routine = engine.blas_routine("get_num_threads")
    if _FUTEX is None or routine is None:
        return 1
    number: int = ctypes.CFUNCTYPE(ctypes.c_int)(routine)()
    return min(number, engine.cores())


def state(wanted: int) -> int:
    """The address of the pool's state, with helpers for so many threads."""
    pool = _pool
    if len(pool.helpers) < wanted - 1:
        pool.grow(wanted)
    return pool.state


def dispatch(compilation: Compilation) -> str:
    """The symbol of the function that shares out tasks; the helpers' is compiled with it."""
    _helper(compilation)
    return compilation.add(_DISPATCH + _SHARED, _DECLARES)


def _helper(compilation: Compilation) -> str:
    return compilation.add(_HELP + _SHARED, [*_DECLARES, *engine.CONTROLS])


@functools.cache
def _entry() -> Any:
    with Compilation() as compilation:
        address = compilation.addresses([_helper(compilation)])[0]
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)
