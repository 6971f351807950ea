"""`detect_nan` stops at the first NaN or infinity, names it truly, and changes nothing else."""

import math
import re
import threading

import numpy as np
import pytest
from nan_messages import F, leaf, message, remedy
from op_table import ROWS
from programs import _arrays, record, with_gradients

import tinygrad_dl as tg
from tinygrad_dl import nn, optim, scope
from tinygrad_dl.insight.detection import Watch, detect_nan, finite


def test_tells_the_values_back_to_the_inputs():
    w, x = leaf([[1, 2], [3, 4]], "w"), leaf([[1, -2]], "x")

    def f():
        h = x @ w
        return np.log(h + 5)

    text = message(f)
    history = text[text.index("where the value came from") :].splitlines()[1:]
    values = [float(re.search(r" = ([-\d.e+]+)", line).group(1)) for line in history]
    h = x.data @ w.data
    first = h[0, 0] + 5
    assert first == 0
    assert values[:2] == [first, h[0, 0]]
    assert values[2] in (x.data[0, 1], w.data[1, 0])  # the product that counts most
    assert re.findall(r"  (\w+)\[", "\n".join(history)) == ["add", "matmul", history[2].split("[")[0].strip()]


def test_names_layer_and_parameter_that_was_spoilt_and_who_wrote_it():
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    weight = next(iter(model.parameters()))
    weight.assign(np.full((2, 3), np.inf, F))
    text = message(model, tg.tensor([[1.0, 2.0, 3.0]]))
    assert "in layer Sequential.0 (Linear)" in text
    assert "Sequential.0.weight was not finite before this: it has inf at [0, 0]; 6 of 6 elements" in text
    assert "last written at test_detect_nan.py" in text


def test_names_the_data_that_came_in_with_nan():
    model = nn.Linear(3, 2)
    text = message(model, tg.tensor([[1.0, math.nan, 3.0]]))
    assert "x[0, 1] = nan" in text
    assert "x was not finite before this: it has nan at [0, 1]; 1 of 3 elements" in text
    assert "it was not finite when it was passed in" in text


def test_a_gradient_that_was_summed_names_an_element_that_counts():
    w = leaf([0, 4])
    text = message(lambda: (np.ones((3, 2), F) * np.sqrt(w)).sum().backward())
    assert text.startswith("backward of sqrt: the gradient of w has inf at [0]")
    c = leaf([1.0])
    x = leaf([[1.0, 0.0]])
    text = message(lambda: (c / x.detach()).sum().backward())
    assert text.startswith("divide: the result has inf at [0, 1]")


@pytest.mark.parametrize("value", [math.nan, math.inf, -1e30, 0.0])
def test_every_operation_can_be_reported_on(value):
    reports = {}
    for row in ROWS:
        arrays = [a.copy() for a in _arrays(row.sample())]
        for a in arrays:
            if a.dtype.kind == "f" and a.size:
                a.flat[0] = value
        try:
            with detect_nan():
                with_gradients(row)(*map(tg.tensor, arrays))
        except FloatingPointError as error:
            reports[row.name] = str(error)
        except (ValueError, TypeError, IndexError, RuntimeError):
            pass  # out of the operation's range
    assert len(reports) > 10
    for name, text in reports.items():
        assert re.search(r"has -?(nan|inf)( at \[[\d, ]+\])?; \d+ of \d+ elements not finite", text), name


def test_a_wrong_rule_of_ones_own_is_named():
    broken = tg.primitive(lambda x: x * 1, lambda g, _y, x: g / (x - x), name="broken")
    text = message(lambda: broken(leaf([1, 2])).sum().backward())
    assert text.startswith("backward of broken")
    assert "gradcheck" in text


def test_the_gradient_that_is_passed_to_backward_is_named():
    text = message(lambda: (leaf([1, 2]) * 2).backward(np.array([1, np.nan], F)))
    assert "passed to it" in text


def test_infinite_masks_and_missing_data_may_pass():
    x = leaf([[1, 2, 3]])
    mask = np.array([True, False, True])
    with detect_nan():
        nn.functional.softmax(np.where(mask, x, -np.inf)).sum().backward()
        nn.functional.softmax(x + np.where(mask, 0, -np.inf).astype(F)).sum().backward()
        data = tg.tensor([[1.0, math.nan, 3.0]])
        np.where(np.isnan(data.reshape(3)), 0, data.reshape(3)).sum()
        assert float(np.nansum(data)) == 4
    message(lambda: nn.functional.softmax(np.where([False] * 3, x, -np.inf)))  # nothing but -inf


def test_finite_agrees_with_numpy_where_squares_overflow_too():
    big = np.finfo(F).max
    for values in ([1, 2], [big, -big], [np.inf], [np.nan, big], [], 3.0):
        for dtype in (np.float16, F, np.float64):
            with np.errstate(all="ignore"):
                array = np.asarray(values).astype(dtype)
                assert finite(array) == np.isfinite(array).all()
    assert finite(np.arange(12).reshape(3, 4).T)
    assert finite(np.array([True, False]))


