"""`rounds`: the steps of a program as rounds of tasks; the tasks of one round may run at once, in any order.

A step that takes long is cut into parts: a kernel along its outer loop, a matrix product along the rows or the
columns of its result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, groupby, pairwise
from typing import cast

from ..axes import Graph, Node, root
from ..fuse import Kernel, cost
from .checked import is_checked
from .plan import Step, reads

OPERATIONS = 40_000  # of a kernel in a microsecond, about
VECTOR = 16  # lanes
MULTIPLICATIONS = 60_000  # of a matrix product in a microsecond, about
COPIES = 4_000  # of elements in a microsecond, about
LONG = 50.0  # microseconds of a kernel's part at most, so that threads end together
GRAIN = 16  # rows or columns that a cut of a product is a multiple of


@dataclass(slots=True, eq=False)
class Task:
    """What one thread does: the rounds `start` to `end` of a kernel's outer loop, or rows or columns of a product."""

    step: Step
    start: int
    end: int
    time: float  # microseconds, about
    owner: int | None = None  # the number of the thread that it belongs to: 0 is the caller; None: whoever comes first


@dataclass(slots=True, eq=False)
class Round:
    """tasks: the longest first. shared: is it worth more than one thread?"""

    tasks: list[Task]
    shared: bool

    @property
    def first(self) -> Step:
        """The step of its first task: the only one, if it is not machine code."""
        return self.tasks[0].step

    @property
    def cuts(self) -> list[tuple[Step, int, int]]:
        """The parts that threads share: two rounds without any are done alike."""
        return [(task.step, task.start, task.end) for task in self.tasks] if self.shared else []


@dataclass(frozen=True, slots=True)
class Sharing:
    """From how many microseconds of a round on it is shared out, and how many a part has at least. owned: each thread
    has the same part of every step, so it finds in its cache what it wrote; else whoever comes first takes one."""

    worth: float
    least: float
    owned: bool


# Another core first has to fetch the data. How long that takes differs between machines: on one, sharing rounds of a
# few microseconds makes the digits step a fifth quicker, on another slower. So both are tried (`trial.py`).
COARSE, FINE = Sharing(30.0, 10.0, owned=False), Sharing(0.6, 0.3, owned=True)


def is_native(step: Step) -> bool:
    """Is it machine code?"""
    return isinstance(step, Kernel) or step.kind in ("gemm", "move") or is_checked(step)


def duration(step: Step, graph: Graph) -> float:
    """Microseconds that a step takes on one thread, about: to decide what is worth sharing out."""
    if isinstance(step, Kernel):
        return sum(cost(node) * _lanes(node, step, graph) for node in step.nodes) / OPERATIONS
    if step.kind == "gemm":
        return step.product.number * math.prod(step.product.shape) / MULTIPLICATIONS
    return graph.size(step.layout) / COPIES if is_native(step) else 0.0


