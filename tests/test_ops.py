"""Every operation, by the rows of the op table: value, NumPy's protocol, both readings of the rules, gradients to
order 2, broadcasting, dtypes, purity, memory layouts; and that no operation is without a row."""

import importlib
import pkgutil
import sys
from inspect import isfunction

import numpy as np
import pytest
from op_table import ROWS

import tinygrad_dl as tg
from tinygrad_dl.fused import Fused
from tinygrad_dl.graph import wrap
from tinygrad_dl.nn import functional
from tinygrad_dl.primitive import ANSWERS, Primitive

# the arguments and results of a row are trees: arrays in lists and tuples, among what is static


def leaves(tree):
    return [x for part in tree for x in leaves(part)] if isinstance(tree, list | tuple) else [tree]


def mapped(f, tree):
    """The same tree with f of every array."""
    if type(tree) in (list, tuple):
        return type(tree)(mapped(f, part) for part in tree)
    return f(tree) if isinstance(tree, np.ndarray) else tree


def floating(x):
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def as_tensor(array):
    """A leaf on the array itself, not on a copy."""
    tensor = wrap(array)
    tensor.requires_grad = floating(array)
    return tensor


def data(x):
    return x.data if isinstance(x, tg.Tensor) else x


def weight(array, dtype=None):
    """An incoming gradient, read-only; the same for the same shape."""
    w = np.random.default_rng(1).normal(size=array.shape).astype(dtype or array.dtype)
    w.flags.writeable = False
    return w


def run(row, args, function=None, second=False):
    """The row's operation on Tensors of these arrays: what it returns, and the gradient of every floating array."""
    tensors = mapped(as_tensor, args)
    result = row.call(tensors, function)
    inputs = [t for t in leaves(tensors) if isinstance(t, tg.Tensor) and t.requires_grad]
    outputs = [y for y in leaves(result) if isinstance(y, tg.Tensor) and y.requires_grad]
    if not inputs or not outputs:
        return result, None
    weights = [weight(y.data) for y in outputs]
    found = tg.gradients(outputs, inputs, weights, retain_graph=True, create_graph=second, allow_unused=True)
    return result, [np.zeros_like(x.data) if g is None else g.data for g, x in zip(found, inputs, strict=True)]


def check_same(got, expected, exact=False, **tolerance):
    """Trees of one structure, shapes and kinds, and equal or close in value."""
    got, expected = leaves(got), leaves(expected)
    assert len(got) == len(expected)
    for a, b in zip(map(data, got), map(data, expected), strict=True):
        assert np.shape(a) == np.shape(b)
        if exact:
            assert np.asarray(a).dtype == np.asarray(b).dtype
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), (a, b)
        elif isinstance(a, np.ndarray | np.generic):
            assert (a.dtype.kind in "fc") == (np.asarray(b).dtype.kind in "fc")
            np.testing.assert_allclose(a, b, **{"rtol": 1e-12, "atol": 1e-13, **tolerance})
        else:
            assert a == b


def operations(tensors):
    """The recorded operations that lead to these results."""
    seen, stack = set(), [y.node for y in tensors if isinstance(y, tg.Tensor)]
    while stack:
        node = stack.pop()
        if node is not None and node not in seen:
            seen.add(node)
            stack += node.parents
    return [node for node in seen if node.primitive is not None]


def called(rows):
    return pytest.mark.parametrize("row", rows, ids=lambda row: row.name)


def kind(row):
    """Does it tell about arrays, give what has no gradient ("flat"), or what has one?"""
    try:
        result, gradients = run(row, row.sample())
    except Exception:
        return "smooth"  # let the tests fail
    if gradients is not None:
        return "smooth"
    return "flat" if any(isinstance(y, tg.Tensor) for y in leaves(result)) else "telling"


KINDS = {row: kind(row) for row in ROWS}
SMOOTH = [row for row in ROWS if KINDS[row] == "smooth"]
FLAT = [row for row in ROWS if KINDS[row] == "flat"]
GIVING = [*SMOOTH, *FLAT]
ELEMENTWISE = [r for r in GIVING if r.elementwise]


