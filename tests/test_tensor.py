"""The Tensor as users meet it: making, reading, indexing, converting, copying, printing."""

import copy
import pickle

import numpy as np
import pytest

import tinygrad_dl as tg


def test_dtypes_of_new_tensors():
    assert tg.tensor(1.5).dtype == np.float32
    assert tg.tensor([[1, 2], [3, 4]]).dtype == np.int64
    assert tg.tensor([True, False]).dtype == bool
    assert tg.tensor(np.ones(2)).dtype == np.float64
    assert tg.tensor(np.float64(1)).dtype == np.float64
    assert tg.tensor(np.ones(2, np.float16)).dtype == np.float16
    assert tg.tensor([1, 2], dtype=np.float64).dtype == np.float64
    assert tg.tensor([tg.tensor(1.0), 2.0]).tolist() == [1, 2]


def test_tensor_copies():
    array = np.ones(2)
    t = tg.tensor(array)
    array[0] = 9
    assert t.tolist() == [1, 1]
    assert tg.tensor(t).data is not t.data


@pytest.mark.parametrize("data", [["a"], [1j], None, object()])
def test_what_is_not_numbers_is_refused(data):
    with pytest.raises(TypeError, match="real numbers"):
        tg.tensor(data)


def test_ragged_data_is_refused():
    with pytest.raises(ValueError, match="inhomogeneous"):
        tg.tensor([[1.0], [1.0, 2.0]])


def test_attributes():
    t = tg.tensor(np.zeros((2, 3), np.float32))
    assert (t.shape, t.ndim, t.size, t.nbytes, t.itemsize, len(t)) == ((2, 3), 2, 6, 24, 4, 2)
    assert t.T.shape == (3, 2)
    assert t.mT.shape == (3, 2)
    assert t.is_leaf
    assert not t.requires_grad


def test_operators_match_numpy():
    a, b = np.array([5.0, -3.0, 2.0]), np.array([2.0, 4.0, -1.5])
    names = {"a": a, "b": b, "t": tg.tensor(a), "u": tg.tensor(b)}
    t = names["t"]
    for op in ("+", "-", "*", "/", "//", "%", "<", "<=", ">", ">=", "==", "!=", "@"):
        expected = eval(f"a {op} b", names)
        for left, right in (("t", "u"), ("t", "b"), ("a", "u")):
            result = eval(f"{left} {op} {right}", names)
            assert isinstance(result, tg.Tensor), (left, op, right)
            np.testing.assert_array_equal(result.numpy(), expected)
    np.testing.assert_array_equal((t**2).numpy(), a**2)
    np.testing.assert_array_equal((2**t).numpy(), 2**a)
    np.testing.assert_array_equal((-t).numpy(), -a)
    np.testing.assert_array_equal(abs(t).numpy(), abs(a))
    quotient, rest = divmod(t, 2)
    np.testing.assert_array_equal((quotient * 2 + rest).numpy(), a)


def test_integer_operators():
    t = tg.tensor([6, 3])
    assert (t & 2).tolist() == [2, 2]
    assert (t | 1).tolist() == [7, 3]
    assert (t ^ 1).tolist() == [7, 2]
    assert (~t).tolist() == [-7, -4]
    assert (t << 1).tolist() == [12, 6]
    assert (t >> 1).tolist() == [3, 1]
    assert (1 + t).tolist() == [7, 4]


def test_numpy_scalars_and_arrays_record_on_either_side():
    t = tg.tensor([1.0, 2.0], requires_grad=True)
    assert (np.float32(2) * t).requires_grad
    assert (np.ones(2) * t).requires_grad
    assert (np.ones((3, 2)) @ t).requires_grad
    assert (np.float32(2) * t).dtype == np.float32
    assert (2.0 * t).dtype == np.float32


def test_indexing_matches_numpy():
    a = np.arange(24.0).reshape(2, 3, 4)
    t = tg.tensor(a)
    for index in (0, -1, (0, 1), slice(None, None, -1), (..., 1), None, (slice(None), [2, 0]), a[0] > 5, (0, a[0] > 5)):
        index = (0, a[0] > 5) if isinstance(index, np.ndarray) else index
        np.testing.assert_array_equal(t[index].numpy(), a[index])
    np.testing.assert_array_equal(t[t > 5].numpy(), a[a > 5])
    np.testing.assert_array_equal(t[tg.tensor([1, 0])].numpy(), a[[1, 0]])
    with pytest.raises(IndexError, match="out of bounds"):
        t[5]
    with pytest.raises(IndexError, match="integers, booleans"):
        t[tg.tensor([0.5])]


def test_repeated_indices_add_up_their_gradients():
    t = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    t[[0, 0, 2]].sum().backward()
    assert t.grad.tolist() == [2, 0, 1]


def test_iteration_and_unpacking():
    t = tg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    a, b = t
    (a * b).sum().backward()
    assert t.grad.tolist() == [[3, 4], [1, 2]]
    with pytest.raises(TypeError, match="0-d"):
        iter(tg.tensor(1.0))
    with pytest.raises(TypeError):
        len(tg.tensor(1.0))
    assert 3.0 in t
    assert 9.0 not in t


