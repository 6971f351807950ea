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

    f: returns a floating Tensor, or a tuple, list or dict of them. The check uses a randomly weighted sum of each
        output.
    inputs: every floating Tensor, array and number is checked, in a float64 copy; other inputs are passed on
        unchanged.
    wrt: is also checked: a Module (its parameters that require grad), or float64 leaves in f's closure, one or a list
        or dict of them. They are perturbed by `assign`. Afterwards values, gradients, buffers and random generators
        are restored, even if f raises.
    order: 2 also checks the gradient of the gradient, and so on.
    eps: the first step size: eps for an element x of |x| <= 1, else eps·|x|. If it does not decide, step sizes from
        eps/262144 to 4096·eps are tried, and the most reliable is used.
    rtol: the limit for ‖numeric - analytic‖ / (‖numeric‖ + ‖analytic‖), over an argument and for each element. About
        1e-7 is great, 1e-5 is worth a second look, 1e-3 is cause for concern. Differences explained by the measured
        rounding noise of f do not count, so a gradient may be zero.
    max_entries: of larger arguments only so many elements are checked, chosen at random from `seed`.

    Besides wrong values it finds gradients that are missing, have the wrong shape, or differ from one backward pass to
    the next; kernels and rules that write into their arguments; fused operations whose pair disagrees with their
    definition; NaN and infinity; and float32 inside f. A function with different results for the same input (dropout)
    is reported as random, and a kink at the test point (ReLU at 0) as a kink: neither is wrong, but neither can be
    checked there.

    For a failure at order 1, the report names the operation with the wrong rule, what the wrong elements have in
    common ("only where x < 0"), and the cause, from a catalogue: a constant factor, a missing sum over a broadcast
    axis, a transposed operand, a missing chain factor, an inverted mask and so on. A cause is named only if the
    gradient repaired accordingly is right at several random points.

    Returns a report that is true if the gradients are right. Otherwise raises GradcheckError, with the report as
    `.report`, unless raise_on_failure is False. Raises ValueError without a floating argument, or if the output
    depends on none; TypeError if f returns no floating Tensor, or for leaves that are not float64.
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
