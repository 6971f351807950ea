"""Where the NumPy backend keeps a value: in a buffer, in new memory to be returned, or in an input that it replaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .layout import order_of, prototypes
from .memory import Lifetimes, assign
from .numpy_text import allocation, form_of, is_ufunc, on_buffer
from .program import Instruction, Program, Value, unique


class Places:
    """replaced: results that are written over the input that they replace. returned: by output, how it is given
    back, if not as it is: "copy", or "own", a copy if it shows memory of what it was computed from.

    targets: the name of the array to write a value into."""

    def __init__(self, program: Program, taken: set[str]) -> None:
        self.program = program
        self.prototypes = prototypes(program)
        self.made = program.makers()
        self.forms = {v: form_of(step) for v, step in self.made.items()}
        self.lifetimes = Lifetimes(program, lambda step: step.inputs if form_of(step) in ("view", "call") else ())
        self.replaced = self._replacements()
        self.returned: dict[int, str] = {}
        self.fresh = self._returned()
        self.kinds = {v: self._kind(v) for v, form in self.forms.items() if form in ("out", "fill")}
        stored = {v: k for v, k in self.kinds.items() if v not in self.fresh and v not in self.replaced}
        self.plan = assign(program, self.lifetimes, stored, overwrites)
        self.targets, self.allocations = self._buffers(taken)

    def _kind(self, v: Value) -> Any:
        return v.shape, v.dtype, order_of(self.prototypes[v])

    def _base(self, v: Value) -> Value:
        """The value of which this one is a view."""
        while self.forms.get(v) == "view":
            v = self.made[v].inputs[0]
        return v

    def _returned(self) -> set[Value]:
        """Note how outputs are given back. Which values have to lie in new memory for that?"""
        taken: set[Value] = set()
        for i, y in enumerate(self.program.outputs):
            base = self._base(y)
            form = self.forms.get(base)
            if base in self.replaced:
                if y is not base or self.program.inputs[self.program.updates.get(i, 0)] is not self.replaced[base]:
                    self.returned[i] = "copy"
            elif base in taken or form is None or (y is not base and not self._may_be_view(i, y, base)):
                self.returned[i] = "copy"
            else:
                taken.add(base)
                if form == "call":
                    self.returned[i] = "own"
        return taken

    def _may_be_view(self, i: int, y: Value, base: Value) -> bool:
        return y.nbytes == base.nbytes and self.forms[base] != "call" and i not in self.program.updates

    def _replacements(self) -> dict[Value, Value]:
        program = self.program
        numbers = {v: i for i, step in enumerate(program.body) for v in step.outputs}
        risky = [i for i, step in enumerate(program.body) if form_of(step) == "call" or "index" in step.static]
        found: dict[Value, Value] = {}
        for output, number in program.updates.items():
            y, x = program.outputs[output], program.inputs[number]
            i = numbers.get(y, -1)
            if i <= max(risky, default=-1):  # an error must come before anything is lost
                continue
            if self.forms[y] in ("out", "fill") and x not in found.values() and self._free_at(i, x):
                found.setdefault(y, x)
        return found

    def _free_at(self, i: int, x: Value) -> bool:
        """May instruction number i write over an input?"""
        last = self.lifetimes.last[x]
        if last != i:
            return last < i
        step = self.program.body[i]
        others = (a for a in step.inputs if a is not x)
        return x in overwrites(step) and not any(x in self.lifetimes.memory[a] for a in others)

    def _buffers(self, taken: set[str]) -> tuple[dict[Value, str], list[str]]:
        """Names for buffers, one for each kind of value that lies in one, and the statements that make them."""
        targets: dict[Value, str] = {}
        names: dict[tuple[int, Any], str] = {}
        own: dict[int, tuple[str, Any]] = {}
        lines: list[tuple[int, str]] = []
        for v, n in self.plan.places.items():
            key = n, self.kinds[v]
            if key not in names:
                names[key] = unique(f"b{n}", taken)
                prototype = self.prototypes[v]
                if n not in own:
                    own[n] = names[key], prototype
                    text = allocation(prototype)
                else:
                    name, first = own[n]
                    text = on_buffer(prototype, name if first.flags.c_contiguous else f"{name}.base")
                lines.append((n, f"{names[key]} = {text}"))
            targets[v] = names[key]
        return targets, [text for _, text in sorted(lines, key=lambda line: line[0])]


def overwrites(step: Instruction) -> Sequence[Value]:
    """Which arguments an instruction may overwrite as it goes."""
    if not is_ufunc(step):
        return ()
    y = step.outputs[0]
    return [v for v in step.inputs if v.shape == y.shape and v.dtype == y.dtype]
