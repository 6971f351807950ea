"""Gradients, products and matrices as functions, against closed forms and finite differences."""

from collections import namedtuple

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl import nn
from tinygrad_dl.checkpointing import checkpoint
from tinygrad_dl.transforms import grad, gradients, hessian, hvp, jacobian, jvp, value_and_grad, vjp


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def cubic(x):
    return (x**3).sum()


def difference(f, x, eps=1e-6):
    """The Jacobian of an ndarray function by central differences."""
    columns = []
    for i in range(x.size):
        step = np.zeros(x.size)
        step[i] = eps
        step = step.reshape(x.shape)
        columns.append((f(x + step) - f(x - step)) / (2 * eps))
    return np.stack(columns, -1).reshape(np.shape(columns[0]) + x.shape)


def test_grad_takes_arrays_numbers_and_tensors():
    assert grad(cubic)(np.array([1.0, 2.0])).tolist() == [3, 12]
    assert grad(lambda x: x * x)(3.0).item() == 6
    assert grad(cubic)(tg.tensor([1.0, 2.0])).tolist() == [3, 12]


def test_grad_nests_to_any_order():
    f = lambda x: x**5
    for factor in (5, 20, 60, 120, 120):
        f = grad(f)
        assert f(1.0).item() == pytest.approx(factor)


def test_grad_by_several_arguments_and_containers():
    def f(a, scale, b):
        return (a["w"] * b[0]).sum() * scale + a["c"]

    g_a, g_b = grad(f, argnums=(0, 2))({"w": np.array([1.0, 2.0]), "c": 1.0}, 3, [np.array([5.0, 7.0])])
    assert g_a["w"].tolist() == [15, 21]
    assert g_a["c"].item() == 1
    assert g_b[0].tolist() == [3, 6]


def test_the_same_tensor_twice_is_two_arguments():
    x = tg.tensor(3.0, requires_grad=True)
    a, b = grad(lambda u, v: u * u * v, argnums=(0, 1))(x, x)
    assert (a.item(), b.item()) == (18, 9)


def test_value_and_grad_with_aux():
    (value, aux), g = value_and_grad(lambda x: (cubic(x), "extra"), has_aux=True)(np.array([2.0]))
    assert (value.item(), aux, g.tolist()) == (8, "extra", [12])
    assert grad(lambda x: (cubic(x), "extra"), has_aux=True)(np.array([2.0]))[1] == "extra"


def test_grad_leaves_grad_alone_and_reaches_closures():
    w = tg.tensor([2.0, 3.0], requires_grad=True)
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    g = grad(lambda u: (u * u * w).sum())(x)
    assert w.grad is None
    assert x.grad is None
    (g * g).sum().backward()
    assert w.grad.tolist() == [16, 96]  # g = 2xw, d(g²)/dw = 8x²w
    g_of_array = grad(lambda u: (u * u * w).sum())(np.array([1.0, 2.0]))
    assert g_of_array.requires_grad, "it depends on w"


def test_grad_does_not_record_what_nobody_needs():
    assert not grad(cubic)(np.ones(2)).requires_grad
    x = tg.tensor([1.0], requires_grad=True)
    with tg.no_grad():
        g = grad(cubic)(x)
    assert g.tolist() == [3]
    assert not g.requires_grad


def test_grad_refuses_what_it_cannot_do():
    with pytest.raises(TypeError, match=r"one element, got shape \(2,\)"):
        grad(lambda x: x)(np.ones(2))
    with pytest.raises(TypeError, match="int64"):
        grad(cubic)(np.array([1, 2]))
    with pytest.raises(ValueError, match="argument 3"):
        grad(cubic, argnums=3)(np.ones(2))


def test_an_argument_without_influence_has_gradient_zero():
    assert grad(lambda a, b: (a * a).sum(), argnums=1)(np.ones(2), np.ones(3)).tolist() == [0, 0, 0]


