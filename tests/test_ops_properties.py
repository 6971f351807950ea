"""Properties on random shapes and indices.

A linear map A and its gradient g ↦ Aᵀg satisfy ⟨g, Ax⟩ = ⟨Aᵀg, x⟩ for every g and x, which needs no other
implementation to check against. Where an element goes is found with an array of element numbers.
"""

from collections.abc import Callable

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_dl as tg

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
FULL = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4)


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def pull(f: Callable, *arrays: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """The value, a random gradient of it, and the gradients of the arrays."""
    tensors = [tg.tensor(a, requires_grad=True) for a in arrays]
    y = f(*tensors)
    g = normal(y.shape, 1)
    y.backward(g)
    return y.detach().numpy(), g, [t.grad.numpy() for t in tensors]


def assert_linear(f: Callable, x: np.ndarray) -> None:
    """NumPy's value, and the transpose of the map as gradient."""
    y, g, (gx,) = pull(f, x)
    np.testing.assert_array_equal(y, f(x))
    assert y.shape == np.shape(f(x))
    assert gx.shape == x.shape
    other = normal(x.shape, 2)
    np.testing.assert_allclose((g * f(other)).sum(), (gx * other).sum(), rtol=1e-10, atol=1e-12)


@st.composite
def rearrangements(draw):
    """A shape, and a function that moves, repeats or adds up elements."""
    shape = draw(SHAPES)
    n = len(shape)
    axis = st.integers(-n, n - 1) if n else st.none()
    some = st.lists(st.integers(0, n - 1), unique=True).map(tuple) if n else st.just(())
    keep, k = draw(st.booleans()), draw(st.integers(-3, 3))
    order, one, axes = draw(st.permutations(range(n))), draw(axis), draw(some)
    wide = tuple(draw(st.integers(1, 3)) for _ in range(draw(st.integers(0, 2)))) + shape
    repeats, widths = draw(st.integers(0, 2)), [(draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in shape]
    choices = [
        lambda x: np.reshape(x, -1) if x.size else np.reshape(x, x.shape[::-1]),
        lambda x: np.transpose(x, order),
        lambda x: x.T,
        lambda x: np.sum(x, axis=axes, keepdims=keep),
        lambda x: np.sum(x, axis=one, keepdims=keep),
        lambda x: np.broadcast_to(x, wide),
        lambda x: np.expand_dims(x, k % (n + 1)),
        lambda x: np.squeeze(np.expand_dims(x, 0), 0),
        lambda x: np.flip(x, axes),
        lambda x: np.roll(x, k, one),
        lambda x: np.repeat(x, repeats, one),
        lambda x: np.tile(x, (2, *wide[: len(wide) - n])),
        lambda x: np.concatenate([x.ravel(), 2 * x.ravel()]),
        lambda x: np.stack([x, 3 * x], axis=k % (n + 1)),
    ]
    if n:
        choices += [
            lambda x: np.moveaxis(x, one, 0),
            lambda x: np.swapaxes(x, one, 0),
            lambda x: np.cumsum(x, axis=one),
            lambda x: np.pad(x, widths),
            lambda x: np.concatenate([x, x], axis=one),
            lambda x: np.array_split(x, 3, axis=one)[1],
            lambda x: np.diff(x, axis=one) if x.shape[one] else x,
        ]
    if n >= 2:
        choices += [lambda x: np.tril(x, k), lambda x: np.triu(x, k), lambda x: np.diagonal(x, k % 2), np.trace]
        choices += [lambda x: np.rot90(x, k), lambda x: np.vstack([x, x])]
    return shape, draw(st.sampled_from(choices))


@settings(max_examples=300)
@given(rearrangements())
def test_what_moves_elements_is_numpys_and_its_gradient_the_transpose(case):
    shape, f = case
    assert_linear(f, normal(shape))


BINARY = {
    "add": (np.add, lambda a, b: (np.ones_like(a * b), np.ones_like(a * b))),
    "subtract": (np.subtract, lambda a, b: (np.ones_like(a * b), -np.ones_like(a * b))),
    "multiply": (np.multiply, lambda a, b: (b + 0 * a, a + 0 * b)),
    "divide": (np.divide, lambda a, b: (1 / b + 0 * a, -a / b**2)),
    "power": (np.power, lambda a, b: (b * a ** (b - 1), a**b * np.log(a))),
    "arctan2": (np.arctan2, lambda a, b: (b / (a * a + b * b), -a / (a * a + b * b))),
    "hypot": (np.hypot, lambda a, b: (a / np.hypot(a, b), b / np.hypot(a, b))),
    "logaddexp": (np.logaddexp, lambda a, b: (1 / (1 + np.exp(b - a)), 1 / (1 + np.exp(a - b)))),
    "maximum": (np.maximum, lambda a, b: ((a > b) * 1.0, (b > a) * 1.0)),
}


@settings(max_examples=200)
@given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, min_side=0, max_side=4), st.sampled_from([*BINARY]))
def test_broadcasting(shapes, name):
    f, slopes = BINARY[name]
    a, b = (np.random.default_rng(i).uniform(0.5, 2.0, shape) for i, shape in enumerate(shapes.input_shapes))
    y, g, gradients = pull(f, a, b)
    np.testing.assert_array_equal(y, f(a, b))
    for x, got, slope in zip((a, b), gradients, slopes(a, b), strict=True):
        places = np.broadcast_to(np.arange(x.size).reshape(x.shape), y.shape)
        expected = np.bincount(places.ravel(), (g * slope).ravel(), x.size).reshape(x.shape)
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


