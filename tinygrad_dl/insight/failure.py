"""The report on an operation that gave NaN or infinity: an error whose text tells the whole story."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from .._source import describe_line, is_own
from ..graph import Array, Node
from ..primitive import Primitive
from .causes import GRADIENTS, VALUES, Cause, Situation, find, words, written
from .expression import enclosed, expression
from .history import Index, Operation, Quantity, back_to_inputs, element, pulled, users

LONGEST = 12  # operations of a history that are shown


class Failure:
    """An operation that gave an array that is not finite.

    run: the operation, with its result. bad: that result, or the gradient of the argument at `position`; g is then the
    incoming gradient, node the graph's, and roots are where the backward pass began. before: what a program ran up to
    here, the operations of a backward pass among them."""

    def __init__(
        self,
        run: Operation,
        bad: Array,
        *,
        position: int | None = None,
        g: Any = None,
        node: Node | None = None,
        roots: Sequence[Node] = (),
        before: Sequence[Operation] = (),
    ) -> None:
        self.run, self.bad, self.position, self.g = run, bad, position, g
        self.node, self.roots, self.before = node, roots, before
        self.index = _first(bad)
        self.of = run if position is not None else _meant(run, before)  # the operation that the user wrote
        self.backward = position is not None or self.of is not run
        self.text = expression(self.of.line, self.of.op)

    def error(self) -> FloatingPointError:
        """What to raise."""
        return FloatingPointError("\n  ".join(self._lines()))

    def _lines(self) -> Iterator[str]:
        of = self.of
        what = "the result" if not self.backward else "a gradient"
        if self.position is not None:
            what = f"the gradient of {self._name(self.position)}"
        yield (f"{'backward of ' * self.backward}{of.op.name}: {what} {_count(self.bad)}")
        if of.line is not None:
            yield f"at {describe_line(of.line)}"
        if of.path is not None:
            yield f"in layer {of.path} ({of.path.kind})"
        numbers = list(self._numbers())
        if numbers:
            yield f"operands there: {', '.join(numbers)}"
        yield from self._explanation()
        history = self._history()
        if history:
            yield "where the value came from:"
            yield from (f"  {line}" for line in history)

    # the numbers at the element

    @cached_property
    def place(self) -> Index:
        """The element of the operation's result where it happened: of a gradient that was summed over broadcast axes,
        one of those that were summed."""
        y = self.of.output
        if self.position is None or y is None or not self.of.op.elementwise or y.shape == self.bad.shape:
            return self.index
        single = pulled(self.of, self.g, self.position)
        bad: Any = () if single is None else np.argwhere(~np.isfinite(np.broadcast_to(single, y.shape)))
        return tuple(int(i) for i in bad[0]) if len(bad) else (0,) * y.ndim

    @cached_property
    def places(self) -> list[Index | None]:
        """The element of each operand, where it is known."""
        of = self.of
        if self.backward and not of.op.elementwise:
            return [self.index if i == self.position else None for i in range(len(of.operands))]
        return [None if q.array is None else element(of, self.place, i) for i, q in enumerate(of.operands)]

    @cached_property
    def incoming(self) -> float:
        """The element of the gradient that arrived; NaN where it is not known."""
        if self.position is None:
            first: Any = self.run.operands[0].array
            return float(first[self.index]) if self.backward and np.shape(first) == self.bad.shape else math.nan
        return float(self.g[self.place]) if self.of.op.elementwise else math.nan

    def _name(self, position: int) -> str:
        """What an operand is called: in the user's line, by itself, or by the operation."""
        texts, names = self.text.operands if self.text else (), self.of.op.array_names
        if position < len(texts) and len(texts[position]) <= 30:
            return texts[position]
        own = names[position] if position < len(names) else f"argument {position}"
        return self.of.operands[position].name or own

    def _numbers(self) -> Iterator[str]:
        for i, (q, at) in enumerate(zip(self.of.operands, self.places, strict=True)):
            if not isinstance(q.array, np.ndarray) or q.array.dtype.kind != "f":
                continue
            value = q.at(at)
            if value is not None:
                yield f"{enclosed(self._name(i)) if at else self._name(i)}{_shown(at)} = {value:.6g}"
            elif q.array.size:
                yield f"{self._name(i)} from {q.array.min():.6g} to {q.array.max():.6g}"
        if self.backward and not math.isnan(self.incoming):
            yield f"the gradient that arrives {self.incoming:.6g}"
        elif isinstance(self.g, np.ndarray):
            yield f"the gradient that arrives from {self.g.min():.6g} to {self.g.max():.6g}"

    # what it means

    @cached_property
    def situation(self) -> Situation:
        values = [q.at(at) for q, at in zip(self.of.operands, self.places, strict=True)]
        a, b, *_ = [math.nan if v is None else v for v in [*values, None, None]]
        return Situation(
            self.of.op.name,
            self.bad.dtype,
            a,
            b,
            math.nan if self.backward else float(self.bad[self.index]),
            self.incoming,
            one_b=all(np.size(q.array) == 1 for q in self.of.operands[1:2]),
            fed_by=tuple(map(_called, self.behind)),
            of_what=tuple(self._text_of(o) for o in self.behind),
            axis="".join(map(_axis, self.behind[:1])),
            unused=self.chosen and self.chosen[0],
            kernel=_kernel(self.of.op),
        )

    @cached_property
    def behind(self) -> list[Operation]:
        """The operations from which a value came, nearest first."""
        steps = () if self.backward else islice(back_to_inputs(Quantity(self.of.output, self.of), self.place), 1, 4)
        return [q.made_by for q, _ in steps if q.made_by is not None]

    def _text_of(self, operation: Operation) -> str:
        """The first operand of an operation in the function that failed, as it is written there; else "logits"."""
        here = operation.line is not None and self.of.line is not None and operation.line[0] is self.of.line[0]
        text = expression(operation.line, operation.op) if here else None
        return text.operands[0] if text else "logits"

    @cached_property
    def chosen(self) -> tuple[str, Operation] | None:
        """The `np.where` that does not use the element, with the condition under which it would."""
        if not (self.backward and self.of.op.elementwise and self.incoming == 0):
            return None
        found = _where_above(self.node, self.roots) if self.node is not None else _where_after(self.of, self.before)
        if found is None:
            return None
        where, branch = found
        text = expression(where.line, where.op)
        condition = text.operands[0] if text and text.operands else "condition"
        return (condition if branch == 1 else f"~({condition})"), where

    @cached_property
    def cause(self) -> Cause | None:
        return find(GRADIENTS if self.backward else VALUES, self.situation)

    def _explanation(self) -> Iterator[str]:
        spoilt = next((i for i, q in enumerate(self.of.operands) if q.spoilt()), None)
        if spoilt is not None:
            yield from self._inherited(spoilt)
            return
        if isinstance(self.g, np.ndarray) and not np.isfinite(self.g).all():
            yield "the gradient that arrives was not finite when backward began: look at what was passed to it"
            return
        if self.cause is None:
            return
        yield words(self.cause.says, self.situation)
        if self.chosen is not None and self.chosen[1].line is not None:
            yield f"np.where at {describe_line(self.chosen[1].line)}"
        new = written(self.cause, self.situation, self.text.operands) if self.text is not None else None
        if self.text is not None and new is not None:
            yield f"write instead: {self.text.replaced(new)}"

    def _inherited(self, position: int) -> Iterator[str]:
        """An operand was not finite before."""
        q = self.of.operands[position]
        yield f"{self._name(position)} was not finite before this: it {_count(np.asarray(q.array))}"
        if q.leaf is not None and q.leaf.written is not None:
            yield f"last written at {describe_line(q.leaf.written)}: the step was too large, or its gradient was"
        elif q.leaf is not None:
            yield f"it was not finite when it was created at {describe_line(q.leaf.line)}"
        elif q.made_by is None:
            yield "it was not finite when it was passed in: look at the data (np.isfinite), and at how it was computed"

    def _history(self) -> list[str]:
        """From the operand that counts, back to the inputs."""
        guilty = self.cause.guilty if self.cause is not None else 0
        spoilt = [i for i, q in enumerate(self.of.operands) if q.spoilt()]
        for i in spoilt or sorted(range(len(self.places)), key=lambda i: i != guilty):
            q = self.of.operands[i]
            if self.places[i] is not None and (q.made_by is not None or q.leaf is not None or q.name):
                steps = list(back_to_inputs(q, self.places[i]))
                more = len(steps) - LONGEST
                shown = [_step(*place) for place in (steps if more <= 0 else [*steps[: LONGEST - 1], steps[-1]])]
                return shown if more <= 0 else [*shown[:-1], f"... {more} more ...", shown[-1]]
        return []