def test_gradients_follow_torch_autograd_grad():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    w = tg.tensor([3.0, 4.0], requires_grad=True)
    h = x * w
    y = (h * x).sum()
    g_x, g_h = gradients(y, [x, h], retain_graph=True)
    assert g_x.tolist() == [6, 16]  # through h as well
    assert g_h.tolist() == [1, 2]
    assert x.grad is None
    with pytest.raises(RuntimeError, match="do not depend on input 1"):
        gradients(y, [x, tg.tensor([1.0], requires_grad=True)], retain_graph=True)
    assert gradients(y, tg.tensor([1.0], requires_grad=True), allow_unused=True, retain_graph=True) == (None,)
    assert gradients([h, x * 2], [x], [np.ones(2), np.ones(2)])[0].tolist() == [5, 6]
    with pytest.raises(RuntimeError, match="input 0 does not require grad"):
        gradients(y, [tg.tensor([1.0])])


def test_gradients_can_be_differentiated():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    (g,) = gradients((x**3).sum(), x, create_graph=True)
    (h,) = gradients(g.sum(), x)
    assert h.tolist() == [6, 12]


def mixing(x):
    return np.tanh(x @ np.arange(6.0).reshape(2, 3) / 5) * np.exp(x[:, :1])


def test_vjp_and_jvp_are_the_jacobians_products(rng):
    x, v, u = rng.normal(size=(4, 2)), rng.normal(size=(4, 2)), rng.normal(size=(4, 3))
    full = difference(mixing, x)
    y, pull = vjp(mixing, x)
    np.testing.assert_allclose(y.numpy(), mixing(x))
    for _ in range(2):
        np.testing.assert_allclose(pull(u)[0].numpy(), np.tensordot(u, full, 2), rtol=1e-7)
    y, product = jvp(mixing, [x], [v])
    np.testing.assert_allclose(y.numpy(), mixing(x))
    np.testing.assert_allclose(product.numpy(), np.tensordot(full, v, 2), rtol=1e-7)


def test_jacobian_and_hessian_against_differences(rng):
    x = rng.normal(size=(3, 2))
    np.testing.assert_allclose(jacobian(mixing)(x).numpy(), difference(mixing, x), rtol=1e-7, atol=1e-9)

    def f(x):
        return (mixing(x) ** 2).sum()

    g = lambda a: grad(f)(a).numpy()
    full = difference(g, x)
    np.testing.assert_allclose(hessian(f)(x).numpy(), full, rtol=1e-6, atol=1e-8)
    v = rng.normal(size=x.shape)
    np.testing.assert_allclose(hvp(f, [x], [v])[1].numpy(), np.tensordot(full, v, 2), rtol=1e-6, atol=1e-8)


