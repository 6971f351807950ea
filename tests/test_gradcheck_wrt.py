"""gradcheck of leaves and Modules that a function closes over: checked in place, and left as they were."""

import numpy as np
import pytest
from wrong_gradients import SQUARE, X, Y, check, double_in_place, scaled

import tinygrad_dl as tg
from tinygrad_dl.checking import gradcheck
from tinygrad_dl.primitive import primitive


def leaf(data, name=None):
    return tg.tensor(data, dtype="float64", requires_grad=True, name=name)


def test_wrt_leaves_in_every_form():
    w, b = leaf(SQUARE, "w"), leaf(Y[0, :3])
    f = lambda: np.tanh(w @ w.T + b).sum()
    for wrt, names in (
        (w, ["w"]),
        ([w, b], ["w", "wrt[1]"]),
        ((w, b), ["w", "wrt[1]"]),
        ({"u": w, "v": b}, ["w", "v"]),
    ):
        assert [c.argument for c in gradcheck(f, wrt=wrt, order=2).comparisons if c.order == 1] == names
    assert [c.argument for c in gradcheck(lambda x: x @ w, X.T, wrt=[w, w]).comparisons] == ["x", "w"]
    slip = scaled(1.001)
    report = check(lambda: slip(w) + b, wrt=[w, b])
    assert {c.argument: c.verdict for c in report.comparisons} == {"w": "wrong", "wrt[1]": "passed"}


def test_wrt_must_be_float64_leaves():
    single = tg.tensor([1.0], requires_grad=True, name="single")
    with pytest.raises(TypeError, match=r"gradcheck: wrt is float32.*dtype='float64'"):
        gradcheck(lambda: 0, wrt=tg.tensor([1.0], requires_grad=True))
    with pytest.raises(TypeError, match=r"single in wrt is float32.*dtype='float64'"):
        gradcheck(lambda: single * 2, wrt=single)
    w = leaf([1.0])
    with pytest.raises(ValueError, match="without requires_grad"):
        gradcheck(lambda: w * 2, wrt=w.detach())
    with pytest.raises(ValueError, match="result of an operation"):
        gradcheck(lambda: w * 2, wrt=w * 2)
    with pytest.raises(TypeError, match="expected a Module or leaves in wrt, got 'w'"):
        gradcheck(lambda: w * 2, wrt="w")
    with pytest.raises(TypeError, match=r"0\.weight in wrt is float32.*model\.astype\('float64'\) first"):
        gradcheck(lambda x: x, X, wrt=tg.nn.Sequential(tg.nn.Linear(4, 2)))


def test_leaves_come_back_exactly():
    w = leaf([[-0.0, np.pi], [1e-300, 3.0]], "w")
    w.grad = [[1.0, 2.0], [3.0, 4.0]]
    array, values, grad = w.data, w.data.tobytes(), w.grad
    loss = np.square(w).sum()

    def f():
        np.square(w).sum().backward()
        return np.sin(w * 2).sum()

    assert gradcheck(f, wrt=w)
    assert w.data is array
    assert w.data.tobytes() == values
    assert w.data.flags.writeable
    assert w.grad is grad
    loss.backward()  # the graph recorded before the check is as good as ever
    assert np.array_equal(w.grad.data, 2 * w.data + grad.data)
    w.assign(0.0)
    assert not w.data.any()


def test_leaves_come_back_when_f_raises():
    w = leaf([1.0, 2.0])
    calls = []

    def f():
        calls.append(0)
        tg.random.uniform()
        if len(calls) > 9:
            raise RuntimeError("enough")
        return (w * w).sum()

    tg.seed(0)
    state = tg.random.state()
    with pytest.raises(RuntimeError, match="enough"):
        gradcheck(f, wrt=w)
    assert np.array_equal(w.data, [1.0, 2.0])
    assert w.grad is None
    assert tg.random.state() == state


def test_a_kernel_that_writes_into_a_leaf():
    w = leaf([1.0, 2.0])
    op = primitive(double_in_place, lambda g, _y, _x: 2 * g, name="op")
    assert check(lambda: op(w), wrt=w).verdict == "wrong"
    assert np.array_equal(w.data, [1.0, 2.0])


def _model(units=6):
    tg.seed(0)
    nn = tg.nn
    layers = (nn.Linear(4, units), nn.BatchNorm1d(units), nn.Tanh(), nn.Linear(units, 3))
    return nn.Sequential(*layers).astype("float64")


def test_a_module_with_its_buffers():
    model, target = _model(units=2), np.array([0, 2, 1])
    before = {k: np.array(v.data) for k, v in model.state_dict().items()}
    report = gradcheck(lambda x: tg.nn.functional.cross_entropy(model(x), target), X, wrt=model, order=2)
    first = [c for c in report.comparisons if c.order == 1]
    assert [c.argument for c in first] == ["x", *(name for name, _ in model.named_parameters())]
    assert all(c.ratio < 1e-7 for c in first), str(report)
    for key, value in model.state_dict().items():
        assert np.array_equal(value.data, before[key]), key
    assert all(p.grad is None for p in model.parameters())
    assert gradcheck(model, X), "a Module as f: its buffers come back too"
    for key, value in model.state_dict().items():
        assert np.array_equal(value.data, before[key]), key


def test_frozen_parameters_are_left_out():
    model = _model()
    model[0].requires_grad_(False)
    names = [c.argument for c in gradcheck(lambda: model(X), wrt=model).comparisons]
    assert names == ["1.weight", "1.bias", "3.weight", "3.bias"]


def test_dropout_is_random_and_consumes_nothing():
    model = tg.nn.Sequential(_model(), tg.nn.Dropout(0.5))
    own = np.random.default_rng(5)
    model.layer = tg.nn.Dropout(0.5, rng=own)
    tg.seed(1)
    state, private = tg.random.state(), own.bit_generator.state
    report = check(lambda: model.layer(model(X)), wrt=model)
    assert report.verdict == "random"
    assert tg.random.state() == state
    assert own.bit_generator.state == private
    model.eval()
    assert gradcheck(lambda: model(X), wrt=model)


def test_dropout_can_be_checked_with_its_mask_held():
    def f(x):
        with tg.random.scope(7):
            return tg.nn.functional.dropout(x, 0.5)

    assert gradcheck(f, X)


def test_second_order_runs_rules_on_arrays_and_looks_again_at_the_same_elements():
    tg.seed(0)
    linear, norm = tg.nn.Linear(8, 8), tg.nn.BatchNorm1d(8)
    model = tg.nn.Sequential(linear, norm, tg.nn.ReLU(), tg.nn.Linear(8, 3)).astype("float64")
    read = {np.ndarray: 0, tg.Tensor: 0}

    def rule(g, _y, _x):
        read[type(g)] += 1
        return g

    passed = primitive(lambda x: x * 1, rule, name="op")
    report = gradcheck(lambda x: passed(model(x)), np.random.default_rng(0).normal(size=(6, 8)), wrt=model, order=2)
    assert read[np.ndarray] > 20 * read[tg.Tensor]
    assert report.evaluations < 2500
