"""`rounds`: the steps of a program as rounds of tasks; the tasks of one round may run at once, in any order.

A step that takes long is cut into parts: a kernel along its outer loop, a matrix product along the rows or the
columns of its result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from ..axes import Graph, Node, root
from ..fuse import Kernel, cost
from .checked import is_checked
from .plan import Step, reads

OPERATIONS = 40_000  # of a kernel in a microsecond, about
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
    """From how many microseconds of a round on it is shared out, and how many a part has at least."""

    worth: float
    least: float


# Another core first has to fetch the data. How long that takes differs between machines: on one, sharing rounds of a
# few microseconds makes the digits step a fifth quicker, on another slower. So both are tried (`trial.py`).
COARSE, FINE = Sharing(30.0, 10.0), Sharing(1.2, 0.6)


def is_native(step: Step) -> bool:
    """Is it machine code?"""
    return isinstance(step, Kernel) or step.kind in ("gemm", "move") or is_checked(step)


def duration(step: Step, graph: Graph) -> float:
    """Microseconds that a step takes on one thread, about: to decide what is worth sharing out."""
    if isinstance(step, Kernel):
        sizes = [(node, graph.size(frozenset(node.layout) | node.over)) for node in step.nodes]
        return sum(cost(node) * size for node, size in sizes) / OPERATIONS
    if step.kind == "gemm":
        return step.product.number * math.prod(step.product.shape) / MULTIPLICATIONS
    return graph.size(step.layout) / COPIES if is_native(step) else 0.0


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
    fair = max(whole / threads, sharing.least)
    tasks = []
    for step, time in times.items():
        size = _units(step, units)
        parts = min(size, max(1, round(time / fair + 0.3)))
        if isinstance(step, Kernel) and threads > 1:
            parts = min(size, max(parts, int(time / LONG)))
        cuts = [size * i // parts for i in range(parts + 1)]
        tasks += [Task(step, a, b, time / parts) for a, b in pairwise(cuts)]
    return Round(sorted(tasks, key=lambda task: -task.time), threads > 1 and len(tasks) > 1 and whole > sharing.worth)


def stretches(rounds: Sequence[Round]) -> list[list[Round]]:
    """Rounds that threads go through without coming back; what may end a run there is alone."""
    found: list[list[Round]] = []
    for each in rounds:
        if is_checked(each.first) or not found or is_checked(found[-1][0].first):
            found.append([])
        found[-1].append(each)
    return found


def shares_of(rounds: Sequence[Round]) -> list[tuple[int, list[Task]]]:
    """What is handed out of a stretch: tasks for one thread, and how many shares have to be done before. Rounds that
    are not shared are one with those beside them."""
    found: list[tuple[int, list[Task]]] = []
    for shared, group in groupby(rounds, lambda each: each.shared):
        if shared:
            for each in group:
                needs = len(found)
                found += [(needs, [task]) for task in each.tasks]
        else:
            found.append((len(found), [task for each in group for task in each.tasks]))
    return found


def _units(step: Step, units: Mapping[Step, int]) -> int:
    if step in units:
        return units[step]
    if isinstance(step, Kernel) or step.kind != "gemm":
        return 1
    rows, _, columns = step.product.shape
    return -(-max(rows, columns) // GRAIN)
