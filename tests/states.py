"""States to be saved, and what makes two of them the same."""

import numpy as np

import tinygrad_dl as tg


def same(found, expected):
    """Equal in structure, types, dtypes, shapes and bytes; arrays and Tensors come back as Tensors."""
    if isinstance(expected, np.ndarray | tg.Tensor):
        array = np.asarray(expected.detach()) if isinstance(expected, tg.Tensor) else expected
        native = array.astype(array.dtype.newbyteorder("="))
        assert type(found) is tg.Tensor
        assert not found.requires_grad
        assert (found.dtype, found.shape) == (native.dtype, native.shape)
        assert found.numpy().tobytes() == native.tobytes()
    elif isinstance(expected, dict):
        assert isinstance(found, dict)
        assert list(found) == list(expected)
        assert [type(key) for key in found] == [type(key) for key in expected]
        for key in expected:
            same(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert type(found) is type(expected)
        assert len(found) == len(expected)
        for f, e in zip(found, expected, strict=True):
            same(f, e)
    else:
        assert type(found) is type(expected)
        assert found == expected or (found != found and expected != expected)
    return True


def sample(dtype, shape, seed=0):
    return np.random.default_rng(seed).integers(0, 2 if dtype == "bool" else 100, shape).astype(dtype)