def _first(array: Array) -> Index:
    return tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])


def _count(array: Array) -> str:
    index = _first(array)
    wrong = np.count_nonzero(~np.isfinite(array))
    return f"has {array[index]}{' at ' * bool(index)}{_shown(index)}; {wrong} of {array.size} elements not finite"


def _shown(index: Index | None) -> str:
    return f"[{', '.join(map(str, index))}]" if index else ""


def _called(operation: Operation) -> str:
    """An operation's name, or "1 -" if that is what it does."""
    name, first = operation.op.name, operation.operands[0].array
    return "1 -" if name == "subtract" and np.size(first) == 1 and np.all(first == 1) else name


def _axis(operation: Operation) -> str:
    """Over what an operation goes, as more arguments of one that takes the last axis if it is not told."""
    usual = {"axis": -1, "keepdims": False}
    found = {name: operation.static.get(name, value) for name, value in usual.items()}
    return "".join(f", {name}={value!r}" for name, value in found.items() if value != usual[name])


def _kernel(op: Primitive) -> str | None:
    """Where an operation's kernel stands, if it is the user's own."""
    code = getattr(op.kernel, "__code__", None)
    return None if code is None or is_own(code.co_filename) else describe_line((code, 0))


def _step(q: Quantity, index: Index | None) -> str:
    value = q.at(index)
    text = f"{q.title}{_shown(index)}" + ("" if value is None else f" = {value:.6g}")
    line = q.made_by.line if q.made_by is not None else q.leaf.line if q.leaf is not None else None
    path = q.made_by.path if q.made_by is not None else None
    return text + (f", at {describe_line(line)}" if line else "") + (f", in layer {path}" if path is not None else "")


