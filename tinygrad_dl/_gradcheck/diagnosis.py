"""Which operation of a recorded graph is wrong, and why: the catalogue of causes, tried on each that is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._tensor import Tensor
from ..autodiff import propagate
from ..graph import Array, Node, behind
from .causes import FACTS, REPAIRS
from .cuts import DIRECTIONS, Mending, cuts
from .operation import Operation, Randomness, operations_of
from .sound import STALE
from .suspect import Cause, Suspect, suspects
from .verdict import FLOAT32, KERNEL_WRITES, Verdict, judge

if TYPE_CHECKING:
    from .comparison import Check


@dataclass(frozen=True)
class Diagnosis:
    """A cause that was verified. name: the row of the catalogue; text: what is wrong, in words; place: the operation
    and the line that called it; argument: the one whose gradient is wrong, where it is one; points: how many random
    points it was verified at."""

    name: str
    text: str
    place: str
    argument: str = ""
    points: int = 0

    def __str__(self) -> str:
        place = f"{self.argument} of {self.place}" if self.argument else self.place
        proof = f"repaired, it is right at {self.points} random points" if self.points else ""
        return "; ".join(filter(None, [f"{self.name}: {self.text}", place, proof]))


def explain(check: Check) -> list[Diagnosis]:
    """The causes of a check of first order that failed: of its operations, or else where a gradient is cut off."""
    try:
        tensors, outputs = check.subject.run(check.function)
    except Exception:
        return []  # it fails of itself, and the report says so
    seeds = [(y.node, w) for (_, y), w in zip(outputs, check.weights, strict=True) if y.node is not None]
    randomness, operations = Randomness(0), dict[Node, Operation]()
    found: list[Diagnosis] = []
    for operation in operations_of(behind([node for node, _ in seeds])):
        if isinstance(operation, Operation):
            operations[operation.node] = operation
            found += diagnose(operation, judge(operation, randomness))
    try:
        return found or list(_cut_off(check, tensors, seeds, operations))
    except Exception:
        return []  # backward fails, and the report says so


def _cut_off(
    check: Check, tensors: Sequence[Tensor], seeds: Sequence[tuple[Node, Array]], operations: dict[Node, Operation]
) -> Iterator[Diagnosis]:
    """Where arguments of the function reach an operation without a gradient, if what is lost there is all."""
    for i, (argument, tensor) in enumerate(zip(check.arguments, tensors, strict=True)):
        some = list(cuts(list(operations), tensor.data))
        wanted = {cut.node for cut in some} | ({tensor.node} if tensor.node else set())
        grads = propagate(seeds, retain=True, wanted=wanted)
        got, values = grads.get(tensor.node), lambda array, i=i: check.values(i, array)  # type: ignore[arg-type]
        if some and Mending(some, operations, grads, tensor.data, got, values, check.weights).holds():
            for cut in some:
                yield Diagnosis("gradient cut off", f"{argument.name} is {cut}", "", "", DIRECTIONS)


def diagnose(operation: Operation, verdict: Verdict) -> Iterator[Diagnosis]:
    """The causes of a verdict: of each wrong rule the first in the catalogue that proves itself."""
    if verdict.kind in ("right", "not checked") and verdict.text != FLOAT32:
        return
    tried = verdict.kind in ("wrong", "kink") and verdict.text not in (KERNEL_WRITES, STALE)
    found = list(suspects(operation, verdict)) if tried else []
    for suspect in found:
        for cause in REPAIRS:
            if (text := _tested(cause, suspect)) is not None:
                yield Diagnosis(cause.name, text, operation.place, _argument(suspect), len(suspect.trials))
                break
    if not found:  # with copies of what it is given, each rule is right
        yield from _facts([Suspect(operation, i, 0, verdict) for i in operation.live])


def _facts(several: Sequence[Suspect]) -> Iterator[Diagnosis]:
    for suspect in several:
        for cause in FACTS:
            if (text := _tested(cause, suspect)) is not None:
                yield Diagnosis(cause.name, text, suspect.operation.place)
                return


def _tested(cause: Cause, suspect: Suspect) -> str | None:
    """A rule or kernel may fail at what it is tried with: then that was not it."""
    try:
        return cause.test(suspect)
    except Exception:
        return None


def _argument(suspect: Suspect) -> str:
    names = suspect.operation.op.array_names
    return f"argument {names[suspect.i] if suspect.i < len(names) else suspect.i}"