def test_conversions():
    t = tg.tensor([2.5], requires_grad=True)
    assert (float(t), int(t), bool(t), t.item()) == (2.5, 2, True, 2.5)
    assert f"{t:.2f}" == "2.50"
    assert f"{tg.tensor([1, 2])}" == "Tensor([1, 2], dtype=int64)"
    assert list(range(5))[tg.tensor(3)] == 3
    with pytest.raises(ValueError, match="ambiguous"):
        bool(tg.tensor([1.0, 2.0]))


def test_numpy_is_a_read_only_view_and_refuses_to_leave_the_graph():
    t = tg.tensor([1.0, 2.0])
    view = t.numpy()
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 5
    assert np.asarray(t).tolist() == [1, 2]
    assert np.array(t, dtype=np.float64).dtype == np.float64
    t.requires_grad = True
    for convert in (np.asarray, np.array, tg.Tensor.numpy):
        with pytest.raises(RuntimeError, match=r"\.detach\(\)\.numpy\(\)"):
            convert(t)


def test_grad_is_assignable_and_checked():
    t = tg.tensor([1.0, 2.0], requires_grad=True)
    t.grad = [3.0, 4.0]
    assert isinstance(t.grad, tg.Tensor)
    assert t.grad.dtype == np.float32
    with pytest.raises(ValueError, match=r"expected shape \(2,\), got \(3,\)"):
        t.grad = np.ones(3)
    assert t.grad.tolist() == [3, 4]
    t.grad = None
    assert t.grad is None


def test_requires_grad_is_settable_on_leaves_only():
    t = tg.tensor([1.0])
    t.requires_grad = True
    y = t * 2
    with pytest.raises(RuntimeError, match="leaves only"):
        y.requires_grad = False
    t.requires_grad = False
    assert not (t * 2).requires_grad


def test_repr_shows_values_dtype_grad_op_and_name():
    t = tg.tensor([1.0, 2.0], requires_grad=True, name="w")
    assert repr(t) == "Tensor([1., 2.], dtype=float32, name='w', requires_grad=True)"
    assert repr(t * 2) == "Tensor([2., 4.], dtype=float32, op=multiply)"
    assert repr(tg.tensor(3)) == "Tensor(3, dtype=int64)"
    assert len(repr(tg.tensor(np.zeros(10_000)))) < 200


def test_leaves_can_be_pickled_and_copied():
    t = tg.tensor([1.0, 2.0], requires_grad=True, name="w")
    t.grad = [5.0, 6.0]
    for twin in (pickle.loads(pickle.dumps(t)), copy.deepcopy(t)):
        assert twin.tolist() == [1, 2]
        assert twin.requires_grad
        assert twin.name == "w"
        assert twin.grad.tolist() == [5, 6]
        with tg.no_grad():
            twin += 1
        assert t.tolist() == [1, 2]
    shallow = copy.copy(t)
    with tg.no_grad():
        shallow += 1
    assert t.tolist() == [1, 2]
    with pytest.raises(TypeError, match="detach"):
        pickle.dumps(t * 2)
    pair = copy.deepcopy([t, t])
    assert pair[0] is pair[1]


def test_tensors_hash_by_identity():
    a, b = tg.tensor([1.0]), tg.tensor([1.0])
    assert len({a, b, a}) == 2


def test_sort_and_fill_are_in_place_in_the_same_sense():
    t = tg.tensor([3.0, 1.0, 2.0], requires_grad=True)
    h = t * 1
    h.sort()
    (h * tg.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert h.tolist() == [1, 2, 3]
    assert t.grad.tolist() == [100, 1, 10]
    c = tg.tensor([1.0, 2.0])
    c.fill(7)
    assert c.tolist() == [7, 7]
    with pytest.raises(RuntimeError, match="no_grad"):
        t.fill(0)


def test_augmented_assignment_keeps_shape_and_dtype():
    t = tg.tensor([1, 2])
    with pytest.raises(TypeError, match="float64, the tensor int64"):
        t += tg.tensor(0.5)
    with pytest.raises(ValueError, match=r"shape \(3, 2\)"):
        t += np.ones((3, 2), int)
    h = tg.tensor([1.0, 2.0])
    h += np.ones(2)
    assert h.dtype == np.float32


@pytest.mark.parametrize("name", ["view", "relu", "permute", "cuda", "clone"])
def test_torch_names_are_answered_with_ours(name):
    with pytest.raises(AttributeError, match="write"):
        getattr(tg.tensor([1.0]), name)
    assert not hasattr(tg.tensor([1.0]), name)


def test_the_repr_of_an_empty_tensor_has_its_shape():
    assert repr(tg.tensor(np.zeros((3, 0)))) == "Tensor([], shape=(3, 0), dtype=float64)"


def test_a_mask_is_not_dropped_in_silence():
    with pytest.raises(TypeError, match="expected an array without a mask"):
        tg.tensor(np.ma.array([1.0, 2.0], mask=[0, 1]))
