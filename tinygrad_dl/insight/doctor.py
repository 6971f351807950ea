"""`doctor`: what is wrong with a model, a batch, a loss and an optimizer, found in one step of training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .._source import describe
from ..nn.module import Module
from ..optim.optimizer import Optimizer
from ..scope import taping
from .rehearsal import Rehearsal
from .rules import RULES, Finding, findings


def doctor(model: Module, batch: Sequence[Any], loss: Callable[..., Any], optimizer: Optimizer) -> DoctorReport:
    """Run one step of training and report what is wrong with it, each finding with its line, its figures and a remedy.

    model: in the mode in which it trains. batch: inputs and targets, (x, y) or (x1, x2, ..., y), as a `data.Loader`
        gives them: arrays or Tensors, not cast. loss: of the output and the targets, a Tensor of one element.
    optimizer: the model's; the step that it would make is made by a copy.

    Call it where the training step is, before the first one or in the midst of training. It looks for the faults in
    the table of `insight/rules.py`: a softmax before cross-entropy, parameters that get no gradient or that the
    optimizer does not have, initial weights that do not suit the activation, dead units, vanishing gradients, a
    learning rate beyond what the curvature allows, and more. What it finds is in this one step: the model's initial
    weights are judged only before the optimizer's first step.

    It takes about four times as long as a step; with SGD, whose learning rate is compared with the curvature, 20 to 40
    times. Nothing is changed: no parameter, buffer, gradient, mode, random generator, state of the optimizer, nor
    an attribute of a module or what is in its arrays, lists, tuples, dicts and sets.

    Returns a report, true if nothing was found, with a list of `Finding`. Raises TypeError for parts of another kind,
    ValueError for a loss of several elements, RuntimeError inside a function that is being compiled, and what model
    and loss themselves raise.
    """
    for name, part, kind in (("model", model, Module), ("optimizer", optimizer, Optimizer)):
        if not isinstance(part, kind):
            raise TypeError(f"doctor: {name}: expected an instance of {kind.__name__}, got {describe(part)}")
    if not isinstance(batch, tuple | list) or len(batch) < 2:
        raise TypeError(f"doctor: batch: expected a tuple (inputs, targets), got {describe(batch)}")
    if not callable(loss):
        raise TypeError(f"doctor: loss: expected a function of output and targets, got {describe(loss)}")
    if taping() is not None:
        raise RuntimeError("doctor: cannot look at values while a step is being compiled; call it outside of the step")
    rehearsal = Rehearsal(model, batch, loss, optimizer)
    return DoctorReport(rehearsal.loss.data.item(), list(findings(rehearsal)))


class DoctorReport:
    """What `doctor` found: true if nothing is wrong. loss: of the batch. findings: in the order of the table."""

    def __init__(self, loss: float, findings: list[Finding]) -> None:
        self.loss, self.findings = loss, findings

    def __bool__(self) -> bool:
        return not self.findings

    def __str__(self) -> str:
        count = {0: "nothing found", 1: "1 finding"}.get(len(self.findings), f"{len(self.findings)} findings")
        lines = [f"doctor: {count} in a step with loss {self.loss:.4g}, by {len(RULES)} rules"]
        return "\n".join([*lines, *(f"  {line}" for found in self.findings for line in str(found).splitlines())])

    __repr__ = __str__
