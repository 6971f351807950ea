"""Random shapes, axes and subscripts: values are NumPy's, gradients those of the definition, and what NumPy refuses
is refused."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_dl as tg
from tinygrad_dl import ops

ERRORS = (ValueError, IndexError, TypeError, ZeroDivisionError)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
FULL = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=3)


def distinct(shape, seed=0):
    """Positive numbers, no two closer than 0.03."""
    n = math.prod(shape)
    return np.asarray(0.3 + np.random.default_rng(seed).permutation(n).reshape(shape) / max(n, 20))


def listed(result):
    return list(result) if isinstance(result, list | tuple) else [result]


def reverse(f, arrays):
    """Outputs, weights for them, and the gradient of the weighted sum of the outputs in each array."""
    xs = [tg.tensor(a, requires_grad=True) for a in arrays]
    ys = listed(f(*xs))
    ws = [np.asarray(1 + np.random.default_rng(i).random(y.shape)) for i, y in enumerate(ys)]
    gs = tg.gradients(ys, xs, ws, allow_unused=True)
    return ys, ws, [np.zeros(a.shape) if g is None else g.numpy() for a, g in zip(arrays, gs, strict=True)]


def differences(f, arrays, ws, step):
    """The same gradients by central differences of NumPy's values."""

    def total(changed):
        return sum(np.vdot(w, y) for w, y in zip(ws, listed(f(*changed)), strict=True))

    slopes = [np.zeros(a.shape) for a in arrays]
    for k, a in enumerate(arrays):
        for i in np.ndindex(a.shape):
            ends = []
            for by in (step, -step):
                moved = a.copy()
                moved[i] += by
                ends.append(total([*arrays[:k], moved, *arrays[k + 1 :]]))
            slopes[k][i] = (ends[0] - ends[1]) / (2 * step)
    return slopes


def check(f, *arrays, reference=None, linear=False):
    """Values are the reference's, by default NumPy's, gradients its differences; it raises where the reference does.

    linear: in each array. Then differences have no error of truncation, and the step may be large."""
    reference = reference or f
    try:
        expected = listed(reference(*arrays))
    except ERRORS:
        with pytest.raises(ERRORS):
            f(*[tg.tensor(a, requires_grad=True) for a in arrays])
        return
    ys, ws, gs = reverse(f, arrays)
    for y, e in zip(ys, expected, strict=True):
        assert (y.shape, y.dtype) == (np.shape(e), np.float64)
        np.testing.assert_allclose(y.data, e, rtol=1e-13, atol=1e-14)
    tolerance = 1e-12 if linear else 2e-6
    for g, slope in zip(gs, differences(reference, arrays, ws, 1.0 if linear else 1e-6), strict=True):
        np.testing.assert_allclose(g, slope, rtol=tolerance, atol=tolerance)


# what moves, repeats and adds up elements: `(draw, shape) -> function`

number = st.integers(-4, 4)
flag = st.booleans()


def one_axis(shape):
    return st.integers(-len(shape), len(shape) - 1) if shape else st.none()


def some_axes(shape, **limits):
    """None, an axis, or several, counted from either end."""
    n = len(shape)
    several = st.lists(st.sampled_from(range(n)), unique=True, **limits) if n else st.just([])
    mixed = several.flatmap(lambda axes: st.tuples(*[st.sampled_from([a, a - n]) for a in axes]))
    return st.none() | mixed | one_axis(shape)


def reshape(draw, shape):
    new = list(draw(st.permutations([*shape, 1])))
    if draw(flag):
        new[draw(st.integers(0, len(new) - 1))] = -1
    return lambda x: np.reshape(x, tuple(new))


def transpose(draw, shape):
    axes = draw(st.none() | st.permutations(range(len(shape))))
    return lambda x: np.transpose(x, axes)


def moveaxis(draw, shape):
    n = draw(st.integers(0, len(shape)))
    source, target = (tuple(draw(st.permutations(range(-len(shape), 0))))[:n] for _ in range(2))
    return lambda x: np.moveaxis(x, source, target)


def squeeze(draw, shape):
    axes = draw(some_axes(shape))
    return lambda x: np.squeeze(x, axes)


def expand_dims(draw, shape):
    axes = draw(st.integers(-1, 0) | st.sampled_from([(0, 1), (0, -1), (-2, -1)]))
    return lambda x: np.expand_dims(x, axes)


def broadcast_to(draw, shape):
    target = (*draw(SHAPES), *[draw(st.integers(0, 3)) if n == 1 else n for n in shape])
    return lambda x: np.broadcast_to(x, target)


def tile(draw, shape):
    reps = draw(st.integers(0, 3) | st.lists(st.integers(0, 2), max_size=4).map(tuple))
    return lambda x: np.tile(x, reps)


def repeat(draw, shape):
    axis = draw(st.none() | one_axis(shape))
    n = math.prod(shape) if axis is None else shape[axis]
    counts = draw(st.integers(0, 3) | st.lists(st.integers(0, 2), min_size=max(n, 1), max_size=max(n, 1)))
    return lambda x: np.repeat(x, counts, axis)


