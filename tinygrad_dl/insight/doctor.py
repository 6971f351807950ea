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

    model: in the mode in which you train it.
        batch: inputs and targets, (x, y) or (x1, x2, ..., y), as from a `data.Loader`: arrays or
        Tensors, not cast. loss: a function of output and targets that returns a one-element Tensor.
    optimizer: the model's; its step is run by a copy.

    Call it next to the training step, before the first step or during training. It looks for the faults in
    the table of `insight/rules.py`: a softmax before cross-entropy, parameters that get no gradient or that the
    optimizer does not have, initial weights that do not suit the activation, dead units, vanishing gradients, a
    learning rate beyond what the curvature allows, and more. It examines only this one step: the initial weights, for
    example, are checked only before the optimizer's first step.

    It takes about four times as long as a step; with SGD, whose learning rate is compared with the curvature, 20 to 40
    times. It changes nothing: no parameter, buffer, gradient, mode, random generator, optimizer state, attribute of a
    module, or contents of its arrays, lists, tuples, dicts and sets.

    Returns a report, true if nothing was found, with a list of `Finding`. Raises TypeError for arguments of the wrong
    type, ValueError for a loss of several elements, RuntimeError inside a function that is being compiled, and
    whatever model and loss themselves raise.
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
