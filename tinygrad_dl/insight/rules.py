"""The doctor's rules: a table, each row a fault, what finds it, the evidence and the remedy. One more is one row.

A rule speaks only beyond a clear threshold, so that a healthy step is met with silence; what an earlier rule explains,
a later one does not repeat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .._source import describe_line
from ..graph import Leaf, Node
from . import signals, wiring
from .rehearsal import Rehearsal, title
from .wiring import Figures, Found


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a step. node: of the graph, where it was found, if it has a place there.

    figures: what `evidence` says, by name. A finding keeps the graph alive."""

    fault: str
    evidence: str
    remedy: str
    figures: Figures
    node: Node | None = None

    @property
    def line(self) -> str:
        """The line that ran the operation, or made the parameter: `train.py:12, in f: y = np.tanh(x)`."""
        return "" if self.node is None else describe_line(self.node.line)

    @property
    def layer(self) -> str:
        """The module that the operation ran in, by its path; "" outside of modules."""
        return "" if self.node is None or self.node.path is None else str(self.node.path)

    def __str__(self) -> str:
        lines = [f"{self.fault}: {self.evidence}"]
        if isinstance(self.node, Leaf):
            lines.append(f"  made at {self.line}")
        elif self.node is not None:
            lines.append(f"  {title(self.node)}{f' in {self.layer}' if self.layer else ''}, at {self.line}")
        return "\n".join([*lines, f"  try: {self.remedy}"])


class Rule(NamedTuple):
    fault: str
    look: Callable[[Rehearsal], Found]
    evidence: str  # with the figures' names in braces
    remedy: str
    explained_by: tuple[str, ...] = ()


def findings(rehearsal: Rehearsal) -> Iterator[Finding]:
    """What the rules find in a step; what a loop does again and again, once."""
    given: set[str] = set()
    for rule in RULES:
        if given.intersection(rule.explained_by):
            continue
        with np.errstate(all="ignore"):
            found = [Finding(rule.fault, rule.evidence.format(**f), rule.remedy, f, n) for n, f in rule.look(rehearsal)]
        given.update(finding.fault for finding in found)
        yield from {(finding.evidence, finding.line): finding for finding in found}.values()


_NAN = ("not finite",)
_INIT = "initialisation that suits the activation (He for ReLU, Xavier for tanh, LeCun for SELU), or batch norm"
_AHEAD = "from {first:.2g} in {first_layer} to {last:.2g} in {last_layer} (root mean square, {layers} hidden layers)"
_BACK = "from {last:.2g} in {last_layer} to {first:.2g} in {first_layer} (root mean square, {layers} hidden layers)"
_RATE = "a learning rate three to ten times smaller, or a warm-up"

