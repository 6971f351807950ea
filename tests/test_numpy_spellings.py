"""Calls as PyTorch or NumPy alone has them: they are answered, or told what is right."""

import numpy as np
import pytest

import tinygrad_dl as tg


@pytest.mark.parametrize(
    ("call", "right"),
    [
        (lambda t: tg.sum(t, dim=0), "axis"),
        (lambda t: tg.mean(t, axis=0, keepdim=True), "keepdims"),
        (lambda t: tg.flip(t, dims=0), "axis"),
        (lambda t: tg.var(t, dim=0), "axis"),
        (lambda t: t.sum(dim=0), "axis"),
        (lambda t: t.std(0, keepdim=True), "keepdims"),
        (lambda t: tg.nn.functional.softmax(t, dim=0), "axis"),
    ],
)
def test_keywords_of_pytorch_name_the_right_one(call, right):
    with pytest.raises(TypeError, match=rf"\b{right}\b"):
        call(tg.tensor([[1.0, 2.0]]))


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("unsqueeze", "np.expand_dims"),
        ("view", "reshape"),
        ("permute", "transpose"),
        ("cat", "np.concatenate"),
        ("gather", "np.take_along_axis"),
        ("clone", "copy"),
        ("numel", "size"),
        ("float", "astype"),
        ("zero_", "assign"),
        ("cuda", "main memory"),
        ("exp", r"np\.exp"),
    ],
)
def test_attributes_of_pytorch_name_the_right_one(name, right):
    with pytest.raises(AttributeError, match=right):
        getattr(tg.tensor([1.0]), name)


def test_keywords_of_ufuncs_that_ours_has():
    a, b = np.random.default_rng(0).normal(size=(3, 4)), np.random.default_rng(0).normal(size=(3, 4))
    np.testing.assert_allclose(np.vecdot(tg.tensor(a), b, axis=0), np.vecdot(a, b, axis=0))


@pytest.mark.parametrize(
    "call",
    [
        lambda t: np.sum(t, where=np.ones(3, bool)),
        lambda t: np.max(t, initial=0.0),
        lambda t: np.sum(t, out=np.empty(())),
        lambda t: np.reshape(t, (3, 1), order="F"),
    ],
)
def test_keywords_that_only_numpy_has_are_named(call):
    with pytest.raises(TypeError, match=r"np\.\w+: \w+= is not supported on Tensors, only .*; use the result"):
        call(tg.tensor([1.0, 2.0, 3.0]))


def test_an_array_that_a_tensor_is_added_to_in_place_is_told_what_to_write():
    array = np.ones(3)
    with pytest.raises(TypeError, match=r"np\.add: out= is not supported on Tensors; use .* write array = array \+ t"):
        array += tg.tensor([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(array, np.ones(3))


@pytest.mark.parametrize(
    "call",
    [
        lambda t, k: np.stack([t, t], axis=k),
        lambda t, k: np.expand_dims(t, k),
        lambda t, k: np.flip(t, k),
        lambda t, k: np.split(t, k + 1),
        lambda t, k: np.array_split(t, k + 2),
        lambda t, k: np.tile(t, k + 1),
        lambda t, k: np.resize(t, k + 5),
        lambda t, k: np.tensordot(t, t.T, k),
        lambda t, k: np.broadcast_to(t[0, 0], k + 1),
        lambda t, k: np.take(t, [True, False, True]),
    ],
)
def test_numpys_integers_are_integers(call):
    array, k = np.random.default_rng(0).normal(size=(2, 4)), np.argmax([0, 1])
    results, wanted = call(tg.tensor(array), k), call(array, k)
    for ours, theirs in zip(results, wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "call",
    [
        lambda t: np.where(t > 1, t),
        lambda t: np.array_split(t, 0),
        lambda t: np.array_split(t, -1),
        lambda t: np.resize(t, -1),
        lambda t: np.diff(t, -1),
        lambda t: np.array(t, dtype=np.float32, copy=False),
    ],
)
def test_what_numpy_refuses_is_refused(call):
    array = np.array([1.0, 2.0, 3.0])
    for x in (array, tg.tensor(array)):
        with pytest.raises(ValueError):  # noqa: PT011
            call(x)


def test_results_of_python_objects_do_not_lose_the_gradient():
    w = tg.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(TypeError, match=r"multiply: the result is of object, .* compute with numbers"):
        w * np.array([1.0, 2.0], object)


def test_the_dtype_of_a_list_is_that_of_its_arrays():
    single, double = tg.tensor(2.0), tg.tensor(np.float64(2.0))
    assert tg.tensor([single, 3.0]).dtype == tg.tensor([[single], [np.float16(1)]]).dtype == np.float32
    assert tg.tensor([double, 3.0]).dtype == tg.tensor([np.arange(2), [0.5, 1]]).dtype == np.float64
    assert tg.tensor([2.0, 3]).dtype == np.float32


def test_whole_parts_and_real_parts_of_any_dtype():
    for array in (np.arange(3), np.array([True, False])):
        for ours, theirs in zip(np.modf(tg.tensor(array)), np.modf(array), strict=True):
            np.testing.assert_array_equal(ours, theirs)
            assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(np.real(tg.tensor(array)), array)