def flip(draw, shape):
    axes = draw(some_axes(shape))
    return lambda x: np.flip(x, axes)


def roll(draw, shape):
    axes = draw(some_axes(shape, min_size=1)) or None
    shift = draw(st.tuples(*[number] * len(axes)) if isinstance(axes, tuple) else number)
    return lambda x: np.roll(x, shift, axes)


def pad(draw, shape):
    mode = draw(st.sampled_from(["constant", "edge", "reflect", "symmetric", "wrap"]))
    pair = st.tuples(st.integers(0, 4), st.integers(0, 4))
    width = draw(st.integers(0, 3) | pair | st.tuples(*[pair] * len(shape)))
    return lambda x: np.pad(x, width, mode)


def split(draw, shape):
    cut = draw(st.integers(1, 4) | st.lists(number, max_size=3))
    axis, f = draw(one_axis(shape)), draw(st.sampled_from([np.split, np.array_split]))
    return lambda x: f(x, cut, axis)


def rot90(draw, shape):
    k, axes = draw(number), draw(st.tuples(one_axis(shape), one_axis(shape)))
    return lambda x: np.rot90(x, k, axes)


def triangle(draw, shape):
    k, f = draw(number), draw(st.sampled_from([np.tril, np.triu]))
    return lambda x: f(x, k)


def diagonal(draw, shape):
    k, axes = draw(number), draw(st.tuples(one_axis(shape), one_axis(shape)))
    f = draw(st.sampled_from([np.diagonal, np.trace]))
    return lambda x: f(x, k, *axes)


def cumsum(draw, shape):
    axis = draw(st.none() | one_axis(shape))
    return lambda x: np.cumsum(x, axis)


def diff(draw, shape):
    n, axis = draw(st.integers(1, 3)), draw(one_axis(shape) if shape else st.just(-1))
    return lambda x: np.diff(x, n, axis)


def total(draw, shape):
    f, axes, keepdims = draw(st.sampled_from([np.sum, np.mean])), draw(some_axes(shape)), draw(flag)
    return lambda x: f(x, axis=axes, keepdims=keepdims)


def take(draw, shape):
    axis = draw(st.none() | one_axis(shape))
    indices = draw(hnp.arrays(int, SHAPES, elements=st.integers(-3, 2)))
    assume(math.prod(shape) or not indices.size)  # NumPy does not look at indices into what is empty in other axes
    return lambda x: np.take(x, indices, axis)


LINEAR = [
    reshape, transpose, moveaxis, squeeze, expand_dims, broadcast_to, tile, repeat, flip, roll, pad, split, rot90,
    triangle, diagonal, cumsum, diff, total, take,
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:(Mean of empty|invalid value|divide by zero)")  # NumPy's, for means of nothing
@pytest.mark.parametrize("form", LINEAR, ids=lambda form: form.__name__)
@settings(max_examples=40)
@given(data=st.data())
def test_linear_maps(form, data):
    shape = data.draw(SHAPES)
    check(form(data.draw, shape), distinct(shape), linear=True)


@settings(max_examples=60)
@given(data=st.data())
def test_joins(data):
    shape = data.draw(SHAPES)
    other = list(shape)
    if shape:
        other[data.draw(one_axis(shape))] = data.draw(st.integers(0, 3))
    f, axis = data.draw(st.sampled_from([np.concatenate, np.stack])), data.draw(one_axis((*shape, 1)))
    check(lambda x, y: f([x, y, x], axis), distinct(shape), distinct(other, 1), linear=True)


# reductions that are not linear

REDUCTIONS = {
    **{f.__name__: f for f in (np.max, np.min, np.prod, np.ptp, np.median, np.var, np.std)},
    "logsumexp": ops.logsumexp,
    "quantile": lambda x, **over: np.quantile(x, 0.3, **over),
    "var, ddof 0.5": lambda x, **over: np.var(x, ddof=0.5, **over),
    "average": lambda x, **over: np.average(x, weights=x * x, **over),
    "norm 3": lambda x, **over: np.linalg.vector_norm(x, ord=3, **over),
}
REFERENCES = {"logsumexp": lambda x, **over: np.log(np.sum(np.exp(x), **over))}


@pytest.mark.parametrize("name", REDUCTIONS)
@settings(max_examples=25)
@given(data=st.data())
def test_reductions(name, data):
    shape = data.draw(FULL)
    axis = data.draw(some_axes(shape, min_size=1))
    if name == "average":
        assume(not isinstance(axis, tuple))
    if name == "std":  # of one element it has no difference quotient
        assume(math.prod(shape if axis is None else [shape[a] for a in np.atleast_1d(axis)]) > 1)
    over = {"axis": axis, "keepdims": data.draw(flag)}
    reference = REFERENCES.get(name, REDUCTIONS[name])
    array = distinct(shape, data.draw(st.integers(0, 99)))
    check(lambda x: REDUCTIONS[name](x, **over), array, reference=lambda x: reference(x, **over))


# subscripts


@st.composite
def mixed_subscripts(draw, shape):
    """Integers, slices of either direction, masks and integer arrays, with new axes and an ellipsis anywhere."""
    sides = draw(hnp.mutually_broadcastable_shapes(num_shapes=max(len(shape), 1), max_dims=2, max_side=3))
    index = []
    for n, side in zip(shape, sides.input_shapes, strict=False):
        choices = [hnp.basic_indices((n,), min_dims=0, allow_ellipsis=False), hnp.arrays(bool, n)]
        if n:
            place = st.integers(-n, n - 1)
            choices += [hnp.arrays(int, side, elements=place), st.lists(place, min_size=1, max_size=3)]
        entry = draw(st.one_of(choices))
        index += entry if isinstance(entry, tuple) else [entry]
    for extra in draw(st.sampled_from([[], [None], [...], [None, ...]])):
        index.insert(draw(st.integers(0, len(index))), extra)
    return tuple(index)


@st.composite
def arrays_with_subscripts(draw):
    """An array, and a subscript that NumPy takes."""
    array = distinct(draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)))
    index = draw(mixed_subscripts(array.shape))
    try:
        array[index]
    except IndexError:  # index arrays that do not broadcast
        with pytest.raises(IndexError):
            tg.tensor(array)[index]
        assume(False)
    return array, index


