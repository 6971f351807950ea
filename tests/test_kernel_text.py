"""Numbers, arrays and kernels as text that gives exactly them again."""

import numpy as np
import pytest
from programs import record

from tinygrad_dl.compiler.kernel_text import Definitions, array_text, literal
from tinygrad_dl.compiler.numpy_backend import build, source
from tinygrad_dl.primitive import primitive


@pytest.mark.parametrize(
    "array",
    [
        np.arange(1000).reshape(10, 100),
        np.arange(500, 0, -5, dtype=np.int32),
        np.full((30, 40), -0.0, np.float32),
        np.random.default_rng(0).normal(size=(20, 30)),
        np.array([np.nan, np.inf, -np.inf, -0.0, 0.1], np.float16),
        np.array(7, np.uint64),
        np.zeros((0, 3), bool),
        np.random.default_rng(0).random((20, 20)) < 0.5,
    ],
    ids=lambda a: f"{a.dtype}-{a.shape}",
)
def test_constants_are_exact(array):
    names = {}
    exec(f"import zlib, base64, numpy as np\nx = {array_text(array)}", names)
    assert (names["x"].shape, names["x"].dtype) == (array.shape, array.dtype)
    assert names["x"].tobytes() == array.tobytes()


def test_literals():
    for value in (None, True, -3, 0.1, 1e300, float("inf"), (1, (2.5,)), [slice(None, 3), ...], {"a": "b"}):
        assert eval(literal(value)) == value
    assert np.isnan(eval(literal(float("nan"))))
    assert literal(np.dtype(np.float32)) == literal(np.float32) == "np.float32"


SCALE = 3.0


def _helper(x, factor=SCALE):
    return x * factor


def scaled_by(factor):
    def kernel(x):
        return _helper(x) * factor

    return primitive(kernel, None, name="scaled")


def test_kernels_with_helpers_defaults_and_closures():
    first, second = scaled_by(2.0), scaled_by(5.0)
    program, _ = record(lambda x: [first(x) + second(x)], [np.arange(4.0)])
    text = source(program)
    assert "def kernel(x):" in text
    assert "def kernel_2(x):" in text
    assert "factor=3.0" in text
    assert np.array_equal(build(program)([np.arange(4.0)])[0], program.run([np.arange(4.0)])[0])


def test_a_kernel_without_source_is_given():
    names = {}
    exec("def hidden(x):\n    return x + 1\n", names)
    op = primitive(names["hidden"], None)
    program, _ = record(lambda x: [op(x)], [np.arange(4.0)])
    assert "# hidden has no text" in source(program)
    assert np.array_equal(build(program)([np.arange(4.0)])[0], program.run([np.arange(4.0)])[0])


def test_two_lambdas_on_one_line():
    kernels = [lambda x: x + 1, lambda x: x + 2]
    definitions = Definitions(set())
    assert [definitions.expression(k, "k") for k in kernels] == ["k", "k_2"]
    assert "x + 1" in definitions.blocks[0]
    assert "x + 2" in definitions.blocks[1]
