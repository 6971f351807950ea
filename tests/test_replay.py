"""After some runs a replay looks at all that may have changed at once: here arguments, globals, modes change then."""

import numpy as np
import pytest
from programs import ones, run

import tinygrad_dl as tg
from tinygrad_dl import nn, scope

SCALE = np.float32(3)


class Marked(np.ndarray):
    """An array of a class of its own."""


def scaled(x):
    return x * 2 + 1


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(ones(5), id="shape"),
        pytest.param(ones(1, 3), id="number of axes"),
        pytest.param(ones(dtype=np.float64), id="dtype"),
        pytest.param(ones(dtype=np.int64), id="kind"),
        pytest.param(ones().astype(">f4"), id="byte order"),
        pytest.param(np.float32(5), id="scalar"),
        pytest.param(5.0, id="number"),
        pytest.param(ones().view(Marked), id="subclass"),
        pytest.param(np.arange(6, dtype=np.float32)[::2], id="distances"),
        pytest.param(tg.tensor(ones(4)), id="tensor"),
    ],
)
def test_another_argument(other):
    f = tg.compile(scaled)
    run(f, ones())
    array = np.asarray(other.data if isinstance(other, tg.Tensor) else other)
    expected = array * 2 + 1
    for _ in range(2):
        result = f(other)
        given = np.asarray(result)
        np.testing.assert_array_equal(given, expected)
        assert given.shape == expected.shape
        assert given.dtype == expected.dtype.newbyteorder("=")
    np.testing.assert_array_equal(f(ones()).numpy(), 3 * ones())


def test_an_argument_that_requires_grad():
    w = tg.tensor(ones(), requires_grad=True)
    f = tg.compile(scaled)
    run(f, ones())
    with pytest.raises(TypeError, match=r"require no grad.*use .detach\(\)"):
        f(w * 2)
    np.testing.assert_array_equal(f((w * 2).detach()).numpy(), 5 * ones())


@pytest.mark.parametrize("wrong", [(), (ones(), ones())], ids=["too few", "too many"])
def test_another_number_of_arguments(wrong):
    f = tg.compile(scaled)
    run(f, ones())
    with pytest.raises(TypeError, match="positional argument"):
        f(*wrong)
    np.testing.assert_array_equal(f(ones()).numpy(), 3 * ones())


def test_arguments_where_there_were_none():
    f = tg.compile(lambda *args: tg.tensor(ones()) * (1 + len(args)))
    run(f)
    np.testing.assert_array_equal(f(ones()).numpy(), 2 * ones())
    np.testing.assert_array_equal(f().numpy(), ones())


def test_a_default_that_is_given():
    f = tg.compile(lambda x, y=1.0: x + y)
    run(f, ones())
    np.testing.assert_array_equal(f(ones(), 4.0).numpy(), 5 * ones())
    np.testing.assert_array_equal(f(ones(), y=5.0).numpy(), 6 * ones())


def test_a_global_that_is_replaced_and_one_that_is_gone(monkeypatch):
    f = tg.compile(lambda x: x * SCALE)
    assert run(f, ones()).numpy()[0] == 3
    monkeypatch.setitem(globals(), "SCALE", np.float32(5))
    assert run(f, ones()).numpy()[0] == 5
    monkeypatch.delitem(globals(), "SCALE")
    with pytest.raises(NameError, match="SCALE"):
        f(ones())


def test_a_closure_that_is_replaced_and_one_that_is_emptied():
    scale = 2.0

    def change(value):
        nonlocal scale
        scale = value

    def empty():
        nonlocal scale
        del scale

    f = tg.compile(lambda x: x * scale)
    assert run(f, ones()).numpy()[0] == 2
    change(7.0)
    assert run(f, ones()).numpy()[0] == 7
    empty()
    with pytest.raises(NameError, match="scale"):
        f(ones())
    change(2.0)
    assert f(ones()).numpy()[0] == 2


def test_what_changes_nothing_is_not_counted_as_a_change():
    """A counted one makes the next call look at everything: a third of a small step's time."""
    model = nn.Linear(3, 2).train()
    before = scope.changes
    tg.tensor(ones())
    model.train()
    model.weight.requires_grad = True
    assert scope.changes == before
    model.eval()
    assert scope.changes > before


def test_modes_of_a_module():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    f = tg.compile(lambda x: model(x).sum(axis=1))
    x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    run(f, x)
    model.eval()
    expected = model(x).sum(axis=1).detach().numpy()
    np.testing.assert_allclose(run(f, x).detach().numpy(), expected, atol=1e-5)
    model.train()
    assert np.abs(run(f, x).detach().numpy() - expected).max() > 0.1