# fmt: off
RULES = (
    Rule("not finite", signals.not_finite, "{what}",
         "run the step inside `with tg.detect_nan():`, which names the first operation that gives it"),
    Rule("graph of an earlier step", wiring.old_graph,
         "{count} of the {all} values behind the loss were computed before this step; the graph grows with every step, "
         "and a second backward through it fails",
         "detach what is carried over from step to step: `state = state.detach()`"),

    Rule("softmax before cross-entropy", wiring.softmax_twice,
         "{op} takes the softmax of its input, whose {classes} classes already add up to 1 in every row; with one "
         "softmax on another gradients are small, and the loss cannot come near 0",
         "leave the softmax out, and give the loss the logits"),
    Rule("activation before cross-entropy", wiring.squeezed_logits,
         "{op} takes logits of any sign and size, but a {activation} gives it only {low:.3g} to {high:.3g}, so that no "
         "class can become as probable, or improbable, as the examples say",
         "remove the activation after the last layer, so that the loss gets logits",
         ("softmax before cross-entropy",)),
    Rule("sigmoid before the with-logits loss", wiring.sigmoid_twice,
         "the loss takes the sigmoid of its input, which a sigmoid has already brought into {low:.3g} to {high:.3g}",
         "leave the sigmoid out, and give the loss the logits"),
    Rule("outputs broadcast against targets", wiring.outer_difference,
         "{op} of shapes {shapes} pairs each of {n} outputs with each of {n} targets, of which the loss is then taken; "
         "it is least where all outputs are the same",
         "one shape for both: `target.reshape(output.shape)`, or nn.MSELoss, which refuses two"),
    Rule("bias before batch norm", wiring.bias_before_norm,
         "the batch norm subtracts {bias} again with the mean; the largest element of its gradient is {gradient:.1g}",
         "bias=False in the layer before a batch norm"),
    Rule("dropout before batch norm", wiring.dropout_before_norm,
         "dropout with p = {p} adds variance in training, which the running statistics of {norm} keep for evaluation, "
         "where there is none",
         "dropout behind the last batch norm, or nn.recompute_statistics after training"),
    Rule("float64 leaking in", wiring.float64_leaks,
         "the parameters are float32, but {op} gives float64, because of {wide}; everything after it takes twice the "
         "memory and time",
         "x.astype(np.float32), or a data.Loader, which casts; Python's numbers in place of NumPy's scalars"),
    Rule("evaluation mode", wiring.in_evaluation,
         "modules that act in training only are in evaluation mode: {listed}",
         "model.train() before the training step, after every evaluation"),
    Rule("evaluated in training mode", wiring.evaluated_in_training,
         "batch norm {name!r} has counted {batches} batches, the optimizer {steps} steps: unless several batches make "
         "one step, or it was trained before, the model is evaluated in training mode",
         "model.eval() before an evaluation, and model.train() after it"),
    Rule("parameters without gradient", wiring.unreached,
         "the loss does not depend on {count} of {all} parameters: {listed}",
         "use them in forward, or find the cut: tg.why(parameter, loss)"),
    Rule("nothing to learn", wiring.nothing_learns,
         "all {all} parameters are frozen: loss.backward() has nothing to do",
         "model.requires_grad_(), or that of the layers that shall learn"),
    Rule("parameters not in the optimizer", wiring.not_in_optimizer,
         "{count} of {all} parameters get a gradient but are in no group of the optimizer: {listed}",
         "make the optimizer from model.parameters(), when the model is complete; or requires_grad_(False)"),
    Rule("other parameters in the optimizer", wiring.foreign,
         "{count} of the optimizer's {all} parameters are not the model's, nor does the loss depend on them: {listed}",
         "make the optimizer after the model, and anew when a layer is replaced"),
    Rule("gradients accumulated", wiring.accumulated,
         "before the step, .grad has the norm {old:.3g} (steps taken: {steps}), while this batch's own gradient has "
         "{new:.3g}: several backward passes have added up",
         "optimizer.zero_grad() before every loss.backward()"),
    Rule("batch norm on a tiny batch", wiring.tiny_batches,
         "its statistics come from {values} values per channel; the variance is uncertain by {error:.0%}",
         "batches of 16 or more"),

    Rule("unscaled inputs", signals.unscaled_inputs, "the first layer's inputs have {what}",
         "data.Normalizer().fit(train), and its transform on all inputs", _NAN),
    Rule("identical units", signals.identical_units,
         "the {units} units of {weight} have the same weights and the same gradients, so they stay one unit for ever",
         "random initial weights; zeros suit only biases, and the last layer", _NAN),
    Rule("unsuited initial weights", signals.unsuited_init,
         "fan-in times variance of {weight} is {gain:.2g}, {scheme} initialisation for {activation} has {wanted}; on "
         "this batch the layer's outputs have the deviation {std:.2g}",
         _INIT, (*_NAN, "identical units")),
    Rule("dead units", signals.dead_units, "{dead} of {units} units are 0 for each of {examples} examples",
         "a smaller learning rate, leaky ReLU, He initialisation, batch norm before the ReLU", _NAN),
    Rule("saturated units", signals.saturated_units,
         "{share:.0%} of the {activation}'s results lie where it is flat; its mean slope is {slope:.2g} of the top",
         f"scaled inputs; {_INIT}", (*_NAN, "unscaled inputs", "unsuited initial weights")),
    Rule("activations explode", signals.activations_grow, _AHEAD, _INIT, (*_NAN, "unsuited initial weights")),
    Rule("activations vanish", signals.activations_fade, _AHEAD, _INIT,
         (*_NAN, "unscaled inputs", "unsuited initial weights")),
    Rule("gradients explode", signals.gradients_grow, _BACK,
         f"clipping; {_INIT}", (*_NAN, "unsuited initial weights")),
    Rule("gradients vanish", signals.gradients_fade, _BACK,
         f"{_INIT}; ReLU in place of sigmoid; residual connections; fewer layers",
         (*_NAN, "unscaled inputs", "unsuited initial weights")),
    Rule("learning rate beyond the curvature", signals.too_curved,
         "by the largest eigenvalue of the Hessian, steps diverge here for rates above {most:.2g}; the rate is "
         "{rate:.2g}, and one step took the loss of this batch from {before:.3g} to {after:.3g}",
         _RATE, _NAN),
    Rule("updates too large", signals.hasty,
         "one step changes {weight} by {ratio:.0%} of its norm; about 0.1% is usual (weights like it: {count})",
         _RATE, (*_NAN, "learning rate beyond the curvature")),
    Rule("updates too small", signals.idle,
         "one step changes no weight by more than {ratio:.1g} of its norm ({weight}); about 0.001 is usual",
         "a larger learning rate; train.find_lr suggests one", _NAN),
)
