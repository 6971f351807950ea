"""Threads for the steps of compiled programs: `DISPATCH` runs numbered tasks, on this thread and on helpers.

A task belongs to one thread, which so finds in its own cache what it wrote in the round before, or to whoever comes
first. Everybody waits until as many are done as a task needs: rounds follow each other without anybody being called.
The caller takes what a helper that does not show up has left, as beside a busy process. Where a helper is kept from the
task that it has taken, who waits for it sleeps, and so gives it a core: the system moves a thread to a core that has
nothing to do, but leaves it waiting for tens of milliseconds beside one that spins. A helper spins for a millisecond
after its last task and then sleeps: OpenBLAS's own threads, which spin for 30 ms, are not used meanwhile, since two
spinning pools make a step three times as slow.
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
PATIENCE = 40  # pauses of 50 ns before the caller takes what belongs to a helper
WAITS = 4_000  # before whoever waits for others' tasks sleeps
SPINS = 20_000  # before a helper sleeps: rounds lie apart, and waking takes as long as a round
OFFERS = 64  # between two times that a helper offers its core to others, which takes as long as a few; a power of two
MOST = 64  # threads

# The state, by offset: tasks that are done (0); the function (64), its argument (72) and the list of tasks (80);
# sleepers (128), what they sleep on (132), how many sleep until more is done (136); whether a run is under way (192),
# and its number (200). Then lanes, queues of tasks: the first is everybody's, others are a helper's each. A lane is the
# number of the run, above that of its tasks which are left, and (8) where it ends in the list. What several threads
# write has a cache line of its own.
_LINE, _LANES = 64, 256
_SIZE = _LANES + _LINE * (MOST + 1)
_OFFSETS = {
    "function": 64,
    "argument": 72,
    "list": 80,
    "sleepers": 128,
    "word": 132,
    "waiting": 136,
    "busy": 192,
    "number": 200,
    "first": _LANES,
}
_FIELDS = "\n".join(f"  %{name}.at = getelementptr i8, ptr %state, i64 {n}" for name, n in _OFFSETS.items())
_WAIT, _WAKE = 128, 129  # of a futex, which only this process has
_EVERY = 2**31 - 1


def _futex(word: str, verb: int, number: str | int) -> str:
    """Sleep while the word is the number, or wake so many that do."""
    return (
        f"call i64 (i64, ...) @syscall(i64 {_FUTEX}, ptr {word}, i32 {verb}, i32 {number}, ptr null, ptr null, i32 0)"
    )


# Tasks 0 to n - 1 of a function of its number and a table, whose rows of FIELDS numbers begin with how many tasks have
# to be done before: the first so many. `lists` says where the caller's own tasks end in the list that follows, and each
# of so many lanes. Without a state, or if another thread has it, this thread does all.
FIELDS = 3
_DISPATCH = f"""define void @NAME(ptr %state, i64 %n, ptr %task, ptr %table, i64 %lanes, ptr %lists) {{
entry:
  %alone = icmp eq ptr %state, null
  br i1 %alone, label %serial, label %try
try:
{_FIELDS}
  %lock = cmpxchg ptr %busy.at, i32 0, i32 1 acquire monotonic
  %locked = extractvalue {{i32, i1}} %lock, 1
  br i1 %locked, label %publish, label %serial
publish:
  %before = load i64, ptr %number.at
  %number = add i64 %before, 1
  store i64 %number, ptr %number.at
  %high = shl i64 %number, 32
  %list = getelementptr i64, ptr %lists, i64 1
  %tasks = getelementptr i64, ptr %list, i64 %lanes
  store ptr %task, ptr %function.at
  store ptr %table, ptr %argument.at
  store ptr %tasks, ptr %list.at
  store atomic i64 0, ptr %state monotonic, align 8
  %own = load i64, ptr %lists
  br label %each
each:
  %k = phi i64 [0, %publish], [%following, %opened]
  %start = phi i64 [%own, %publish], [%end, %opened]
  %end.at = getelementptr i64, ptr %list, i64 %k
  %end = load i64, ptr %end.at
  %following = add i64 %k, 1
  %length = sub i64 %end, %start
  %empty = icmp eq i64 %length, 0
  br i1 %empty, label %opened, label %open
open:
  %far = mul i64 %k, {_LINE}
  %lane = getelementptr i8, ptr %first.at, i64 %far
  %lane.end = getelementptr i64, ptr %lane, i64 1
  store i64 %end, ptr %lane.end
  %all = or i64 %high, %length
  %was = atomicrmw xchg ptr %lane, i64 %all seq_cst
  br label %opened
opened:
  %more.lanes = icmp ult i64 %following, %lanes
  br i1 %more.lanes, label %each, label %look
look:
  %asleep = load atomic i32, ptr %sleepers.at seq_cst, align 4
  %none = icmp eq i32 %asleep, 0
  br i1 %none, label %mine, label %wake
wake:
  %ticket = atomicrmw add ptr %word.at, i32 1 seq_cst
  %woken = {_futex("%word.at", _WAKE, _EVERY)}
  br label %mine
mine:
  %j = phi i64 [0, %look], [0, %wake], [%j.next, %go]
  %mine.left = icmp ult i64 %j, %own
  br i1 %mine.left, label %go, label %claim
go:
  call void @NAME.run(ptr %state, i64 %j, i64 %lanes)
  %j.next = add i64 %j, 1
  br label %mine
claim:
  %place = call i64 @NAME.claim(ptr %first.at)
  %got = icmp sge i64 %place, 0
  br i1 %got, label %common, label %ready
common:
  call void @NAME.run(ptr %state, i64 %place, i64 %lanes)
  br label %claim
ready:
  call void @NAME.wait(ptr %state, i64 %n, i64 %lanes)
  store atomic i32 0, ptr %busy.at release, align 4
  ret void
serial:
  %s = phi i64 [0, %entry], [0, %try], [%s.next, %more]
  %rest = icmp ult i64 %s, %n
  br i1 %rest, label %more, label %over
more:
  call void %task(i64 %s, ptr %table)
  %s.next = add i64 %s, 1
  br label %serial
over:
  ret void
}}
"""

# What both have to do. `claim`: the place in the list of a lane's next task, -1 if there is none. `run`: the task at a
# place, after those that it needs. `wait`: until so many are done; whoever waits for several lanes, which is the
# caller, does after a while what others leave in them, as far as it can be done by now.
_SHARED = f"""define i64 @NAME.claim(ptr %lane) {{
entry:
  br label %look
look:
  %now = load atomic i64, ptr %lane acquire, align 8
  %left = and i64 %now, 4294967295
  %none = icmp eq i64 %left, 0
  br i1 %none, label %nothing, label %take
take:
  %next = sub i64 %now, 1
  %swap = cmpxchg ptr %lane, i64 %now, i64 %next acq_rel monotonic
  %taken = extractvalue {{i64, i1}} %swap, 1
  br i1 %taken, label %claimed, label %look
claimed:
  %end.at = getelementptr i64, ptr %lane, i64 1
  %end = load i64, ptr %end.at
  %place = sub i64 %end, %left
  ret i64 %place
nothing:
  ret i64 -1
}}