def test_off_again_after_the_block_also_after_an_error_and_in_other_threads():
    x = leaf([0.0])
    message(lambda: np.log(x))
    assert scope.observers == 0
    found = []
    with detect_nan():
        thread = threading.Thread(target=lambda: found.append(_quiet_log(x)))
        thread.start()
        thread.join()
    assert found == [-math.inf]
    assert _quiet_log(x) == -math.inf


def _quiet_log(x):
    with np.errstate(all="ignore"):
        return float(np.log(x.detach())[0])


def test_is_a_decorator_and_raises_in_the_line_that_did_it():
    @detect_nan()
    def f(x):
        y = x * 2
        return np.log(y)

    with pytest.raises(FloatingPointError) as caught:
        f(leaf([0.0]))
    lines = [str(e.statement) for e in caught.traceback if e.path.name == "test_detect_nan.py"]
    assert "return np.log(y)" in lines[-1]


def test_values_and_gradients_are_the_same_when_watched():
    def step(watched):
        tg.seed(0)
        model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))
        optimizer = optim.Adam(model.parameters())
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(10, 8)).astype(F), rng.integers(0, 3, 10)
        for _ in range(3):
            if watched:
                with detect_nan():
                    loss = nn.functional.cross_entropy(model(tg.tensor(x)), y)
                    optimizer.zero_grad()
                    loss.backward()
            else:
                loss = nn.functional.cross_entropy(model(tg.tensor(x)), y)
                optimizer.zero_grad()
                loss.backward()
            optimizer.step()
        return [loss.data, *(p.data for p in model.parameters())]

    for a, b in zip(step(False), step(True), strict=True):
        np.testing.assert_array_equal(a, b)


def test_second_derivatives_and_checkpoints_are_watched():
    x = leaf([0, 1])

    def second():
        (g,) = tg.gradients((x**1.5).sum(), x, create_graph=True)
        g.sum().backward()

    assert message(second).startswith("backward of power")
    assert message(lambda: tg.checkpoint(lambda v: np.sqrt(v), x).sum().backward()).startswith("backward of sqrt")


def test_recording_a_compiled_function_is_watched():
    w = leaf([1, 2])

    @tg.compile(backend="interpreter")
    def step(a):
        return np.log(w * a)

    assert message(step, np.array([0, 1], F)).startswith("log: the result has -inf at [0]")


def replayed(f, good, bad):
    """Record with good arrays, run with bad ones, and look at what came out."""
    program, _ = record(f, good)
    with np.errstate(all="ignore"):
        return Watch().replay(program, program.run, bad)


def test_a_program_is_run_again_to_find_the_place():
    def f(x):
        x.requires_grad = True
        y = np.log(x * 2).sum()
        return [y, *tg.gradients(y, x)]

    good, bad = np.array([1, 2], F), np.array([3, 0], F)
    replayed(f, [good], [good])
    with pytest.raises(FloatingPointError) as caught:
        replayed(f, [good], [bad])
    text = str(caught.value)
    assert text.startswith("log: the result has -inf at [1]; 1 of 2")
    assert "y = np.log(x * 2).sum()" in text.splitlines()[1]
    assert remedy(text) == "y = np.log(np.maximum(x * 2, 1e-12)).sum()"
    assert "multiply[1] = 0" in text


def test_a_program_names_the_operation_whose_gradient_it_is():
    def f(x):
        x.requires_grad = True
        y = np.where(x > 0, np.sqrt(x), 0).sum()
        return [y, *tg.gradients(y, x)]

    with pytest.raises(FloatingPointError) as caught:
        replayed(f, [np.array([1, 2], F)], [np.array([1, 0], F)])
    text = str(caught.value)
    assert text.startswith("backward of sqrt: a gradient has nan at [1]")
    assert "0 · inf" in text
    assert remedy(text) == "y = np.where(x > 0, np.sqrt(np.where(x > 0, x, 1)), 0).sum()"


def test_inputs_whose_memory_a_run_has_used_get_their_values_back():
    program, _ = record(lambda w, a: [np.log(w * a)], [np.ones(2, F), np.ones(2, F)])
    program.updates[0] = 0

    def run(arrays):
        (y,) = program.run(arrays)
        arrays[0][...] = y
        return [arrays[0]]

    w = np.array([1, 2], F)
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=r"log: the result has -inf at \[1\]"):
        Watch().replay(program, run, [w, np.array([1, 0], F)])
    np.testing.assert_array_equal(w, [1, 2])
    assert Watch().replay(program, run, [w, np.ones(2, F)])[0] is w
    np.testing.assert_allclose(w, np.log([1, 2]), rtol=1e-6)