def test_jacobian_of_several_arguments():
    a, b = jacobian(lambda x, y: x * y, argnums=(0, 1))(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    assert a.tolist() == [[3, 0], [0, 4]]
    assert b.tolist() == [[1, 0], [0, 2]]


def test_linear_functions_have_second_derivative_zero():
    assert hessian(lambda x: (2 * x).sum())(np.ones(2)).tolist() == [[0, 0], [0, 0]]
    assert hvp(lambda x: (2 * x).sum(), [np.ones(2)], [np.ones(2)])[1].tolist() == [0, 0]
    assert jvp(lambda x: tg.tensor([1.0]), [np.ones(2)], [np.ones(2)])[1].tolist() == [0]


def test_saddle_points_show_in_the_hessian():
    """The recipe's curvature row: x² - y² has a saddle at 0."""
    h = hessian(lambda p: p[0] ** 2 - p[1] ** 2)(np.zeros(2)).numpy()
    assert np.linalg.eigvalsh(h).tolist() == [-2, 2]


def test_tangents_must_fit():
    with pytest.raises(ValueError, match=r"tangent 0 has shape \(3,\)"):
        jvp(cubic, [np.ones(2)], [np.ones(3)])
    with pytest.raises(ValueError, match="one tangent per primal"):
        hvp(cubic, [np.ones(2)], [])


# checkpoint


@pytest.fixture
def leaves(rng):
    return tg.tensor(rng.normal(size=(3, 2)), requires_grad=True), tg.tensor(rng.normal(size=2), requires_grad=True)


def noisy(h, w):
    return np.tanh(h * w) * w + tg.random.uniform(shape=h.shape, dtype=np.float64)


def run(call, leaves, order):
    tg.seed(4)
    x, w = leaves
    y = (call(x * 2, w) ** 2).sum()
    found = gradients(y, [x, w], create_graph=order == 2)
    if order == 2:
        found = gradients((found[0] * found[0]).sum() + found[1].sum(), [x, w])
    return [y.item(), *[g.tolist() for g in found], tg.random.state()]


@pytest.mark.parametrize("order", [1, 2])
def test_checkpoint_equals_the_plain_call(leaves, order):
    *plain, state = run(noisy, leaves, order)
    for call in (lambda h, w: checkpoint(noisy, h, w), lambda h, w: checkpoint(lambda h: noisy(h, w), h)):
        *results, after = run(call, leaves, order)
        assert after == state
        for result, expected in zip(results, plain, strict=True):
            np.testing.assert_allclose(result, expected, rtol=1e-13)


@pytest.mark.parametrize("call", [lambda f, *a: f(*a), tg.compile], ids=["eager", "compiled"])
def test_checkpoint_of_a_module_with_other_tensors(call):
    class Scaled(nn.Module):
        def __init__(self):
            self.w = nn.Parameter(np.array([1.0, 2.0]))

        def forward(self, x):
            return checkpoint(lambda z: np.tanh(z * self.w), x)

    model, x, w = Scaled(), tg.tensor([0.5, 0.25], dtype=np.float64), np.array([3.0, -1.0])
    gradient = tg.grad(lambda v: nn.functional_call(model, {"w": v}, x).sum())
    found = call(gradient, w) if call is not tg.compile else call(gradient)(w)
    np.testing.assert_allclose(found.numpy(), x.numpy() * (1 - np.tanh(x.numpy() * w) ** 2), rtol=1e-13)
    assert model.w.grad is None


def test_checkpoint_keeps_nothing_and_runs_twice(leaves):
    calls, state = [], tg.tensor(0.0)

    def f(h):
        calls.append(1)
        state.assign(state + 1)
        return np.exp(h) * h

    y = checkpoint(f, leaves[0])
    assert [a for a in y.node.args if isinstance(a, np.ndarray) and a is not leaves[0].data] == []
    y.sum().backward()
    assert len(calls) == 2
    assert state.item() == 1, "state is updated once"
    x = leaves[0].detach().numpy()
    np.testing.assert_allclose(leaves[0].grad.numpy(), np.exp(x) * (1 + x))


def test_checkpoint_of_several_outputs_and_nested(leaves):
    x, w = leaves

    def pair(h):
        return h * w, checkpoint(np.sin, h)

    a, b = checkpoint(pair, x)
    (a.sum() + (b * b).sum()).backward()
    v = x.detach().numpy()
    np.testing.assert_allclose(x.grad.numpy(), w.detach().numpy() + 2 * np.sin(v) * np.cos(v))
    np.testing.assert_allclose(w.grad.numpy(), v.sum(0))


def test_checkpoint_refuses_other_results(leaves):
    with pytest.raises(TypeError, match="return Tensors, got float"):
        checkpoint(lambda h: 1.0, leaves[0])


def test_gradients_of_an_inner_tensor_leave_the_graph_behind_it():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    h = np.exp(x)
    (g,) = tg.gradients((h * h).sum(), h)
    np.testing.assert_allclose(g.numpy(), 2 * np.exp([1.0, 2.0]), rtol=1e-6)
    h.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.exp([1.0, 2.0]), rtol=1e-6)


def test_the_hessian_of_several_arguments_is_made_of_blocks():
    a, b = np.array([1.0, 2.0]), np.array([0.5, -1.0, 3.0])
    blocks = tg.hessian(lambda a, b: (a * a * a).sum() * b.sum() + (b * b).sum(), argnums=(0, 1))(a, b)
    expected = [
        [np.diag(6 * a) * b.sum(), np.outer(3 * a * a, np.ones(3))],
        [np.outer(np.ones(3), 3 * a * a), 2 * np.eye(3)],
    ]
    for row, rows in zip(blocks, expected, strict=True):
        for block, matrix in zip(row, rows, strict=True):
            np.testing.assert_allclose(block.numpy(), matrix, rtol=1e-12)