def _lanes(node: Node, kernel: Kernel, graph: Graph) -> int:
    """In how many lanes a kernel computes a node. A short row, or one number of each, takes whole vectors."""
    axes = frozenset(node.layout) | node.over
    if not kernel.columns_inside or axes.isdisjoint(kernel.rows):
        return graph.size(axes)
    columns = frozenset(kernel.columns)
    return graph.size(axes - columns) * -(-graph.size(axes & columns) // VECTOR) * VECTOR


def by_rows(node: Node) -> bool:
    """Is a product cut along the rows of its result?"""
    rows, _, columns = node.product.shape
    return rows >= columns


def groups(order: Sequence[Step], overwrites: Mapping[Node, Node]) -> list[list[Step]]:
    """Steps that follow each other and do not touch what another one writes.

    What NumPy runs is alone, and what may end the run."""
    found: list[list[Step]] = []
    read: set[Node] = set()
    written: set[Node] = set()
    for step in order:
        inputs = {overwrites.get(n, n) for n in reads(step)}
        made = step.outputs if isinstance(step, Kernel) else [step]
        outputs = {overwrites.get(root(n), root(n)) for n in made}
        alone = is_checked(step) or not is_native(step)
        if alone or not found or not written.isdisjoint(inputs | outputs) or not read.isdisjoint(outputs):
            found.append([])
            read, written = set(), set()
        found[-1].append(step)
        read |= inputs
        written |= outputs
        if alone:
            found.append([])
    return [steps for steps in found if steps]


def share(steps: Sequence[Step], graph: Graph, units: Mapping[Step, int], threads: int, sharing: Sharing) -> Round:
    """A group as a round. units: how many rounds the outer loop of each own function has, 1 if it cannot be cut."""
    times = {step: duration(step, graph) for step in steps}
    whole = sum(times.values())
    if threads > 1 and whole > sharing.worth and sharing.owned:
        tasks = _owned(times, units, threads, sharing.least)
        return Round(tasks, shared=len({task.owner for task in tasks}) > 1)
    fair = max(whole / threads, sharing.least)
    tasks = []
    for step, time in times.items():
        size = _units(step, units)
        parts = min(size, max(1, round(time / fair + 0.3)))
        if isinstance(step, Kernel) and threads > 1:
            parts = min(size, max(parts, int(time / LONG)))
        tasks += _cut(step, size, parts, time)
    return Round(sorted(tasks, key=lambda task: -task.time), threads > 1 and len(tasks) > 1 and whole > sharing.worth)


def _cut(step: Step, size: int, parts: int, time: float) -> list[Task]:
    cuts = [size * i // parts for i in range(parts + 1)]
    return [Task(step, a, b, time / parts) for a, b in pairwise(cuts)]


def _owned(times: Mapping[Step, float], units: Mapping[Step, int], threads: int, least: float) -> list[Task]:
    """Each step in as many parts as there are threads; of one that is too small for that, parts go to who has least."""
    tasks, busy = [], [0.0] * threads
    for step, time in sorted(times.items(), key=lambda pair: -pair[1]):
        size = _units(step, units)
        parts = max(1, min(size, threads, int(time / least)))
        for number, task in enumerate(_cut(step, size, parts, time)):
            task.owner = number if parts == threads else busy.index(min(busy))
            busy[task.owner] += task.time
            tasks.append(task)
    return tasks


def stretches(rounds: Sequence[Round]) -> list[list[Round]]:
    """Rounds that threads go through without coming back; what may end a run there is alone."""
    found: list[list[Round]] = []
    for each in rounds:
        if is_checked(each.first) or not found or is_checked(found[-1][0].first):
            found.append([])
        found[-1].append(each)
    return found


@dataclass(slots=True)
class Share:
    """What is handed out of a stretch: tasks for one thread, and how many shares have to be done before."""

    needs: int
    tasks: list[Task]
    owner: int | None


def shares_of(rounds: Sequence[Round]) -> list[Share]:
    """The shares of a stretch. Rounds that are not shared are one with those beside them."""
    owned = any(task.owner is not None for each in rounds for task in each.tasks)
    found: list[Share] = []
    for shared, group in groupby(rounds, lambda each: each.shared):
        if shared:
            for each in group:
                found += _shares(each, len(found))
        else:
            found.append(Share(len(found), [task for each in group for task in each.tasks], 0 if owned else None))
    return found


def _shares(each: Round, needs: int) -> list[Share]:
    if each.tasks[0].owner is None:
        return [Share(needs, [task], None) for task in each.tasks]
    owners = sorted({cast(int, task.owner) for task in each.tasks})
    return [Share(needs, [task for task in each.tasks if task.owner == owner], owner) for owner in owners]


def lanes_of(shares: Sequence[Share]) -> tuple[int, list[int]]:
    """How many lanes shares are taken from; and where each one ends in the list of their numbers, which follows, after
    those that are the caller's own. The first lane is everybody's, others are a helper's each."""
    places = [share.owner for share in shares]
    lanes: list[int | None] = [0, None, *range(1, max((p for p in places if p is not None), default=0) + 1)]
    found = [[i for i, place in enumerate(places) if place == lane] for lane in lanes]
    ends = [*accumulate(map(len, found))]
    return len(lanes) - 1, [*ends, *chain.from_iterable(found)]


def _units(step: Step, units: Mapping[Step, int]) -> int:
    if step in units:
        return units[step]
    if isinstance(step, Kernel) or step.kind != "gemm":
        return 1
    rows, _, columns = step.product.shape
    return -(-max(rows, columns) // GRAIN)
