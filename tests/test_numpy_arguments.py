"""What NumPy's functions take beside Tensors: keywords, `out`, methods of ufuncs, and arrays."""

import numpy as np
import pytest
from numpy_calls import samples

import tinygrad_dl as tg

# what NumPy's functions take beside arrays


@pytest.mark.parametrize(
    ("f", "key"),
    [(np.matmul, "out")]
    + [(f, key) for f in (np.add, np.exp) for key in ("out", "where", "dtype", "casting", "subok")],
)
def test_keywords_of_ufuncs_raise_by_name(f, key):
    m = samples(tg.tensor).m
    value = {"out": np.empty((3, 3)), "where": np.full((3, 3), True), "dtype": "f4", "casting": "no", "subok": False}
    with pytest.raises(TypeError, match=rf"{f.__name__}.*{key}="):
        f(*[m] * f.nin, **{key: value[key]})


def test_out_of_tensors_and_inplace_on_arrays_raise_by_name():
    m, a = samples(tg.tensor).m, samples().m.copy()
    with pytest.raises(TypeError, match=r"add.*out="):
        np.add(a, a, out=m)
    with pytest.raises(TypeError, match=r"multiply.*out="):
        a *= m
    np.testing.assert_array_equal(a, samples().m)


@pytest.mark.parametrize(("f", "name"), [(np.sum, "sum"), (np.mean, "mean"), (np.max, "max"), (np.std, "std")])
@pytest.mark.parametrize("key", ["out", "where", "initial"])
def test_keywords_of_reductions_raise_by_name(f, name, key):
    m = samples(tg.tensor).m
    with pytest.raises(TypeError, match=key) as caught:
        f(m, **{key: {"out": np.empty(()), "where": np.full((3, 3), True), "initial": 0.0}[key]})
    assert name in str(caught.value)


@pytest.mark.parametrize("f", [np.concatenate, np.stack])
def test_out_of_joins_raises_by_name(f):
    m = samples(tg.tensor).m
    with pytest.raises(TypeError, match=f.__name__):
        f([m, m], out=np.empty((6, 3)))


@pytest.mark.parametrize(
    ("method", "use"),
    [
        (lambda t: np.add.reduce(t), "np.sum"),
        (lambda t: np.multiply.reduce(t), "np.prod"),
        (lambda t: np.maximum.reduce(t), "np.max"),
        (lambda t: np.minimum.reduce(t), "np.min"),
        (lambda t: np.subtract.reduce(t), "numpy()"),
        (lambda t: np.add.accumulate(t), ""),
        (lambda t: np.add.outer(t, t), ""),
        (lambda t: np.add.reduceat(t, [0, 1]), ""),
        (lambda t: np.add.at(t, [0], 1.0), "use tg.scatter_add("),
        (lambda t: np.add.at(np.zeros(3), [0, 1, 2], t), "use tg.scatter_add("),
    ],
)
def test_ufunc_methods_raise_by_name(method, use):
    with pytest.raises(TypeError, match=r"np\.\w+\.(reduce|accumulate|outer|reduceat|at) is not supported") as caught:
        method(samples(tg.tensor).v)
    assert use in str(caught.value)


# arrays and Tensors together


def test_conversion_to_arrays():
    v = np.array([1.0, 2.0])
    t = tg.tensor(v)
    np.testing.assert_array_equal(np.asarray(t), v)
    assert not np.asarray(t).flags.writeable
    assert np.asarray(t, dtype=np.float32).dtype == np.float32
    copied = np.array(t)
    copied[0] = 9
    np.testing.assert_array_equal(t.data, v)


@pytest.mark.parametrize("convert", [np.asarray, np.array, np.ascontiguousarray, lambda t: np.array([t, t])])
def test_conversion_of_what_requires_grad_raises(convert):
    leaf = tg.tensor([1.0, 2.0], requires_grad=True)
    for t in (leaf, leaf * 2):
        with pytest.raises((RuntimeError, TypeError), match=r"\.detach\(\)\.numpy\(\)"):
            convert(t)


MIXED = {
    "scalar * t": (lambda a, t: np.float32(2) * t, 2.0),
    "float64 scalar + t": (lambda a, t: np.float64(2) + t, 1.0),
    "array * t": (lambda a, t: a * t, lambda a: a),
    "array - t": (lambda a, t: a - t, -1.0),
    "array @ t": (lambda a, t: a @ t, lambda a: a.T @ np.ones((3, 3))),
    "t @ array": (lambda a, t: t @ a, lambda a: np.ones((3, 3)) @ a.T),
    "concatenate": (lambda a, t: np.concatenate([t, a]), 1.0),
    "concatenate from the array": (lambda a, t: np.concatenate([a, t], axis=1), 1.0),
    "stack": (lambda a, t: np.stack([a, t, t]), 2.0),
    "where": (lambda a, t: np.where(a > 0.4, t, 0), lambda a: (a > 0.4) * 1.0),
    "maximum": (lambda a, t: np.maximum(0.4, t), lambda a: (a > 0.4) * 1.0),
}


@pytest.mark.parametrize("case", MIXED)
def test_arrays_and_tensors_mix_and_record(case):
    f, slope = MIXED[case]
    a = samples().m
    t = tg.tensor(a, requires_grad=True)
    y = f(a, t)
    assert type(y) is tg.Tensor
    assert y.requires_grad
    np.testing.assert_array_equal(y.data, f(a, a))
    y.backward(np.ones(y.shape))
    np.testing.assert_allclose(t.grad.numpy(), np.broadcast_to(slope(a) if callable(slope) else slope, a.shape))


def test_comparisons_with_arrays_are_tensors():
    a = samples().m
    for result in (a < tg.tensor(a), a == tg.tensor(a), np.float64(0.3) >= tg.tensor(a)):
        assert type(result) is tg.Tensor
        assert result.dtype == bool