def test_table_and_registry_name_the_same_operations():
    registered = {*ANSWERS.values()}
    for place in pkgutil.walk_packages(tg.__path__, "tinygrad_dl."):
        registered |= {v for v in vars(importlib.import_module(place.name)).values() if isinstance(v, Primitive)}
    for module in (sys.modules["tinygrad_dl.ops"], functional):
        registered |= {v for k, v in vars(module).items() if callable(v) and not k.startswith("_")}
    tested = {row.op for row in ROWS}
    assert {op.__name__ for op in registered - tested} == set(), "without a row"
    assert {op.__name__ for op in tested - registered} == set(), "not registered"


@called(ROWS)
def test_value_against_an_independent_reference(row):
    args = row.sample()
    result, _ = run(row, args)
    expected = row.expected(args)
    check_same(result, expected)
    for y in leaves(result):
        assert not isinstance(y, np.ndarray | np.generic), "an array of Tensors"
    for y in leaves(row.call(args)):
        assert not isinstance(y, tg.Tensor)
    check_same(row.call(args), result, exact=True)


@called([r for r in ROWS if r.numpy])
def test_numpys_protocol_reaches_it(row):
    args = row.sample()
    for function in row.numpy:
        result, gradients = run(row, args, function)
        direct, expected = run(row, args)
        assert [type(y) for y in leaves(result)] == [type(y) for y in leaves(direct)]
        check_same(result, direct, exact=True)
        check_same(gradients, expected, exact=True)


@called(FLAT)
def test_without_gradient_nothing_is_recorded(row):
    args = row.sample()
    result, _ = run(row, args)
    for y in leaves(result):
        assert not isinstance(y, tg.Tensor) or y.node is None
    near, _ = run(row, mapped(lambda x: x * (1 + 1e-9) if floating(x) else x, args))
    moved = any(data(a).tobytes() != data(b).tobytes() for a, b in zip(leaves(result), leaves(near), strict=True))
    assert moved == row.detached, "a gradient is missing" if moved else "not detached: its value never changes"


@called(SMOOTH)
def test_both_readings_of_the_rules_agree(row):
    args = row.sample()
    result, first = run(row, args)
    _, second = run(row, args, second=True)
    if any(
        isinstance(node.primitive, Fused) for node in operations(leaves(result))
    ):  # the second reading is the meaning's
        for a, b in zip(first, second, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-13 * np.abs(b).max(initial=1))
    else:
        check_same(first, second, exact=True)


@called(SMOOTH)
def test_backward_lands_the_same_gradients(row):
    args = row.sample()
    tensors = mapped(as_tensor, args)
    for y in leaves(row.call(tensors)):
        if isinstance(y, tg.Tensor) and y.requires_grad:
            y.backward(weight(y.data), retain_graph=True)
    landed = [
        np.zeros_like(t.data) if t.grad is None else t.grad.data
        for t in leaves(tensors)
        if isinstance(t, tg.Tensor) and t.requires_grad
    ]
    check_same(landed, run(row, args)[1])


def check_gradients(row, args, order):
    """By differences. NaN and infinities among the arguments stay as they are."""
    inputs = [x if np.isfinite(x).all() else x[np.isfinite(x)] for x in leaves(args) if floating(x)]

    def f(*tensors):
        rest = iter(tensors)

        def whole(x):
            t, finite = next(rest), np.isfinite(x)
            return t if finite.all() else tg.setitem(x, finite, t)

        return row.call(mapped(lambda x: whole(x) if floating(x) else x, args))

    assert tg.gradcheck(f, *inputs, order=order)


FIRST = list({row.name: row for row in reversed(SMOOTH)}.values())  # of each operation: the second order takes long


@called(FIRST)
def test_gradients_to_order_two(row):
    check_gradients(row, row.sample(), order=2)


@called([row for row in SMOOTH if row not in FIRST])
def test_gradients_of_further_rows(row):
    check_gradients(row, row.sample(), order=1)


