"""Values that change: refused while recording, right where a result is repointed, found where a rule reads them."""

import numpy as np
import pytest

import tinygrad_dl as tg


def test_in_place_on_a_leaf_is_refused_while_recording(x):
    with pytest.raises(RuntimeError, match=r"(?s)tg\.no_grad\(\)"):
        x -= 1
    with pytest.raises(RuntimeError, match="assign"):
        x[0] = 1
    assert x.tolist() == [1, 2, 3]


def test_in_place_in_no_grad_is_assign(x):
    same = x
    with tg.no_grad():
        x -= 1
        x[0] = 9
    assert x is same
    assert x.tolist() == [9, 1, 2]
    assert x.is_leaf
    assert x.requires_grad


def test_in_place_on_a_result_repoints_with_right_gradients(x):
    h = x * 2
    before = h
    h *= x
    h[0] = x[2] * 10
    assert h is before
    h.sum().backward()
    assert x.grad.tolist() == [0, 8, 22]


def test_views_never_change_behind_anyones_back(x):
    with tg.no_grad():
        detached, row, plain = x.detach(), x[:2], x.detach().numpy()
        x.assign([7, 8, 9])
    assert detached.tolist() == [1, 2, 3]
    assert row.tolist() == [1, 2]
    assert plain.tolist() == [1, 2, 3]
    assert x.tolist() == [7, 8, 9]


def test_assign_writes_in_place_when_nobody_else_looks():
    x = tg.tensor(np.zeros(5), requires_grad=True)  # pictures keep smaller values
    memory = x.data.ctypes.data
    x.assign([4, 5, 6, 7, 8])
    assert x.data.ctypes.data == memory


@pytest.mark.parametrize(
    ("value", "error", "match"),
    [
        (np.ones(2), ValueError, r"expected shape \(3,\) of 'x', got \(2,\)"),
        (np.ones(3, complex), TypeError, "complex128"),
        (tg.tensor([1.0, 2, 3], requires_grad=True), RuntimeError, "detach"),
    ],
)
def test_a_bad_assign_changes_nothing(x, value, error, match):
    with pytest.raises(error, match=match):
        x.assign(value)
    assert x.tolist() == [1, 2, 3]


def test_a_value_overwritten_before_its_backward_names_both_lines(x):
    y = (x * x).sum()  # uses x
    x.assign([0, 0, 0])  # overwrites x
    with pytest.raises(RuntimeError, match=r"(?s)'?x'? was overwritten.*# overwrites x.*# uses x"):
        y.backward()


def test_overwritten_views_are_found_too(x):
    y = (x.reshape(3, 1) * 2.0 * x.reshape(1, 3)).sum()
    with tg.no_grad():
        x -= 1
    with pytest.raises(RuntimeError, match="overwritten"):
        y.backward()


def test_an_overwritten_value_that_no_rule_reads_is_fine(x):
    y = (x + 1).sum()
    with tg.no_grad():
        x -= 1
    y.backward()
    assert x.grad.tolist() == [1, 1, 1]
