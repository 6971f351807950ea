"""Einstein's summation: products of arrays along named axes.

`einsum` reads the subscripts and brings every operand into a plain form: the axes of an ellipsis named, no
name twice in one operand (the diagonal), none that occurs nowhere else (the sum over it). In this form the
gradient of an operand is again an einsum, of the other operands and the incoming gradient.
"""

from __future__ import annotations

from collections import Counter
from string import ascii_letters
from typing import TYPE_CHECKING, Any

import numpy as np

from ..autodiff import unbroadcast
from ..primitive import primitive
from ._arguments import Array, answers, asarray
from .creation import astype
from .diagonals import diagonal
from .reduction import sum

if TYPE_CHECKING:
    from .._tensor import Tensor


def _kernel(*operands: Any, subscripts: str, optimize: Any = True) -> Any:
    return np.einsum(subscripts, *operands, optimize=optimize)


def _to_operand(g: Any, _y: Any, *operands: Any, argnum: int, subscripts: str, optimize: Any = True) -> Any:
    inputs, _, output = subscripts.partition("->")
    names = inputs.split(",")
    terms = [output, *names[:argnum], *names[argnum + 1 :]]
    others = operands[:argnum] + operands[argnum + 1 :]
    r = _einsum(g, *others, subscripts=f"{','.join(terms)}->{names[argnum]}", optimize=optimize)
    shape = operands[argnum].shape
    return r if r.shape == shape else np.broadcast_to(unbroadcast(r, shape), shape)


_einsum = primitive(_kernel, _to_operand, name="einsum")


def _spell_out(subscripts: str, ndims: list[int]) -> tuple[list[str], str]:
    """Names of every operand's axes and of the output's, without ellipses."""
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(ndims):
        raise ValueError(f"einsum: {subscripts!r} names {len(terms)} operands, got {len(ndims)}")
    spare = [c for c in reversed(ascii_letters) if c not in subscripts]
    lengths = [n - len(term.replace("...", "")) for n, term in zip(ndims, terms, strict=True)]
    widest = max([n for n, term in zip(lengths, terms, strict=True) if "..." in term], default=0)
    dots = "".join(spare[:widest])
    for i, (n, term) in enumerate(zip(lengths, terms, strict=True)):
        if n < 0 or (n and "..." not in term):
            raise ValueError(f"einsum: operand {i} has {ndims[i]} axes, but {subscripts!r} names them {term!r}")
        terms[i] = term.replace("...", dots[len(dots) - n :] if n else "")
    if not arrow:
        times = Counter(inputs.replace(",", "").replace("...", ""))
        output = "..." + "".join(sorted(c for c, n in times.items() if n == 1))
    elif dots and "..." not in output:
        raise ValueError(f"einsum: {subscripts!r} has axes for '...', but the output does not")
    return terms, output.replace("...", dots)


@answers()
def einsum(subscripts: str, *operands: Array, optimize: Any = True) -> Tensor:
    """The sum of products along axes that are named by letters: `einsum("ij,jk->ik", a, b)` is `a @ b`.

    subscripts: letters for each operand's axes, separated by commas, then `->` and those of the result. Without
    `->` these are the letters that occur once, in alphabetical order. `...` stands for axes that broadcast. A
    letter that an operand has twice takes its diagonal. optimize: passed on to NumPy.
    Raises TypeError for NumPy's other form, with lists in the place of letters.
    """
    if not isinstance(subscripts, str):
        raise TypeError(f"einsum: expected the subscripts as a string, got {type(subscripts).__name__}")
    arrays = [asarray(x) for x in operands]
    terms, output = _spell_out(subscripts, [x.ndim for x in arrays])
    common = np.result_type(*[x.dtype for x in arrays])
    arrays = [x if x.dtype == common else astype(x, dtype=common) for x in arrays]
    for i, term in enumerate(terms):
        while len(set(term)) < len(term):
            c = next(c for c in term if term.count(c) > 1)
            first, second = term.index(c), term.rindex(c)
            if arrays[i].shape[first] != arrays[i].shape[second]:
                raise ValueError(
                    f"einsum: operand {i} of shape {arrays[i].shape} has no diagonal over {c!r} in {term!r}"
                )
            arrays[i] = diagonal(arrays[i], 0, first, second)
            term = term[:first] + term[first + 1 : second] + term[second + 1 :] + c
        alone = [c for c in term if c not in output and not any(c in t for j, t in enumerate(terms) if j != i)]
        if alone:
            axes = tuple(term.index(c) for c in alone)
            arrays[i] = sum(arrays[i], axis=axes, dtype=None if common.kind == "f" else common)  # which wraps around
            term = "".join(c for c in term if c not in alone)
        terms[i] = term
    return _einsum(*arrays, subscripts=f"{','.join(terms)}->{output}", optimize=optimize)
