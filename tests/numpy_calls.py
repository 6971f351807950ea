"""How to call each of NumPy's functions that answers on Tensors."""

from types import SimpleNamespace

import numpy as np


def resolve(name):
    place = np
    for part in name.split("."):
        place = getattr(place, part, None)
    return place


# How to call NumPy's functions: `v`, `m`, `c` are a vector, a matrix and a cube, `i` indices, `k` a matrix of small
# integers, `b` a mask, `s` a positive definite matrix.
CALLS = [
    (lambda f, x: f(x.m), """
        sum mean prod max min amax amin ptp var std median average cov corrcoef any all argmax argmin nanargmax
        nanargmin nanmax nanmin nansum nanprod nanmean nanvar nanstd nancumsum nancumprod cumsum cumprod count_nonzero
        ravel transpose flip fliplr flipud rot90 squeeze atleast_1d atleast_2d atleast_3d unstack matrix_transpose
        diagonal diag diagflat trace tril triu diff ediff1d trapezoid sort argsort unique unique_values nonzero
        flatnonzero argwhere diag_indices_from tril_indices_from triu_indices_from copy zeros_like ones_like empty_like
        sinc nan_to_num round around fix real imag real_if_close isreal iscomplex isposinf isneginf linalg.norm
        linalg.matrix_norm linalg.vector_norm linalg.inv linalg.det linalg.slogdet linalg.diagonal linalg.trace
        linalg.matrix_transpose shape ndim size iscomplexobj isrealobj common_type min_scalar_type result_type
        array_str array_repr array2string"""),
    (lambda f, x: f(x.m, x.m), """
        dot inner outer vdot tensordot kron append isclose isin meshgrid broadcast_arrays linalg.matmul linalg.solve
        linalg.tensordot linalg.vecdot allclose array_equal array_equiv may_share_memory shares_memory cross
        linalg.cross"""),
    (lambda f, x: f(x.v, x.v), "convolve correlate linalg.outer polyval"),
    (lambda f, x: f([x.m, x.m]), "concatenate concat stack vstack hstack dstack column_stack block linalg.multi_dot"),
    (lambda f, x: f(x.m, 3), "hsplit vsplit split array_split pad tile repeat roll resize linspace"),
    (lambda f, x: f(x.m, -2), "linalg.matrix_power"),
    (lambda f, x: f(x.m, 0), "expand_dims partition argpartition rollaxis delete take"),
    (lambda f, x: f(x.m, 0, 1), "moveaxis swapaxes clip"),
    (lambda f, x: f(x.m, 0.5), "full_like quantile percentile"),
    (lambda f, x: f(x.m, (9,)), "reshape"),
    (lambda f, x: f(x.m, axis=0), "cumulative_sum cumulative_prod"),
    (lambda f, x: f(x.m, (1, 0)), "permute_dims"),
    (lambda f, x: f(x.m, (2, 3, 3)), "broadcast_to"),
    (lambda f, x: f(x.m, "float32"), "astype can_cast"),
    (lambda f, x: f(x.m, x.k, 0), "take_along_axis"),
    (lambda f, x: f(x.m > 0.5, x.m), "extract"),
    (lambda f, x: f(x.m > 0.5, x.m, 0), "where"),
    (lambda f, x: f([x.m > 0.5], [x.m]), "select"),
    (lambda f, x: f(x.b, x.m, 0), "compress"),
    (lambda f, x: f(x.k, [x.m, x.m, x.m]), "choose"),
    (lambda f, x: f(x.v), "vander"),
    (lambda f, x: f(x.i), "bincount"),
    (lambda f, x: f(x.i, (2, 2)), "unravel_index"),
    (lambda f, x: f(x.v, x.m), "searchsorted"),
    (lambda f, x: f(x.m, x.v), "digitize"),
    (lambda f, x: f(x.m, x.v, x.v), "interp"),
    (lambda f, x: f(x.c, 2), "dsplit"),
    (lambda f, x: f("ij,jk", x.m, x.m), "einsum"),
    (lambda f, x: f(x.s), "linalg.cholesky"),
]  # fmt: skip
INTEGER = {"gcd", "lcm", "bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_count", "invert", "left_shift",
           "right_shift"}  # fmt: skip


def samples(of=lambda a: a):
    m = np.linspace(0.1, 0.9, 9).reshape(3, 3) ** 1.5
    arrays = {
        "v": np.array([0.2, 0.3, 0.7]),
        "m": m,
        "c": np.stack([m, m], -1),
        "i": np.array([2, 0, 2]),
        "k": np.array([[0, 2, 1], [1, 1, 0], [2, 0, 2]]),
        "b": np.array([True, False, True]),
        "s": m @ m.T + np.eye(3),
    }
    return SimpleNamespace(**{name: of(a) for name, a in arrays.items()})


RECIPES = {resolve(name): call for call, names in CALLS for name in names.split()}
RECIPES.pop(None, None)  # names that this version of NumPy lacks


def call(f, x):
    """One call of a function that answers, on Tensors or on arrays."""
    with np.errstate(all="ignore"):
        if not isinstance(f, np.ufunc):
            return RECIPES[f](f, x)
        args = [x.k if f.__name__ in INTEGER else x.m] * f.nin
        if f.__name__ == "ldexp":
            args[1] = x.k
        return f(x.m, x.v) if f.__name__ == "matvec" else f(x.v, x.m) if f.__name__ == "vecmat" else f(*args)
