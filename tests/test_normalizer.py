"""The normalizer: mean 0 and deviation 1 by the statistics of the training data, and clear refusals."""

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl.data import Normalizer
from tinygrad_dl.files import load, save


@pytest.mark.parametrize("shape", [(100, 5), (100,), (40, 3, 4)])
def test_normalised_features_have_mean_0_and_deviation_1(shape):
    x = np.random.default_rng(0).normal(3, 7, shape)
    z = Normalizer().fit(x).transform(x)
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-14)
    np.testing.assert_allclose(z.std(0), 1, rtol=1e-13)


def test_statistics_are_those_of_the_training_data():
    train, test = np.array([[0.0, 1.0], [4.0, 3.0]]), np.array([[6.0, 2.0]])
    normalizer = Normalizer().fit(train)
    assert normalizer.mean.tolist() == [2, 2]
    assert normalizer.std.tolist() == [2, 1]
    assert normalizer.transform(test).tolist() == [[2, 0]]


def test_normalizer_agrees_with_scikit_learn():
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    rng = np.random.default_rng(0)
    train, test = rng.gamma(2.0, 3.0, (50, 6)), rng.gamma(2.0, 3.0, (20, 6))
    theirs = preprocessing.StandardScaler().fit(train).transform(test)
    np.testing.assert_allclose(Normalizer().fit(train).transform(test), theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e5 / 3, 1e-7])
@pytest.mark.parametrize("n", [1, 3, 1000])
def test_a_constant_feature_becomes_zero(dtype, value, n):
    x = np.stack([np.full(n, max(value, -1e4)), np.arange(n)], axis=1).astype(dtype)
    z = Normalizer().fit(x).transform(x)
    assert not z[:, 0].any()
    assert np.isfinite(z).all()


def test_a_value_off_the_constant_keeps_its_distance():
    assert Normalizer().fit(np.full((5, 1), 3.0)).transform([[4.5]]).tolist() == [[1.5]]


def test_mean_of_many_large_float32_values_is_exact():
    x = np.random.default_rng(0).normal(1e4, 1, (100_000, 2)).astype(np.float32)
    normalizer = Normalizer().fit(x)
    np.testing.assert_allclose(normalizer.mean, x.astype(float).mean(0), rtol=1e-14)
    np.testing.assert_allclose(normalizer.std, x.astype(float).std(0), rtol=1e-12)


def test_dtypes_and_kinds_of_arrays():
    x = np.arange(6).reshape(3, 2)
    normalizer = Normalizer().fit(x)
    expected = (x - x.mean(0)) / x.std(0)
    for dtype, out in [
        ("float16", "float16"), ("float32", "float32"), ("float64", "float64"), ("uint8", "float32"),
        ("int64", "float32"),
    ]:  # fmt: skip
        array, tensor = (normalizer.transform(data) for data in (x.astype(dtype), tg.tensor(x.astype(dtype))))
        assert type(array) is np.ndarray
        assert type(tensor) is tg.Tensor
        assert array.dtype == tensor.dtype == out
        np.testing.assert_allclose(array, expected, rtol=1e-3)
        np.testing.assert_array_equal(array, tensor.numpy())
    assert type(normalizer.transform(x.tolist())) is np.ndarray


def test_gradients_flow_through_the_normalizer():
    x = tg.tensor([[1.0, 2.0], [3.0, 8.0]], requires_grad=True)
    Normalizer().fit(x).transform(x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [[1, 1 / 3], [1, 1 / 3]], rtol=1e-6)


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_statistics_can_be_saved(tmp_path, suffix):
    x = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    normalizer = Normalizer().fit(x)
    save(tmp_path / f"n.{suffix}", {"mean": normalizer.mean, "std": normalizer.std})
    restored = Normalizer(**load(tmp_path / f"n.{suffix}"))
    np.testing.assert_array_equal(restored.transform(x), normalizer.transform(x))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_located(bad):
    x = np.ones((4, 3))
    normalizer = Normalizer().fit(x)
    x[2, 1] = x[3, 0] = bad
    for method in ("fit", "transform"):
        message = rf"Normalizer\.{method}: expected finite values, got {bad} at \[2, 1\], the first of 2 such; remove"
        with pytest.raises(ValueError, match=message):
            getattr(normalizer, method)(x)
    assert normalizer.mean.tolist() == [1, 1, 1]


def test_bad_uses_of_the_normalizer():
    normalizer = Normalizer()
    with pytest.raises(RuntimeError, match=r"Normalizer\.transform: no statistics yet; call fit\(x_train\) first"):
        normalizer.transform(np.ones((2, 3)))
    normalizer.fit(np.ones((2, 3)))
    for shape in [(2, 4), (3,), (2, 3, 1)]:
        with pytest.raises(ValueError, match=r"transform: expected examples of shape \(3,\), as in fit, got"):
            normalizer.transform(np.ones(shape))
    for method in ("fit", "transform"):
        with pytest.raises(
            ValueError, match=rf"Normalizer\.{method}: expected at least one example, got shape \(0, 3\)"
        ):
            getattr(normalizer, method)(np.ones((0, 3)))
        with pytest.raises(TypeError, match=rf"Normalizer\.{method}: expected real numbers, got <U1"):
            getattr(normalizer, method)(np.array([["a", "b", "c"]]))
    for mean, std, message in [
        ([0.0], None, "both mean and std"),
        ([0.0], [1.0, 1.0], r"equal shapes, got mean \(1,\) and std \(2,\)"),
        ([0.0], [0.0], r"std > 0, got 0\.0"),
        ([0.0], [np.nan], "std > 0, got nan"),
    ]:
        with pytest.raises(ValueError, match=message):
            Normalizer(mean, std)
