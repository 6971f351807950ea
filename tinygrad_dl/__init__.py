"""Write NumPy; the library can run it, differentiate it, draw it, check it, explain it and compile it."""

# ruff: noqa: I001
# fmt: off
from ._tensor import Tensor as Tensor, tensor as tensor
from .scope import enable_grad as enable_grad, no_grad as no_grad
from .transforms import (
    grad as grad, gradients as gradients, hessian as hessian, hvp as hvp, jacobian as jacobian, jvp as jvp,
    value_and_grad as value_and_grad, vjp as vjp,
)
from .checkpointing import checkpoint as checkpoint
from .primitive import primitive as primitive
from .fused import fused as fused
from .checking import GradcheckError as GradcheckError, gradcheck as gradcheck
from .compiler import Compiled as Compiled, compile as compile
from .drawing import Drawing as Drawing, draw as draw
from .insight import check_graph as check_graph, detect_nan as detect_nan, doctor as doctor, why as why
from .files import load as load, save as save
from .random import seed as seed
from . import data as data, nn as nn, optim as optim, random as random, train as train, tune as tune

# NumPy's functions, each the object that np.f(tensor) reaches
from .ops import (  # arithmetic
    add as add, subtract as subtract, multiply as multiply, divide as divide, negative as negative,
    positive as positive, conjugate as conjugate, reciprocal as reciprocal, remainder as remainder, mod as mod,
    fmod as fmod, floor_divide as floor_divide,
)
from .ops import (  # powers, roots, exponentials, logarithms
    power as power, pow as pow, float_power as float_power, square as square, sqrt as sqrt, cbrt as cbrt, exp as exp,
    exp2 as exp2, expm1 as expm1, log as log, log2 as log2, log10 as log10, log1p as log1p, logaddexp as logaddexp,
    logaddexp2 as logaddexp2, ldexp as ldexp,
)
from .ops import (  # trigonometric, hyperbolic
    sin as sin, cos as cos, tan as tan, arcsin as arcsin, arccos as arccos, arctan as arctan, arctan2 as arctan2,
    hypot as hypot, sinh as sinh, cosh as cosh, tanh as tanh, arcsinh as arcsinh, arccosh as arccosh,
    arctanh as arctanh, deg2rad as deg2rad, radians as radians, rad2deg as rad2deg, degrees as degrees,
)
from .ops import (  # magnitude, sign, extremes, rounding
    absolute as absolute, abs as abs, fabs as fabs, sign as sign, copysign as copysign, heaviside as heaviside,
    nextafter as nextafter, maximum as maximum, minimum as minimum, fmax as fmax, fmin as fmin, floor as floor,
    ceil as ceil, trunc as trunc, rint as rint, round as round, fix as fix, divmod as divmod, modf as modf,
    frexp as frexp, real as real, real_if_close as real_if_close, imag as imag,
)
from .ops import (  # choice
    where as where, clip as clip, select as select, choose as choose, nan_to_num as nan_to_num,
)
from .ops import (  # functions of one variable
    sinc as sinc, polyval as polyval, vander as vander, interp as interp, convolve as convolve,
    correlate as correlate,
)
from .ops import (  # reductions
    sum as sum, mean as mean, prod as prod, max as max, min as min, ptp as ptp, logsumexp as logsumexp, var as var,
    std as std, average as average, median as median, quantile as quantile, percentile as percentile, cov as cov,
    corrcoef as corrcoef, nansum as nansum, nanprod as nanprod, nancumsum as nancumsum, nancumprod as nancumprod,
    nanmean as nanmean, nanvar as nanvar, nanstd as nanstd, nanmax as nanmax, nanmin as nanmin,
)
from .ops import (  # along an axis
    cumsum as cumsum, cumprod as cumprod, cumulative_sum as cumulative_sum, cumulative_prod as cumulative_prod,
    diff as diff, ediff1d as ediff1d, trapezoid as trapezoid,
)
from .ops import (  # shapes
    broadcast_to as broadcast_to, reshape as reshape, transpose as transpose, flip as flip, ravel as ravel,
    swapaxes as swapaxes, matrix_transpose as matrix_transpose, moveaxis as moveaxis, rollaxis as rollaxis,
    expand_dims as expand_dims, squeeze as squeeze, atleast_1d as atleast_1d, atleast_2d as atleast_2d,
    atleast_3d as atleast_3d, broadcast_arrays as broadcast_arrays, meshgrid as meshgrid, rot90 as rot90,
    fliplr as fliplr, flipud as flipud,
)
from .ops import (  # joining and cutting
    concatenate as concatenate, concat as concat, stack as stack, vstack as vstack, hstack as hstack,
    dstack as dstack, column_stack as column_stack, append as append, block as block, array_split as array_split,
    split as split, hsplit as hsplit, vsplit as vsplit, dsplit as dsplit, unstack as unstack, pad as pad,
    tile as tile, repeat as repeat, roll as roll, resize as resize,
)
from .ops import (  # parts
    getitem as getitem, setitem as setitem, scatter_add as scatter_add, take as take,
    take_along_axis as take_along_axis, compress as compress, extract as extract, delete as delete,
    nonzero as nonzero, flatnonzero as flatnonzero, argwhere as argwhere, unravel_index as unravel_index,
    diagonal as diagonal, trace as trace, diag as diag, diagflat as diagflat, tril as tril, triu as triu,
    diag_indices_from as diag_indices_from, tril_indices_from as tril_indices_from,
    triu_indices_from as triu_indices_from,
)
from .ops import (  # order
    sort as sort, partition as partition, argsort as argsort, argpartition as argpartition, argmax as argmax,
    argmin as argmin, nanargmax as nanargmax, nanargmin as nanargmin, searchsorted as searchsorted,
    digitize as digitize, bincount as bincount, unique as unique, unique_values as unique_values,
)
from .ops import (  # products
    matmul as matmul, dot as dot, inner as inner, outer as outer, vdot as vdot, vecdot as vecdot, matvec as matvec,
    vecmat as vecmat, tensordot as tensordot, kron as kron, cross as cross, einsum as einsum,
)
from .ops import (  # conversions, arrays like others
    astype as astype, copy as copy, zeros_like as zeros_like, ones_like as ones_like, empty_like as empty_like,
    full_like as full_like, linspace as linspace,
)
from .ops import (  # comparisons, logic, bits: no gradient
    equal as equal, not_equal as not_equal, less as less, less_equal as less_equal, greater as greater,
    greater_equal as greater_equal, isclose as isclose, isin as isin, logical_and as logical_and,
    logical_or as logical_or, logical_xor as logical_xor, logical_not as logical_not, any as any, all as all,
    count_nonzero as count_nonzero, bitwise_and as bitwise_and, bitwise_or as bitwise_or, bitwise_xor as bitwise_xor,
    invert as invert, left_shift as left_shift, right_shift as right_shift, gcd as gcd, lcm as lcm,
    bitwise_count as bitwise_count, isfinite as isfinite, isinf as isinf, isnan as isnan, isposinf as isposinf,
    isneginf as isneginf, isreal as isreal, iscomplex as iscomplex, signbit as signbit,
)

__version__ = "0.1.0"
