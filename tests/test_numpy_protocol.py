"""NumPy's protocols: over NumPy's own lists of overridable functions each one answers on Tensors or raises by name."""

import inspect
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import overrides

import tinygrad_dl as tg
from tinygrad_dl.ops.inspection import NAMES as TELLING
from tinygrad_dl.primitive import ANSWERS


def full_name(f):
    place = getattr(f, "__module__", "numpy").removeprefix("numpy").removeprefix(".")  # old ufuncs have none
    return f"{place}.{f.__name__}" if place else f.__name__


def resolve(name):
    place = np
    for part in name.split("."):
        place = getattr(place, part, None)
    return place


UFUNCS = {f for f in overrides.get_overridable_numpy_ufuncs() if not f.__name__.startswith("_")}
FUNCTIONS = {  # `np.eye` and its like stand there twice: once as what they call inside
    resolve(full_name(f)) or f for f in overrides.get_overridable_numpy_array_functions()
}

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


def attempt(f, t):
    """One call that reaches the protocol of a function that does not answer."""
    if isinstance(f, np.ufunc):
        return f(*[t] * f.nin)
    try:
        parameters = inspect.signature(f).parameters
    except ValueError:  # in C, before NumPy 2.4
        parameters = {}
    name = f.__name__
    if "like" in parameters or name in LIKE:
        return f(*LIKE.get(name, (3,)), like=t)
    if name in ("savez", "savez_compressed"):
        return f("never.npz", t)
    required = [p for p in parameters.values() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    return f(*[t] * {"putmask": 3}.get(name, len(required) or (1 if parameters else 2)))


LIKE = {
    "array": ([1.0],),
    "full": (3, 1.0),
    "fromfunction": (np.add, (2, 2)),
    "fromiter": ([1.0], float),
    "fromstring": ("1 2",),
    "frombuffer": (b"12345678",),
    "fromfile": ("never",),
    "loadtxt": ("never",),
    "genfromtxt": ("never",),
    **dict.fromkeys(("empty", "zeros", "ones", "arange", "identity", "eye", "tri"), (3,)),
}


def arrays_in(result):
    return [a for r in result for a in arrays_in(r)] if isinstance(result, list | tuple) else [result]


@pytest.mark.filterwarnings("ignore:numpy.fix is deprecated")  # since NumPy 2.5
def test_answers_are_tensors_with_numpys_values():
    tensors, arrays = samples(lambda a: tg.tensor(a, requires_grad=a.dtype.kind == "f")), samples()
    for f in (UFUNCS | FUNCTIONS) & set(ANSWERS):
        result = call(f, tensors)
        if f.__name__ in TELLING:
            assert not any(isinstance(r, np.ndarray | tg.Tensor) for r in arrays_in(result)), full_name(f)
            continue
        assert all(type(r) is tg.Tensor for r in arrays_in(result)), full_name(f)
        if f is np.empty_like:
            continue
        for got, expected in zip(arrays_in(result), arrays_in(call(f, arrays)), strict=True):
            np.testing.assert_allclose(got.data, expected, rtol=1e-12, err_msg=full_name(f))
            assert got.dtype == np.asarray(expected).dtype, full_name(f)


def test_coverage(capsys):
    ufuncs = UFUNCS & set(ANSWERS)
    functions = {f for f in FUNCTIONS & set(ANSWERS) if f.__name__ not in TELLING}
    telling = FUNCTIONS & set(ANSWERS) - functions
    with capsys.disabled():
        print(
            f"\nNumPy's overridable functions that give Tensors: {len(ufuncs)} of {len(UFUNCS)} ufuncs, "
            f"{len(functions)} of {len(FUNCTIONS)} others; {len(telling)} give plain answers, the rest raise"
        )
    assert len(ufuncs) >= 80
    assert len(functions) >= 110
    assert set(ANSWERS) <= UFUNCS | FUNCTIONS


SILENT = sorted((UFUNCS | FUNCTIONS) - set(ANSWERS), key=full_name)


def test_what_does_not_answer_raises_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    t = samples(tg.tensor).m  # without requires_grad, where a plain array would not be refused
    for f in SILENT:
        with pytest.raises((TypeError, NotImplementedError)) as caught:
            attempt(f, t)
        assert f"{f.__name__} has no derivative rule here" in str(caught.value), full_name(f)
    assert not list(tmp_path.iterdir())


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


# PyTorch's spellings


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
