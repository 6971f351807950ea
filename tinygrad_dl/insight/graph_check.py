"""`check_graph`: is the rule of every operation in a recorded graph right, at the values it really met?"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from .._gradcheck.diagnosis import Diagnosis, diagnose
from .._gradcheck.operation import Operation, Randomness, operations_of
from .._gradcheck.verdict import Verdict, judge
from .._source import describe, describe_line
from .._tensor import Tensor
from ..drawing import Drawing
from ..drawing.outline import fold
from ..drawing.source import dot
from ..drawing.trace import Mark, trace
from ..graph import Node, behind
from ..scope import taping, watched_by, within

COLOURS = {  # from the gravest verdict
    "wrong": "#c0392b",
    "random": "#8e5bb5",
    "kink": "#c98a1b",
    "not checked": "#8b95a5",
    "right": "#3f9d68",
}
MOST = 40  # operations listed one by one; of more, only those that are not right
# Elements of float64. As often as an array is freed, glibc gives its memory back, and the next one faults it in again,
# unless a larger block was freed before, up to 32 MB: 19 ms in place of 25 for 784-512-512-10, batch 128.
LASTING = 2**22 - 2**12


def check_graph(loss: Tensor) -> GraphReport:
    """Check the rule of each operation that led to a tensor, at the values that it was computed from.

    loss: a recorded Tensor of any shape, before its backward, or after one with `retain_graph=True`.

    Each operation is run again by itself, in float64, a small step along one random direction ahead and back, and the
    change is compared with what its rule says; matrix products in the float32 that they were given, if that settles
    it; of a large elementwise operation some 16,000 elements, with its zeros and extremes. It takes two to five times
    as long as a forward and a backward pass (`python -m benchmarks insight`). A wrong rule is examined further, and
    its cause is named if `gradcheck` can verify it. No value, gradient or generator changes, and you can still call
    `backward`.

    The verdict on each operation: right; wrong; kink, at a point where the slopes on both sides differ, so that the
    gradient is not defined; random, if two runs give different results; or not checked, with the reason. It finds
    wrong formulas in rules. For float32 rounding, and errors between operations such as a `detach`, use `gradcheck`.

    Returns a report, false if an operation is wrong, with a list of `NodeCheck`, and `draw()`. Raises TypeError for
    anything but a Tensor, ValueError for one that was not recorded, RuntimeError if a backward has consumed the graph.
    """
    if not isinstance(loss, Tensor):
        raise TypeError(f"check_graph: expected a Tensor, such as a loss, got {describe(loss)}")
    if (tape := taping()) is not None:
        tape.refuse_reading(loss, "check_graph")
    if loss.node is None:
        raise ValueError(
            f"check_graph: {describe(loss)} was not recorded, so there is no graph; compute it outside of no_grad() "
            "from a tensor with requires_grad=True"
        )
    nodes = behind([loss.node])
    spent = next((node.spent for node in nodes if node.spent is not None), None)
    if spent is not None:
        raise RuntimeError(
            f"check_graph: the graph was consumed by the backward at {describe_line(spent)}; check it before, or pass "
            "retain_graph=True there"
        )
    largest = max(math.prod(node.shape) for node in nodes)
    randomness = Randomness(0, largest)
    np.empty(min(16 * largest, LASTING))  # is freed at once
    checks = []
    with within(recording=True, replaying=True), watched_by(None), np.errstate(all="ignore"):
        for found in operations_of(nodes):
            if isinstance(found, Operation):
                verdict = judge(found, randomness)
                causes = [] if verdict.kind in ("right", "kink") else list(diagnose(found, verdict))
                checks.append(_check(found.node, verdict, causes))
            else:
                node, reason = found
                checks.append(_check(node, Verdict("not checked", reason), []))
    return GraphReport(loss, checks)


@dataclass(frozen=True)
class NodeCheck:
    """One operation: its verdict, with details in words, and of a wrong one the causes that could be verified."""

    node: Node
    verdict: str
    detail: str
    causes: tuple[Diagnosis, ...]

    @property
    def op(self) -> str:
        """The operation's name."""
        return "" if self.node.primitive is None else self.node.primitive.name

    @property
    def line(self) -> str:
        """Where it was called: `train.py:12, in f: y = np.tanh(x)`."""
        return describe_line(self.node.line)

    @property
    def layer(self) -> str:
        """The module that it ran in, by its path; "" outside of modules."""
        return "" if self.node.path is None else str(self.node.path)

    def __str__(self) -> str:
        where = f" in {self.layer}" if self.layer else ""
        lines = [f"{self.verdict}: {self.op}{where}, {self.line}"]
        lines += [f"  {self.detail}"] if self.detail else []
        return "\n".join([*lines, *(f"  cause: {cause.name}: {cause.text}" for cause in self.causes)])


def _check(node: Node, verdict: Verdict, causes: list[Diagnosis]) -> NodeCheck:
    detail = verdict.text
    if verdict.argument is not None and not detail:
        detail = f"along a random direction argument {verdict.argument} has the derivative {verdict.analytic:.6g} by "
        detail += f"its rule, {verdict.numeric:.6g} by differences"
    if verdict.elements:
        whole = f"the {verdict.of:,} that were looked at" if verdict.of else "its elements"
        detail += f": {verdict.elements:,} of {whole}"
    return NodeCheck(node, verdict.kind, detail, tuple(causes))


class GraphReport:
    """What `check_graph` found: true if no operation is wrong. checks: one `NodeCheck` each, in the order in which they
    ran. The report keeps the graph alive."""

    def __init__(self, loss: Tensor, checks: list[NodeCheck]) -> None:
        self.loss, self.checks = loss, checks

    def __bool__(self) -> bool:
        return all(check.verdict != "wrong" for check in self.checks)

    @property
    def wrong(self) -> list[NodeCheck]:
        """The operations whose rule is wrong."""
        return [check for check in self.checks if check.verdict == "wrong"]

    def draw(self, depth: int | None = None) -> Drawing:
        """The graph as `tinygrad_dl.draw` draws it, with the verdict in each operation's box, in its colour. A folded
        module has that of its gravest."""
        order = list(reversed(COLOURS))
        marks = {c.node: Mark(order.index(c.verdict), c.verdict, COLOURS[c.verdict]) for c in self.checks}
        return Drawing(dot(fold(trace([self.loss], marks=marks), depth), "auto", True))

    def __str__(self) -> str:
        counts = Counter(check.verdict for check in self.checks)
        summary = ", ".join(f"{counts[verdict]} {verdict}" for verdict in COLOURS if counts[verdict])
        listed = self.checks if len(self.checks) <= MOST else [c for c in self.checks if c.verdict != "right"]
        lines = [f"check_graph: {len(self.checks)} operations: {summary or 'nothing to check'}"]
        return "\n".join([*lines, *(f"  {line}" for check in listed for line in str(check).splitlines())])

    __repr__ = __str__
