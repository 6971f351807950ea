"""One order of a gradient check: the gradients by backward, the gradients by differences, and a verdict on each.

The function of order 2 is the gradient of order 1, recorded; and so on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from .._tensor import Tensor
from ..autodiff import leading_to, propagate
from ..graph import Array, Node, wrap
from ..random import generator
from . import audit
from .differences import TWICE, Differences, norm
from .entries import Culprit, Entries
from .patterns import Elements, in_common
from .report import Comparison, Finding, Index, Report
from .sound import problems
from .subject import Function, Outputs, Subject


class Check:
    """Of one order. below: the check of the order below, if there is one."""

    tensors: list[Tensor]
    outputs: Outputs
    weights: list[Array]
    nodes: list[Node]
    analytic: list[list[Array | None]]  # by output and argument
    floor: list[float]  # by argument, how far rounding and bending may put the differences off
    differences: Differences

    def __init__(
        self, subject: Subject, order: int, report: Report, max_entries: int, seed: int, below: Check | None
    ) -> None:
        self.subject, self.order, self.report, self.max_entries, self.seed = subject, order, report, max_entries, seed
        self.below, self.function = below, subject.call if below is None else below.gradients
        self.arguments = subject.arguments
        self.rng = np.random.default_rng([seed, order])

    def run(self) -> None:
        """Add to the report what there is to say."""
        if not (self.evaluate() and self.repeats() and self.differentiate()):
            return
        if self.below is None:
            self.inspect()
        else:
            self.compare_readings(self.below)
        centre = self.values()
        bases = [a.base for a in self.arguments]
        peaks = [float(np.max(abs(values), initial=0.0)) for values in (*centre, *bases)]
        largest = max(audit.magnitude(self.nodes), self.report.eps, *peaks)
        self.differences = Differences(self.values, bases, centre, self.weights, largest, self.report.eps, self.rng)
        self.floor = []
        moved = [self.compare(i) for i in range(len(self.arguments))]
        if self.below is None and not any(moved) and all(g is None for row in self.analytic for g in row):
            names = ", ".join(a.name for a in self.arguments)
            raise ValueError(f"gradcheck: the output of f depends on none of its arguments ({names})")

    def find(self, verdict: str, text: str) -> bool:
        self.report.findings.append(Finding(verdict, text))
        return False

    # the function

    def gradients(self, tensors: list[Tensor]) -> Outputs:
        """The gradients of the weighted outputs, as a function of the arguments that can be differentiated again."""
        return self._gradients(tensors, second=True)

    def arrays(self, tensors: list[Tensor]) -> Outputs:
        """The same by the rules' reading on arrays, for their values alone: it takes a third of the time."""
        return self._gradients(tensors, second=False)

    def _gradients(self, tensors: list[Tensor], second: bool) -> Outputs:
        outputs = self.function(tensors)
        pairs = zip(outputs, self.weights, strict=True)
        seeds = [(y.node, wrap(w) if second else w) for (_, y), w in pairs if y.node]
        found = propagate(seeds, second=second, retain=True, wanted={t.node for t in tensors if t.node is not None})
        named = [(f"grad {a.name}", found.get(t.node)) for a, t in zip(self.arguments, tensors, strict=True) if t.node]
        return [(name, g if second else wrap(g)) for name, g in named if g is not None]

    def values(self, i: int = -1, array: Array | None = None) -> list[Array]:
        """The outputs, with argument i replaced."""
        return self._values(self.function if self.below is None else self.below.arrays, i, array)

    def _values(self, function: Function, i: int = -1, array: Array | None = None) -> list[Array]:
        _, outputs = self.subject.run(function, i, array)
        shapes = {name: y.shape for name, y in outputs}
        expected = {name: y.shape for name, y in self.outputs}
        if shapes != expected:
            raise ValueError(f"gradcheck: f returned outputs of shapes {shapes} near a point where it gave {expected}")
        return [y.data for _, y in outputs]

    def evaluate(self) -> bool:
        """Run the function at the test point."""
        try:
            self.tensors, self.outputs = self.subject.run(self.function)
        except Exception as error:
            if self.below is not None:
                return self.find("wrong", f"the rules fail when they are recorded for order {self.order}: {error}")
            if isinstance(error, ValueError) and "read-only" in str(error):
                return self.find("wrong", f"a kernel writes into its inputs; it must make a new array: {error}")
            raise
        self.weights = [self._weights(y.shape) for _, y in self.outputs]
        roots = [y.node for _, y in self.outputs if y.node is not None]
        self.nodes = sorted(leading_to({t.node for t in self.tensors if t.node}, roots), key=lambda n: n.order)
        audit.freeze(self.nodes)
        for name, y in self.outputs:
            if not np.isfinite(y.data).all():
                return self.find("non-finite", f"{name} is {_first(y.data, ~np.isfinite(y.data))}")
        return True

    def _weights(self, shape: Index) -> Array:
        """Random, none near zero, none 1: a rule that forgets to multiply by the incoming gradient must show."""
        weights: Array = audit.frozen(np.asarray(self.rng.uniform(1.1, 1.9, shape) * self.rng.choice([-1, 1], shape)))
        return weights

    def repeats(self) -> bool:
        """Does the function answer twice the same?"""
        state = generator().bit_generator.state
        for (name, y), again in zip(self.outputs, self._values(self.function), strict=True):
            if (text := _apart(y.data, again)) is not None:
                drew = generator().bit_generator.state != state
                source = (
                    "it draws from tinygrad_dl.random, as dropout does: use eval(), p=0, or a fixed key"
                    if drew
                    else "it draws from another generator, or keeps state between calls"
                )
                return self.find("random", f"{name} is {text} the second time; {source}")
        return True

    # the gradients

    def differentiate(self) -> bool:
        """The gradients by backward, of each output for each argument."""
        for problem in audit.imprecise(self.nodes):
            return self.find("imprecise", problem)
        try:
            self.analytic, again = self._backward(), self._backward()
        except Exception as error:
            what = f"a rule writes into {audit.WRITTEN}" if "read-only" in str(error) else "backward fails"
            return self.find("wrong", f"{what}: {error}")
        for (name, _), row, second in zip(self.outputs, self.analytic, again, strict=True):
            for argument, g, h in zip(self.arguments, row, second, strict=True):
                if g is None or h is None:
                    continue
                if (text := _apart(g, h)) is not None:
                    text = f"d {name} / d {argument.name} is {text} in a second backward of the same graph"
                    return self.find("random", f"{text}: a rule draws random numbers, or changes what was saved")
                if not np.isfinite(g).all():
                    self.find("non-finite", f"d {name} / d {argument.name} is {_first(g, ~np.isfinite(g))} by backward")
        return True

    def _backward(self) -> list[list[Array | None]]:
        return [self._pull(self.tensors, y, w) for (_, y), w in zip(self.outputs, self.weights, strict=True)]

    @staticmethod
    def _pull(tensors: list[Tensor], y: Tensor, w: Array) -> list[Array | None]:
        leaves = [t.node for t in tensors]
        found = {} if y.node is None else propagate([(y.node, w)], retain=True, wanted={n for n in leaves if n})
        return [found.get(n) if n else None for n in leaves]

    def inspect(self) -> None:
        """What the recorded operations show by themselves."""
        found = (audit.writes(self.nodes, self.rng), audit.mismatched(self.nodes, self.rng), problems(self.nodes))
        for text in chain.from_iterable(found):
            self.find("wrong", text)

    def compare_readings(self, below: Check) -> None:
        """The rules have run on arrays for the order below, and on Tensors for this one."""
        recorded = {name: y.data for name, y in self.outputs}
        for i, argument in enumerate(self.arguments):
            none = np.zeros(argument.base.shape)
            parts = [g for row in below.analytic if (g := row[i]) is not None]
            expected = np.sum(parts, axis=0) if parts else none
            got = recorded.get(f"grad {argument.name}", none)
            if norm(got - expected) > self.report.rtol * (norm(got) + norm(expected)) + below.floor[i]:
                what = f"the gradient for {argument.name} is another when it is recorded, for order {self.order}"
                self.find("wrong", f"{what}: {_apart(expected, got)} instead")

    # the comparison

    def compare(self, i: int) -> bool:
        """Add a comparison of each output's gradient for argument i. Does any output move with it?"""
        base, total = self.arguments[i].base, self.arguments[i].base.size
        picks = np.arange(total)
        if total > self.max_entries:
            picks = np.sort(np.random.default_rng([self.seed, i]).choice(total, self.max_entries, replace=False))
        analytic = [row[i] for row in self.analytic]
        entries = Entries(self.differences, i, picks, analytic, self.report.rtol, self.singly)
        self.floor.append(norm(entries.error) * math.sqrt(total / max(1, len(picks))))
        for j, (name, _) in enumerate(self.outputs):
            found = Comparison(self.order, name, self.arguments[i].name, base.shape, len(picks), total)
            if total:
                found = replace(found, ratio=entries.ratio(j), **self._worst(entries, i, j))
            self.report.comparisons.append(found)
        return bool(np.any(entries.value))

    def _worst(self, entries: Entries, i: int, j: int) -> dict[str, Any]:
        """The verdict on output j, and the element that it rests on."""
        r, verdict = entries.worst(j)
        if verdict == "passed" and self.differences.imprecise(i, j):
            verdict = "imprecise"
        at = entries.culprit(r, j)
        return {
            "verdict": verdict,
            "index": tuple(int(n) for n in np.unravel_index(entries.picks[r], self.arguments[i].base.shape)),
            "output_index": at.place,
            "analytic": float(at.analytic),
            "numeric": float(at.numeric),
            "pattern": self._pattern(entries, i, j) if verdict == "wrong" else "",
            "note": "" if verdict == "passed" else self._note(verdict, i, j, at, bool(entries.kinked[r, j])),
        }

    def _pattern(self, entries: Entries, i: int, j: int) -> str:
        argument, picks = self.arguments[i], entries.picks
        values, positions = argument.base.reshape(-1)[picks], np.unravel_index(picks, argument.base.shape)
        elements = Elements(argument.name, values, positions, argument.base.shape, entries.analytic[:, j])
        return in_common(elements, entries.off()[:, j])

    def singly(self, i: int, k: int, j: int) -> Callable[[int], float]:
        """By backward: the derivatives of output j's elements for element k of argument i."""
        tensors, outputs = self.subject.run(self.function)  # the first graph has seen the leaves perturbed

        def derivative(e: int) -> float:
            w = np.zeros(self.weights[j].shape)
            w.flat[e] = self.weights[j].flat[e]
            g = self._pull(tensors, outputs[j][1], w)[i]
            return 0.0 if g is None else float(g.flat[k] / w.flat[e])

        return derivative

    def _note(self, verdict: str, i: int, j: int, at: Culprit, kinked: bool) -> str:
        if verdict == "wrong" and self.analytic[j][i] is None:
            return "no gradient arrived: it was detached, left for plain NumPy, or met a rule that is None"
        notes = [f"the slopes to both sides are {at.low:.6g} and {at.high:.6g}"] if kinked else []
        if self.differences.coarse[i][j]:
            notes.append("f scatters more than float64 does: float32 inside, or a jump nearby")
        y, leaf = self.outputs[j][1].node, self.tensors[i].node
        if verdict == "wrong" and y is not None and leaf is not None:
            nodes = sorted(leading_to({leaf}, [y]), key=lambda n: n.order)
            notes.append(f"by way of {', '.join(audit.route(nodes))}")
        return "; ".join(notes)


def _first(values: Array, where: Array) -> str:
    """`nan at [0, 2]`."""
    index = [int(n[0]) for n in np.nonzero(np.atleast_1d(where))]
    return f"{np.atleast_1d(values)[tuple(index)]}" + (f" at {index}" if values.ndim else "")


def _apart(first: Array, second: Array) -> str | None:
    """Where two arrays that should be one differ most: `0.5 at [3], and 1.0`."""
    gap = abs(first - second)
    if not first.size or np.array_equal(first, second, equal_nan=True):
        return None
    if not np.isfinite(gap).all():
        gap = np.where(np.isfinite(gap), 0.0, 1.0)
    elif np.max(gap) <= TWICE * np.max(abs(first)):
        return None
    index = np.unravel_index(np.argmax(gap), gap.shape)
    place = f" at {[int(n) for n in index]}" if index else ""
    return f"{first[index]:.10g}{place}, and {second[index]:.10g}"