define void @NAME.run(ptr %state, i64 %place, i64 %lanes) {{
entry:
{_FIELDS}
  %function = load ptr, ptr %function.at
  %argument = load ptr, ptr %argument.at
  %list = load ptr, ptr %list.at
  %task.at = getelementptr i64, ptr %list, i64 %place
  %task = load i64, ptr %task.at
  %row = mul i64 %task, {FIELDS}
  %needs.at = getelementptr i64, ptr %argument, i64 %row
  %needs = load i64, ptr %needs.at
  call void @NAME.wait(ptr %state, i64 %needs, i64 %lanes)
  call void %function(i64 %task, ptr %argument)
  %ran = atomicrmw add ptr %state, i64 1 seq_cst
  %asleep = load atomic i32, ptr %waiting.at seq_cst, align 4
  %none = icmp eq i32 %asleep, 0
  br i1 %none, label %end, label %wake
wake:
  %woken = {_futex("%state", _WAKE, _EVERY)}
  br label %end
end:
  ret void
}}

define void @NAME.wait(ptr %state, i64 %needed, i64 %lanes) {{
entry:
{_FIELDS}
  br label %look
look:
  %spins = phi i64 [0, %entry], [%longer, %pause], [0, %slept], [{PATIENCE}, %take]
  %found = load atomic i64, ptr %state seq_cst, align 8
  %all = icmp uge i64 %found, %needed
  br i1 %all, label %end, label %idle
idle:
  %longer = add i64 %spins, 1
  %impatient = icmp uge i64 %spins, {PATIENCE}
  br i1 %impatient, label %others, label %rest
others:
  %k = phi i64 [0, %idle], [%following, %other]
  %over = icmp uge i64 %k, %lanes
  br i1 %over, label %rest, label %try
try:
  %far = mul i64 %k, {_LINE}
  %lane = getelementptr i8, ptr %first.at, i64 %far
  %now = load atomic i64, ptr %lane acquire, align 8
  %left = and i64 %now, 4294967295
  %empty = icmp eq i64 %left, 0
  br i1 %empty, label %other, label %see
see:
  %end.at = getelementptr i64, ptr %lane, i64 1
  %lane.end = load i64, ptr %end.at
  %place = sub i64 %lane.end, %left
  %list = load ptr, ptr %list.at
  %task.at = getelementptr i64, ptr %list, i64 %place
  %task = load i64, ptr %task.at
  %argument = load ptr, ptr %argument.at
  %row = mul i64 %task, {FIELDS}
  %needs.at = getelementptr i64, ptr %argument, i64 %row
  %needs = load i64, ptr %needs.at
  %possible = icmp ule i64 %needs, %found
  br i1 %possible, label %claim, label %other
claim:
  %next = sub i64 %now, 1
  %swap = cmpxchg ptr %lane, i64 %now, i64 %next acq_rel monotonic
  %taken = extractvalue {{i64, i1}} %swap, 1
  br i1 %taken, label %take, label %other
take:
  call void @NAME.run(ptr %state, i64 %place, i64 0)
  br label %look
other:
  %following = add i64 %k, 1
  br label %others
rest:
  %tired = icmp ugt i64 %longer, {WAITS}
  br i1 %tired, label %sleep, label %pause
pause:
  call void @{_PAUSE}
  br label %look
sleep:
  %more = atomicrmw add ptr %waiting.at, i32 1 seq_cst
  %low = trunc i64 %found to i32
  %awake = {_futex("%state", _WAIT, "%low")}
  br label %slept
slept:
  %fewer = atomicrmw sub ptr %waiting.at, i32 1 seq_cst
  br label %look
end:
  ret void
}}
"""

_BEFORE = "\n".join(engine.WITHOUT_DENORMALS[0])

# A run lasts until what is claimed is done, so its fields are read only then.
_HELP = f"""define void @NAME(ptr %state, i64 %k) {{
entry:
{_FIELDS}
  %far = mul i64 %k, {_LINE}
  %lane = getelementptr i8, ptr %first.at, i64 %far
{_BEFORE}
  br label %look
look:
  %spins = phi i64 [0, %entry], [%longer, %pause], [%longer, %yield], [0, %claimed], [0, %slept]
  %own = call i64 @NAME.claim(ptr %lane)
  %got = icmp sge i64 %own, 0
  br i1 %got, label %claimed, label %common
common:
  %anyone = call i64 @NAME.claim(ptr %first.at)
  %some = icmp sge i64 %anyone, 0
  br i1 %some, label %claimed, label %idle
claimed:
  %place = phi i64 [%own, %look], [%anyone, %common]
  call void @NAME.run(ptr %state, i64 %place, i64 0)
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
  %more = atomicrmw add ptr %sleepers.at, i32 1 seq_cst
  %ticket = load atomic i32, ptr %word.at seq_cst, align 4
  %mine = load atomic i64, ptr %lane seq_cst, align 8
  %all = load atomic i64, ptr %first.at seq_cst, align 8
  %both = or i64 %mine, %all
  %left = and i64 %both, 4294967295
  %nothing = icmp eq i64 %left, 0
  br i1 %nothing, label %rest, label %slept
rest:
  %awake = {_futex("%word.at", _WAIT, "%ticket")}
  br label %slept
slept:
  %fewer = atomicrmw sub ptr %sleepers.at, i32 1 seq_cst
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
            number = len(self.helpers) + 1
            helper = threading.Thread(target=_entry(), args=(self.state, number), name="tinygrad_dl", daemon=True)
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
    return min(number, engine.cores(), MOST)


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
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(address)