@pytest.mark.parametrize(
    "call",
    [
        lambda f: tg.grad(f)(np.ones(2)),
        lambda f: tg.jacobian(f)(np.ones(2)),
        lambda f: tg.hvp(f, (np.ones(2),), (np.ones(2),)),
        lambda f: tg.vjp(f, np.ones(2)),
        lambda f: tg.jvp(f, (np.ones(2),), (np.ones(2),)),
    ],
)
def test_functions_of_several_results_are_refused(call):
    with pytest.raises(TypeError, match="returns one Tensor, got"):
        call(lambda x: (x, 2 * x))
    with pytest.raises(TypeError, match="returns one Tensor, got None"):
        call(lambda x: None)


def test_checkpoint_repeats_the_draws_of_a_layers_own_generator():
    layer = tg.nn.Dropout(0.5, rng=3)
    x = tg.tensor(np.ones(50), requires_grad=True)
    y = tg.checkpoint(lambda t: tg.checkpoint(layer, t) + layer(t), x)
    state = layer.rng.bit_generator.state
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())
    assert layer.rng.bit_generator.state == state


def test_checkpoint_remembers_its_arguments_as_they_were():
    x = tg.tensor([0.1, 0.2, 0.3], requires_grad=True)
    h = x * 3
    y = tg.checkpoint(np.sin, h).sum()
    h *= 100
    y.backward()
    np.testing.assert_allclose(x.grad.numpy(), 3 * np.cos([0.3, 0.6, 0.9]), rtol=1e-6)


def test_products_are_recorded_in_their_tangents():
    x = np.array([1.0, 2.0])
    slope = tg.grad(lambda u: tg.jvp(lambda z: z**2, (x,), (u,))[1].sum())(np.ones(2))
    np.testing.assert_allclose(slope.numpy(), 2 * x)
    slope = tg.grad(lambda u: tg.hvp(lambda z: (z**3).sum(), (x,), (u,))[1].sum())(np.ones(2))
    np.testing.assert_allclose(slope.numpy(), 6 * x)
    slope = tg.grad(lambda a: tg.hvp(lambda z: (z**3).sum() * a, (x,), (np.ones(2),))[0])(np.array(2.0))
    np.testing.assert_allclose(slope.item(), (x**3).sum())


def test_checkpoint_asks_for_no_gradient_where_there_is_none():
    y, i = tg.checkpoint(lambda x: (x * 2, x.argmax()), tg.tensor([1.0, 2.0], requires_grad=True))
    assert y.requires_grad
    assert not i.requires_grad
    assert not tg.checkpoint(lambda x: x * 2, tg.tensor([1.0])).requires_grad


def test_what_is_no_tensor_is_refused_by_place():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(TypeError, match=r"expected Tensors in inputs, got float64 .* at place 0"):
        tg.gradients((x * x).sum(), np.ones(2))
    with pytest.raises(TypeError, match=r"expected Tensors in outputs, got 3.0 at place 0"):
        tg.gradients(3.0, x)
    with pytest.raises(TypeError, match="can differentiate by Tensors, arrays and numbers only, got None"):
        tg.grad(lambda d: d["a"].sum())({"a": np.ones(2), "b": None})


def test_named_tuples_keep_their_kind():
    Pair = namedtuple("Pair", "a b")
    g = tg.grad(lambda p: (p.a * p.b).sum())(Pair(np.ones(2), np.full(2, 3.0)))
    assert type(g) is Pair
    np.testing.assert_array_equal(g.a.numpy(), [3, 3])


def test_what_is_no_tuple_is_refused_in_words():
    with pytest.raises(TypeError, match="jvp: expected primals and tangents in tuples"):
        jvp(lambda x: x * 2, np.ones(2), np.ones(2))
    with pytest.raises(TypeError, match="hvp: expected primals and tangents in tuples"):
        hvp(lambda x: (x * x).sum(), np.ones(2), np.ones(2))
    with pytest.raises(TypeError, match=r"has_aux: expected the function to give \(value, aux\)"):
        grad(lambda x: (x * x).sum(), has_aux=True)(np.ones(2))


@pytest.mark.parametrize("transform", [tg.grad, tg.value_and_grad, tg.hessian], ids=lambda f: f.__name__)
def test_a_message_names_the_transform_that_was_called(transform):
    with pytest.raises(TypeError, match=rf"^{transform.__name__}: expected a function of one element"):
        transform(lambda x: x * x)(np.ones(2))