@called(ELEMENTWISE)
@pytest.mark.parametrize("shapes", [((3, 1), (1, 4)), ((), (2, 3)), ((2, 3), ())], ids=str)
def test_broadcasting(row, shapes):
    args = row.sample(*shapes)
    result, gradients = run(row, args)
    check_same(result, row.expected(args))
    if gradients is not None:
        assert [g.shape for g in gradients] == [x.shape for x in leaves(args) if floating(x)]
        check_gradients(row, args, order=1)


@called(ELEMENTWISE)
@pytest.mark.parametrize("shapes", [((0,),), ((2, 0), (1,))], ids=str)
def test_empty_arrays(row, shapes):
    args = row.sample(*shapes)
    result, gradients = run(row, args)
    check_same(result, row.expected(args))
    if gradients is not None:
        assert [g.shape for g in gradients] == [x.shape for x in leaves(args) if floating(x)]
        assert not any(g.any() for g in gradients)


def cast(args, dtype):
    return mapped(lambda x: x.astype(dtype) if floating(x) else x, args)


@called([r for r in SMOOTH if r.keeps_dtype])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_dtypes_are_kept(row, dtype):
    if dtype == "float16" and not row.half:
        with pytest.raises(TypeError, match="float16"):
            row.call(mapped(as_tensor, cast(row.sample(), dtype)))
        return
    args = row.sample()
    result, gradients = run(row, cast(args, dtype))
    for y in leaves(result):
        assert y.dtype == dtype or y.dtype.kind in "iub"
    assert {g.dtype for g in gradients} == {np.dtype(dtype)}
    for node in operations(leaves(result)):  # the engine would cast what a rule answers
        if not isinstance(node.primitive, Fused) and node.dtype == dtype:
            pulled = node.primitive.pull(node, weight(node), node.parents, False)
            assert {r.dtype for r, p in zip(pulled, node.parents, strict=False) if p and p.dtype == dtype} <= {
                node.dtype
            }
    if dtype == "float32":
        wide, expected = run(row, args)
        check_same(result, wide, rtol=1e-4, atol=1e-5)
        check_same(gradients, expected, rtol=1e-3, atol=1e-4)
        _, second = run(row, cast(args, dtype), second=True)
        assert {g.dtype for g in second} == {np.dtype(dtype)}


@called([r for r in SMOOTH if r.keeps_dtype and r.elementwise and sum(map(isfunction, r.args)) > 1])
def test_python_numbers_are_weak(row):
    args = cast(row.sample((3,)), "float32")
    for i, x in enumerate(args):
        if floating(x):
            mixed = (*args[:i], x[0].item(), *args[i + 1 :])
            if not any(floating(a) for a in mixed):
                continue
            result, gradients = run(row, mixed)
            plain = row.call(mixed)  # np.clip(0.5, a, b) is float64 also where a and b are float32
            check_same(result, plain, exact=True)
            assert gradients is None or {g.dtype for g in gradients} == {np.dtype(np.float32)}
            check_same(result, row.expected(mixed), rtol=1e-4, atol=1e-5)


@called(GIVING)
def test_inputs_and_incoming_gradients_are_only_read(row):
    args = mapped(np.array, row.sample())
    before = mapped(np.copy, args)
    for x in leaves(args):
        if isinstance(x, np.ndarray):
            x.flags.writeable = False
    run(row, args)
    run(row, args, second=True)
    check_same(args, before, exact=True)


LAYOUTS = {
    "negative stride": lambda x: x[::-1].copy()[::-1] if x.ndim else x,
    "Fortran order": lambda x: x.copy(order="F"),
    "gaps": lambda x: x.repeat(2, -1)[..., ::2] if x.ndim else x,
}


@called(GIVING)
def test_memory_layout_does_not_matter(row):
    args = row.sample()
    expected, wanted = run(row, args)
    for layout in LAYOUTS.values():
        result, gradients = run(row, mapped(layout, args))
        check_same(result, expected)
        if gradients is not None:
            check_same(gradients, wanted)
