"""NumPy's protocols: over NumPy's own lists of overridable functions each one answers on Tensors or raises by name."""

import inspect

import numpy as np
import pytest
from numpy.testing import overrides
from numpy_calls import call, resolve, samples

import tinygrad_dl as tg
from tinygrad_dl.ops.inspection import NAMES as TELLING
from tinygrad_dl.primitive import ANSWERS


def full_name(f):
    place = getattr(f, "__module__", "numpy").removeprefix("numpy").removeprefix(".")  # old ufuncs have none
    return f"{place}.{f.__name__}" if place else f.__name__


UFUNCS = {f for f in overrides.get_overridable_numpy_ufuncs() if not f.__name__.startswith("_")}
FUNCTIONS = {  # `np.eye` and its like stand there twice: once as what they call inside
    resolve(full_name(f)) or f for f in overrides.get_overridable_numpy_array_functions()
}


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