def _meant(run: Operation, before: Sequence[Operation]) -> Operation:
    """The operation that the user wrote: of one in a backward pass, whose line is the forward one's, that one."""
    if expression(run.line, run.op) is not None:
        return run
    alike = (o for o in before if o.line == run.line and o.op is not run.op and np.shape(o.output) == run.output.shape)
    return next((o for o in alike if expression(o.line, o.op) is not None), run)


def _where_after(operation: Operation, before: Sequence[Operation]) -> tuple[Operation, int] | None:
    """The first `where` of a program that one of its choices is this operation's result, and which."""
    for o in before:
        if o.op.name == "where":
            for i in (1, 2):
                if o.operands[i].made_by is operation:
                    return o, i
    return None


def _where_above(node: Node, roots: Sequence[Node]) -> tuple[Operation, int] | None:
    """The nearest `where` between a node and the roots, and by which of its choices the node reaches it."""
    using = users(roots, node)
    level, seen = [node], {node}
    while level:
        above = []
        for below in level:
            for user in using.get(below, ()):
                if user.primitive is not None and user.primitive.name == "where":
                    operation = Operation(user.primitive, [], user.static, user.line, user.path)
                    return operation, list(user.parents).index(below)
                if user not in seen:
                    seen.add(user)
                    above.append(user)
        level = above
    return None
