"""`gradcheck` compares gradients with central differences, and says what is wrong with them.

A check is a debugging tool: it runs the function a few hundred times, in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ._gradcheck.comparison import Check
from ._gradcheck.diagnosis import explain
from ._gradcheck.report import GradcheckError, Report
from ._gradcheck.subject import Subject
from .scope import within

__all__ = ["GradcheckError", "Report", "gradcheck"]


def gradcheck(
    f: Callable[..., Any],
    *inputs: Any,
    wrt: Any = None,
    order: int = 1,
    eps: float = 1e-6,
    rtol: float = 1e-5,
    max_entries: int = 200,
    seed: int = 0,
    raise_on_failure: bool = True,
) -> Report:
    """Compare the gradients of `f(*inputs)` with central differences in float64.

    f: returns a floating Tensor, or a tuple, list or dict of them. Each output is weighted with random numbers
        and summed.
    inputs: every floating Tensor, array and number is checked, in a float64 copy; the rest is passed on as it is.
    wrt: checked besides: a Module (its parameters that require grad), or leaves that f closes over, one or a list
        or dict of them, in float64. They are perturbed by `assign`; values, gradients, buffers and random
        generators are afterwards as before, also when f raises.
    order: 2 checks the gradient of the gradient too, and so on.
    eps: the first step: eps for an element x of |x| <= 1, else eps·|x|. Where it does not settle the matter,
        steps from eps/262144 to 4096·eps are tried, and the most reliable is taken.
    rtol: of ‖numeric - analytic‖ / (‖numeric‖ + ‖analytic‖), over an argument and for each single element.
        About 1e-7 is great, 1e-5 is to be looked at again, 1e-3 is to worry about. Differences that the measured
        rounding noise of f explains do not count, so a gradient may be zero.
    max_entries: larger arguments are checked in so many elements, chosen at random from `seed`.

    Besides wrong numbers it finds: gradients that do not arrive, that have the wrong shape, or differ from one
    backward to the next; kernels and rules that write into what they are given; fused operations whose pair is
    not their meaning; NaN and infinity; float32 inside. A function that answers twice differently (dropout) is
    reported as random, and a kink at the test point (ReLU at 0) as a kink: neither is wrong, but neither can be
    checked there.

    A failure at order 1 is explained: which operation's rule it is, what its wrong elements have in common ("only
    where x < 0"), and the cause, from a catalogue: a constant factor, a missing sum over a broadcast axis, a
    transposed operand, a missing chain factor, an inverted mask and so on. A cause is named only if the gradient that
    it repairs is right at several random points.

    Returns a report that is true if all is well. Raises GradcheckError otherwise, with the report as `.report`,
    unless raise_on_failure is False; ValueError without a floating argument, or if the output depends on none;
    TypeError if f returns no floating Tensor, or for leaves that are not float64.
    """
    if not eps > 0 or not rtol > 0 or max_entries < 1 or order < 1:
        raise ValueError(
            "gradcheck: expected eps > 0, rtol > 0, max_entries >= 1 and order >= 1, "
            f"got {eps}, {rtol}, {max_entries} and {order}"
        )
    subject = Subject(f, inputs, wrt)
    report = Report(eps, rtol, copied=[a.name for a in subject.arguments if a.copied])
    with subject.untouched(), within(recording=True, replaying=True), np.errstate(all="ignore"):
        check: Check | None = None
        for n in range(1, order + 1):
            check = Check(subject, n, report, max_entries, seed, below=check)
            check.run()
            if not report:
                break
        if check is not None and check.order == 1 and not report:
            report.causes = explain(check)
    report.evaluations = subject.evaluations
    if raise_on_failure and not report:
        raise GradcheckError(report)
    return report
