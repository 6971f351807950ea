"""Machine code by which threads share out numbered tasks: `DISPATCH`, and what its helpers (`pool.py`) have of it.

Tasks stand in lists: one of the caller's own, one lane for everybody, and one for each helper. Whoever waits for long
sleeps, and is woken by who does what it waits for.
"""

from __future__ import annotations

import platform
import sys

_MACHINE = platform.machine().lower()
FUTEX = {"x86_64": 202, "amd64": 202, "aarch64": 98}.get(_MACHINE) if sys.platform == "linux" else None
PAUSE = "llvm.aarch64.hint(i32 1)" if _MACHINE == "aarch64" else "llvm.x86.sse2.pause()"
DECLARES = [
    "declare void @llvm.aarch64.hint(i32)" if _MACHINE == "aarch64" else "declare void @llvm.x86.sse2.pause()",
    "declare i64 @syscall(i64, ...)",
    "declare i32 @sched_yield()",
]
PATIENCE = 40  # pauses of 50 ns before the caller takes what belongs to a helper
WAITS = 4_000  # before whoever waits for others' tasks sleeps
MOST = 64  # threads

# The state, by offset: tasks that are done (0); the function (64), its argument (72) and the list of tasks (80);
# sleepers (128), what they sleep on (132), how many sleep until more is done (136); whether a run is under way (192),
# and its number (200). Then lanes, queues of tasks: the first is everybody's, others are a helper's each. A lane is the
# number of the run, above that of its tasks which are left, and (8) where it ends in the list. What several threads
# write has a cache line of its own.
LINE, _LANES = 64, 256
SIZE = _LANES + LINE * (MOST + 1)
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
WAIT, WAKE = 128, 129  # of a futex, which only this process has
_EVERY = 2**31 - 1


def addresses(*names: str) -> str:
    """Where these stand in the state."""
    return "\n".join(f"  %{name}.at = getelementptr i8, ptr %state, i64 {_OFFSETS[name]}" for name in names)


def futex(word: str, verb: int, number: str | int) -> str:
    """Sleep while the word is the number, or wake so many that do."""
    return f"call i64 (i64, ...) @syscall(i64 {FUTEX}, ptr {word}, i32 {verb}, i32 {number}, ptr null, ptr null, i32 0)"


# Tasks 0 to n - 1 of a function of its number and a table, whose rows of FIELDS numbers begin with how many tasks have
# to be done before: the first so many. `lists` says where the caller's own tasks end in the list that follows, and each
# of so many lanes. Without a state, or if another thread has it, this thread does all. Without a task, it is the helper
# of number n.
FIELDS = 3
DISPATCH = f"""define void @NAME(ptr %state, i64 %n, ptr %task, ptr %table, i64 %lanes, ptr %lists) {{
entry:
  %alone = icmp eq ptr %state, null
  br i1 %alone, label %serial, label %ask
ask:
  %helps = icmp eq ptr %task, null
  br i1 %helps, label %help, label %try
help:
  call void @NAME.help(ptr %state, i64 %n)
  ret void
try:
{addresses("function", "argument", "list", "sleepers", "word", "busy", "number", "first")}
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
  %far = mul i64 %k, {LINE}
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
  %woken = {futex("%word.at", WAKE, _EVERY)}
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
  %place = call i64 @NAME.claim(ptr %state, ptr %first.at, i64 -1)
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

# What both have to do. `claim`: the place in the list of a lane's next task, -1 if there is none, or none yet: one that
# needs no more than `limit`, if that is not negative. Only who has the run may give a limit, since its fields are read
# before anything is claimed. `task`: what stands at a place. `needs`: how many have to be done before it. `run`: the
# task at a place, after those. `wait`: until so many are done; whoever waits for several lanes, which is the caller,
# does after a while what others leave in them, as far as it can be done by now.
SHARED = f"""define i64 @NAME.claim(ptr %state, ptr %lane, i64 %limit) {{
entry:
  br label %look
look:
  %now = load atomic i64, ptr %lane acquire, align 8
  %left = and i64 %now, 4294967295
  %none = icmp eq i64 %left, 0
  br i1 %none, label %nothing, label %see
see:
  %end.at = getelementptr i64, ptr %lane, i64 1
  %end = load i64, ptr %end.at
  %place = sub i64 %end, %left
  %unlimited = icmp slt i64 %limit, 0
  br i1 %unlimited, label %take, label %check
check:
  %task = call i64 @NAME.task(ptr %state, i64 %place)
  %needs = call i64 @NAME.needs(ptr %state, i64 %task)
  %possible = icmp ule i64 %needs, %limit
  br i1 %possible, label %take, label %nothing
take:
  %next = sub i64 %now, 1
  %swap = cmpxchg ptr %lane, i64 %now, i64 %next acq_rel monotonic
  %taken = extractvalue {{i64, i1}} %swap, 1
  br i1 %taken, label %claimed, label %look
claimed:
  ret i64 %place
nothing:
  ret i64 -1
}}

define i64 @NAME.task(ptr %state, i64 %place) {{
entry:
{addresses("list")}
  %list = load ptr, ptr %list.at
  %task.at = getelementptr i64, ptr %list, i64 %place
  %task = load i64, ptr %task.at
  ret i64 %task
}}

define i64 @NAME.needs(ptr %state, i64 %task) {{
entry:
{addresses("argument")}
  %argument = load ptr, ptr %argument.at
  %row = mul i64 %task, {FIELDS}
  %needs.at = getelementptr i64, ptr %argument, i64 %row
  %needs = load i64, ptr %needs.at
  ret i64 %needs
}}

define void @NAME.run(ptr %state, i64 %place, i64 %lanes) {{
entry:
{addresses("function", "argument", "waiting")}
  %function = load ptr, ptr %function.at
  %argument = load ptr, ptr %argument.at
  %task = call i64 @NAME.task(ptr %state, i64 %place)
  %needs = call i64 @NAME.needs(ptr %state, i64 %task)
  call void @NAME.wait(ptr %state, i64 %needs, i64 %lanes)
  call void %function(i64 %task, ptr %argument)
  %ran = atomicrmw add ptr %state, i64 1 seq_cst
  %asleep = load atomic i32, ptr %waiting.at seq_cst, align 4
  %none = icmp eq i32 %asleep, 0
  br i1 %none, label %end, label %wake
wake:
  %woken = {futex("%state", WAKE, _EVERY)}
  br label %end
end:
  ret void
}}

define void @NAME.wait(ptr %state, i64 %needed, i64 %lanes) {{
entry:
{addresses("waiting", "first")}
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
  %far = mul i64 %k, {LINE}
  %lane = getelementptr i8, ptr %first.at, i64 %far
  %place = call i64 @NAME.claim(ptr %state, ptr %lane, i64 %found)
  %got = icmp sge i64 %place, 0
  br i1 %got, label %take, label %other
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
  call void @{PAUSE}
  br label %look
sleep:
  %more = atomicrmw add ptr %waiting.at, i32 1 seq_cst
  %low = trunc i64 %found to i32
  %awake = {futex("%state", WAIT, "%low")}
  br label %slept
slept:
  %fewer = atomicrmw sub ptr %waiting.at, i32 1 seq_cst
  br label %look
end:
  ret void
}}
"""