@st.composite
def indices(draw):
    shape = draw(FULL)
    integers = hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, max_side=3))
    mask = hnp.arrays(bool, shape[: draw(st.integers(1, len(shape)))])
    basic = hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True)
    mixed = st.tuples(st.lists(st.integers(-shape[0], shape[0] - 1), min_size=1, max_size=4), st.just(Ellipsis))
    return shape, draw(st.one_of(basic, integers, mask, mixed))


@settings(max_examples=300)
@given(indices())
def test_indexing(case):
    shape, index = case
    x = normal(shape)
    y, g, (gx,) = pull(lambda t: t[index], x)
    np.testing.assert_array_equal(y, x[index])
    places = np.arange(x.size).reshape(shape)[index]
    expected = np.bincount(np.ravel(places), np.ravel(g), x.size).reshape(shape)  # repeated elements add up
    np.testing.assert_allclose(gx, expected, rtol=1e-12, atol=1e-12)


@settings(max_examples=60)
@given(indices())
def test_assigning_to_a_part_keeps_the_gradient_of_the_rest(case):
    shape, index = case
    x = normal(shape)
    value = normal(np.shape(x[index]), 3)
    places = np.arange(x.size).reshape(shape)[index]
    assume(np.unique(places).size == np.size(places))
    a, v = tg.tensor(x, requires_grad=True), tg.tensor(value, requires_grad=True)
    y = a * 1
    y[index] = v
    g = normal(shape, 1)
    y.backward(g)
    expected, rest = x.copy(), g.copy()
    expected[index], rest[index] = value, 0
    np.testing.assert_array_equal(y.detach().numpy(), expected)
    np.testing.assert_array_equal(a.grad.numpy(), rest)
    np.testing.assert_array_equal(v.grad.numpy(), g[index])


@st.composite
def factors(draw):
    """Two arrays that `matmul` takes."""
    n, m, k = (draw(st.integers(0, 3)) for _ in range(3))
    batch = draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=2, max_side=3)).input_shapes
    left = draw(st.sampled_from([(k,), (*batch[0], n, k)]))
    right = draw(st.sampled_from([(k,), (*batch[1], k, m)]))
    return normal(left, 3), normal(right, 4)


def assert_bilinear(f: Callable, a: np.ndarray, b: np.ndarray) -> None:
    y, g, (ga, gb) = pull(f, a, b)
    np.testing.assert_allclose(y, f(a, b), rtol=1e-12, atol=1e-12)
    da, db = normal(a.shape, 5), normal(b.shape, 6)
    assert (ga.shape, gb.shape) == (a.shape, b.shape)
    np.testing.assert_allclose((g * f(da, b)).sum(), (ga * da).sum(), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose((g * f(a, db)).sum(), (gb * db).sum(), rtol=1e-9, atol=1e-10)


@settings(max_examples=150)
@given(factors())
def test_matmul(pair):
    assert_bilinear(np.matmul, *pair)


@st.composite
def contractions(draw):
    """Subscripts of `einsum` for two arrays, repeated, missing and summed letters among them, and the arrays."""
    sizes = {letter: draw(st.integers(1, 3)) for letter in "ijkl"}
    a, b = ("".join(draw(st.lists(st.sampled_from("ijkl"), max_size=3))) for _ in range(2))
    out = "".join(draw(st.permutations(sorted(set(a + b)))))[: draw(st.integers(0, 4))]
    arrays = [normal([sizes[letter] for letter in word], i) for i, word in enumerate((a, b))]
    return f"{a},{b}->{out}", arrays


@settings(max_examples=150)
@given(contractions())
def test_einsum(case):
    subscripts, arrays = case
    assert_bilinear(lambda a, b: np.einsum(subscripts, a, b), *arrays)
