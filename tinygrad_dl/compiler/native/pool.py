"""Threads for the steps of compiled programs: numbered tasks are run, on this thread and on helpers.

A task belongs to one thread, which so finds in its own cache what it wrote in the round before, or to whoever comes
first. Everybody waits until as many are done as a task needs: rounds follow each other without anybody being called.
The caller takes what a helper that does not show up has left, as beside a busy process. Where a helper is kept from the
task that it has taken, who waits for it sleeps, and so gives it a core: the system moves a thread to a core that has
nothing to do, but leaves it waiting for tens of milliseconds beside one that spins. A helper spins for a millisecond
after its last task and then sleeps: OpenBLAS's own threads, which spin for 25 to 100 ms, are not used meanwhile, since
two spinning pools make a step three times as slow.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from typing import Any

import numpy as np

from . import blas, dispatching, engine
from .engine import Compilation

SPINS = 20_000  # before a helper sleeps: rounds lie apart, and waking takes as long as a round
OFFERS = 64  # between two times that a helper offers its core to others, which takes as long as a few; a power of two

_BEFORE = "\n".join(engine.WITHOUT_DENORMALS[0])

# A run lasts until what is claimed is done, so its fields are read only then.
_HELP = f"""define void @NAME.help(ptr %state, i64 %k) {{
entry:
{dispatching.addresses("sleepers", "word", "first")}
  %far = mul i64 %k, {dispatching.LINE}
  %lane = getelementptr i8, ptr %first.at, i64 %far
{_BEFORE}
  br label %look
look:
  %spins = phi i64 [0, %entry], [%longer, %pause], [%longer, %yield], [0, %claimed], [0, %slept]
  %own = call i64 @NAME.claim(ptr %state, ptr %lane, i64 -1)
  %got = icmp sge i64 %own, 0
  br i1 %got, label %claimed, label %common
common:
  %anyone = call i64 @NAME.claim(ptr %state, ptr %first.at, i64 -1)
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
  call void @{dispatching.PAUSE}
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
  %awake = {dispatching.futex("%word.at", dispatching.WAIT, "%ticket")}
  br label %slept
slept:
  %fewer = atomicrmw sub ptr %sleepers.at, i32 1 seq_cst
  br label %look
}}
"""


class Pool:
    """The helpers of this process."""

    def __init__(self) -> None:
        memory = np.zeros(dispatching.SIZE + 64, np.uint8)
        start = -memory.ctypes.data % 64
        self.memory = memory[start : start + dispatching.SIZE]
        self.state = self.memory.ctypes.data
        self.helpers: list[threading.Thread] = []
        self.lock = threading.Lock()

    def grow(self, threads: int) -> None:
        """Have helpers for so many threads in all."""
        with self.lock:
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
    state.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def threads() -> int:
    """How many threads a step may use: OpenBLAS's number, at most one per core; 1 where there are no helpers."""
    return 1 if dispatching.FUTEX is None else min(blas.threads(), engine.cores(), dispatching.MOST)


@functools.cache  # asked before each run
def state(wanted: int) -> int:
    """The address of the pool's state, with helpers for so many threads."""
    _pool.grow(wanted)
    return _pool.state


def dispatch(compilation: Compilation) -> str:
    """The symbol of the function that shares out tasks, and helps."""
    text = dispatching.DISPATCH + dispatching.SHARED + _HELP
    return compilation.add(text, [*dispatching.DECLARES, *engine.CONTROLS])


@functools.cache
def _entry() -> Any:
    """What a helper runs for ever: without a task, and so on."""
    with Compilation() as compilation:
        address = compilation.addresses([dispatch(compilation)])[0]
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    run = ctypes.CFUNCTYPE(None, pointer, number, pointer, pointer, number, pointer)(address)
    return lambda state, k: run(state, k, None, None, 0, None)