def as_tensors(index):
    return tuple(tg.tensor(i) if isinstance(i, np.ndarray) else i for i in index)


@settings(max_examples=150)
@given(arrays_with_subscripts(), flag)
def test_mixed_indexing(pair, with_tensors):
    array, index = pair
    (y,), (w,), (g,) = reverse(lambda x: x[as_tensors(index) if with_tensors else index], [array])
    np.testing.assert_array_equal(y.data, array[index])
    origin = np.arange(array.size).reshape(array.shape)[index]
    gradient = np.zeros(array.size)
    for place, value in zip(np.ravel(origin), np.ravel(w), strict=True):
        gradient[place] += value
    np.testing.assert_allclose(g, gradient.reshape(array.shape), rtol=1e-14)


@settings(max_examples=150)
@given(arrays_with_subscripts(), st.data())
def test_mixed_writing(pair, data):
    array, index = pair
    origin = np.asarray(np.arange(array.size).reshape(array.shape)[index])
    assume(np.unique(origin).size == origin.size)
    value = distinct([n if data.draw(flag) else 1 for n in origin.shape], 1)
    changed = array.copy()
    changed[index] = value
    (y,), (w,), (to_array, to_value) = reverse(lambda x, v: ops.setitem(x, index, v), [array, value])
    np.testing.assert_array_equal(y.data, changed)
    kept = w.copy()
    kept[index] = 0
    np.testing.assert_array_equal(to_array, kept)
    stretched = tuple(i for i, n in enumerate(value.shape) if n != origin.shape[i])
    np.testing.assert_allclose(to_value, np.sum(w[index], axis=stretched, keepdims=True), rtol=1e-14)


# products


@pytest.mark.parametrize("name", ["matmul", "dot", "inner", "outer", "vdot", "kron", "matvec", "vecmat"])
@settings(max_examples=40)
@given(data=st.data())
def test_products(name, data):
    f = getattr(np, name, None) or pytest.skip(f"this NumPy has no {name}")
    first, second = data.draw(SHAPES), data.draw(SHAPES)
    if data.draw(flag):  # else most would not fit
        second = first if name == "inner" else first[::-1]
    check(f, distinct(first), distinct(second, 1))


@settings(max_examples=40)
@given(st.data())
def test_tensordot(data):
    left, right = data.draw(st.permutations("ijk")), data.draw(st.permutations("jkl"))
    sizes = dict(zip("ijkl", data.draw(st.tuples(*[st.integers(0, 3)] * 4)), strict=True))
    axes = [left.index("j"), left.index("k")], [right.index("j") - 3, right.index("k") - 3]
    check(lambda a, b: np.tensordot(a, b, axes), *[distinct([sizes[c] for c in term]) for term in (left, right)])


@settings(max_examples=120)
@given(st.data())
def test_einsum_of_several_with_ellipses(data):
    sizes = dict(zip("abcd", data.draw(st.tuples(*[st.integers(1, 3)] * 4)), strict=True))
    terms = data.draw(st.lists(st.text("abcd", max_size=3), min_size=1, max_size=3))
    dots = [data.draw(st.sampled_from(["", "..."])) for _ in terms]
    text = ",".join(d + term for d, term in zip(dots, terms, strict=True))
    if data.draw(flag):
        output = data.draw(st.permutations(sorted(set("".join(terms)))))[: data.draw(st.integers(0, 3))]
        text += "->" + "..." * any(dots) + "".join(output)
    wide = [[data.draw(st.integers(1, 2))] if d else [] for d in dots]
    arrays = [distinct([*w, *[sizes[c] for c in t]], i) for i, (w, t) in enumerate(zip(wide, terms, strict=True))]
    check(lambda *xs: np.einsum(text, *xs), *arrays)
