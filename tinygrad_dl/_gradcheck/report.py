"""What a gradient check found: the figures as attributes, and as a table to read."""

from __future__ import annotations

from dataclasses import dataclass, field

from .diagnosis import Diagnosis

Index = tuple[int, ...]
VERDICTS = ("passed", "kink", "imprecise", "non-finite", "wrong", "random")  # the later outweighs the earlier
MEANING = {
    "passed": "gradients and differences agree",
    "kink": "the function has a kink at the test point, where the gradient is not defined: move the point",
    "imprecise": "the function is not precise enough for finite differences in float64",
    "non-finite": "NaN or infinity",
    "wrong": "the gradient is wrong",
    "random": "two runs of the function give different results, so finite differences mean nothing",
}


def rating(ratio: float) -> str:
    """The size of a ratio in words."""
    for limit, word in ((1e-7, "great"), (1e-5, "good"), (1e-3, "look again")):
        if ratio <= limit:
            return word
    return "worry"


@dataclass(frozen=True)
class Comparison:
    """The gradient of one output for one argument. `index` is the element of the argument that differs most;
    `analytic` and `numeric` are its derivatives there, of the output's element `output_index`, or, where that is
    None, of the output's sum under random weights. `pattern` is what the wrong elements have in common."""

    order: int
    output: str
    argument: str
    shape: Index
    checked: int
    total: int
    ratio: float = 0.0
    verdict: str = "passed"
    index: Index = ()
    output_index: Index | None = None
    analytic: float = 0.0
    numeric: float = 0.0
    note: str = ""
    pattern: str = ""

    @property
    def element(self) -> str:
        """The argument's element that differs most: `x[0, 2]`."""
        return _element(self.argument, self.index)

    def __str__(self) -> str:
        top = self.output if self.output_index is None else _element(self.output, self.output_index)
        text = f"{self.verdict}: d {top} / d {self.element} is {self.analytic:.10g} by backward, {self.numeric:.10g}"
        return "; ".join(filter(None, [f"{text} by differences", self.pattern, self.note]))


@dataclass(frozen=True)
class Finding:
    """Something that is wrong beside the numbers of a comparison."""

    verdict: str
    text: str

    def __str__(self) -> str:
        return f"{self.verdict}: {self.text}"


@dataclass
class Report:
    """The result of `gradcheck`: true if every gradient is right.

    verdict: passed, kink, imprecise, non-finite, wrong or random. ratio: the greatest of the comparisons.
    comparisons: one per order, output and argument. findings: what else is wrong. copied: the arguments that
    were checked in float64 copies. evaluations: how often the function ran. causes: of a failure at order 1, those
    that a repair has proved.
    """

    eps: float
    rtol: float
    comparisons: list[Comparison] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    copied: list[str] = field(default_factory=list)
    evaluations: int = 0
    causes: list[Diagnosis] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        return self.failures[0].verdict if self.failures else "passed"

    @property
    def ratio(self) -> float:
        """‖numeric - analytic‖ / (‖numeric‖ + ‖analytic‖): about 1e-7 is great, 1e-5 is to be looked at again,
        1e-3 is to worry about."""
        return max((c.ratio for c in self.comparisons), default=0.0)

    @property
    def failures(self) -> list[Comparison | Finding]:
        """The findings and comparisons that did not pass, the gravest first."""
        parts: list[Comparison | Finding] = [*self.findings, *self.comparisons]
        return sorted((p for p in parts if p.verdict != "passed"), key=lambda p: -VERDICTS.index(p.verdict))

    def __bool__(self) -> bool:
        return self.verdict == "passed"

    def __str__(self) -> str:
        lines = [f"gradcheck {'passed' if self else f'failed, {self.verdict}'}: {MEANING[self.verdict]}"]
        lines += [f"  {part}" for part in self.failures[:MOST]]
        if len(self.failures) > MOST:
            lines.append(f"  and {len(self.failures) - MOST} more")
        lines += [f"  cause: {cause}" for cause in self.causes[:MOST]]
        if self.comparisons:
            lines += [f"  {line}" for line in self._table()]
            ratio = f"ratio {self.ratio:.1e}, {rating(self.ratio)}; " if self.verdict in ("passed", "wrong") else ""
            lines.append(f"  {ratio}step {self.eps:g}, float64, {self.evaluations} evaluations")
        if self.copied:
            lines.append(f"  in float64 copies: {', '.join(self.copied)}")
        return "\n".join(lines)

    __repr__ = __str__

    def _table(self) -> list[str]:
        """One row per order and argument, of the output that differs most."""
        worst: dict[tuple[int, str], Comparison] = {}
        for c in self.comparisons:
            seen = worst.setdefault((c.order, c.argument), c)
            if (VERDICTS.index(c.verdict), c.ratio) > (VERDICTS.index(seen.verdict), seen.ratio):
                worst[c.order, c.argument] = c
        rows = [("argument", "shape", "checked", "ratio", "worst element", "by backward", "by differences", "")]
        for c in worst.values():
            name = c.argument if c.order == 1 else f"{c.argument}, order {c.order}"
            numbers = (f"{c.ratio:.1e}", c.element, f"{c.analytic:.8g}", f"{c.numeric:.8g}")
            checked = f"{c.checked} of {c.total}"
            rows.append((name, str(c.shape), checked, *numbers, "" if c.verdict == "passed" else c.verdict))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return ["  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip() for row in rows]


MOST = 8  # failures spelled out


class GradcheckError(AssertionError):
    """A gradient check that failed. `report` has the figures."""

    def __init__(self, report: Report) -> None:
        super().__init__(report)
        self.report = report


def _element(name: str, index: Index) -> str:
    return f"{name}[{', '.join(map(str, index))}]" if index else name
