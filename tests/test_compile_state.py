"""Compiled steps whose optimizer, modules or options change between calls: it is seen, or refused."""

import numpy as np
import pytest
from programs import ones

import tinygrad_dl as tg
from tinygrad_dl import nn, optim


@pytest.mark.parametrize("error", [KeyError, ValueError])
def test_an_optimizer_that_fails_has_not_counted(error):
    class Fails(optim.SGD):
        fails = False

        def constants(self, state, group):
            if self.fails:
                raise error("no")
            return super().constants(state, group)

    weights = [nn.Parameter(ones()), nn.Parameter(ones())]
    optimizer = Fails(weights, lr=0.1)

    @tg.compile
    def step(x):
        optimizer.zero_grad()
        ((weights[0] + weights[1]) * x).sum().backward()
        optimizer.step()

    for _ in range(3):
        step(ones())
    optimizer.fails = True
    with pytest.raises(error, match="no"):
        step(ones())
    assert [optimizer.state[w]["step"] for w in weights] == [3, 3]
    optimizer.fails = False
    step(ones())
    assert [optimizer.state[w]["step"] for w in weights] == [4, 4]
    np.testing.assert_allclose(weights[0].detach().numpy(), 0.6, rtol=1e-6)


def test_a_new_optimizer_state_is_used():
    w = nn.Parameter(ones())
    optimizer = optim.SGD([w], lr=0.1, momentum=0.9)

    @tg.compile
    def step():
        optimizer.zero_grad()
        w.sum().backward()
        optimizer.step()

    step()
    step()
    fresh = optim.SGD([w], lr=0.1, momentum=0.9).state_dict()
    optimizer.load_state_dict(fresh)
    step()
    assert optimizer.state[w]["step"] == 1
    np.testing.assert_allclose(optimizer.state[w]["momentum_buffer"].numpy(), 1)


def test_freezing_is_seen():
    model = nn.Linear(2, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    @tg.compile
    def step(x):
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()

    x = np.ones((1, 2), np.float32)
    step(x)
    model.weight.requires_grad = False
    before = model.weight.detach().numpy().copy()
    step(x)
    np.testing.assert_array_equal(model.weight.detach().numpy(), before)


def test_casting_the_model_is_seen():
    model = nn.Linear(2, 1)
    f = tg.compile(lambda x: model(x))
    x = np.ones((1, 2))
    assert f(x.astype(np.float32)).dtype == np.float32
    model.astype(np.float64)
    assert f(x.astype(np.float32)).dtype == np.float64


def test_an_attribute_that_a_module_gets_later_is_seen():
    class Scaled(nn.Module):
        factor = 1.0

        def forward(self, x):
            return x * self.factor

    model = Scaled()
    step = tg.compile(lambda x: model(x))
    x = np.ones(3)
    assert step(x).numpy().tolist() == [1.0] * 3
    model.factor = 2.0
    assert step(x).numpy().tolist() == [2.0] * 3
    del model.factor
    assert step(x).numpy().tolist() == [1.0] * 3
    assert len(step.programs) == 2


def test_a_parameter_that_gets_a_gradient_later_is_updated():
    a, b = (tg.tensor([1.0], requires_grad=True) for _ in range(2))
    optimizer = optim.SGD([a, b], lr=1.0)

    @tg.compile
    def step():
        (a * a).sum().backward()
        optimizer.step()
        a.grad = None

    step()
    b.grad = tg.tensor([2.0])
    step()
    assert b.item() == -1.0
    assert len(step.programs) == 2


def test_groups_of_equal_options():
    a, b = (tg.tensor(np.ones(3), requires_grad=True) for _ in range(2))
    optimizer = optim.Adam([{"params": [a]}, {"params": [b]}], lr=0.1)

    @tg.compile
    def step():
        optimizer.zero_grad()
        (a * b).sum().backward()
        optimizer.step()

    for _ in range(3):
        step()
    np.testing.assert_allclose(a.detach().numpy(), 0.7, atol=0.01)  # Adam moves by the rate, about
    np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())


@pytest.mark.parametrize("options", [{"betas": [0.9, 0.99]}, {"lr": np.array(0.1)}, {"lr": tg.tensor(0.1)}])
def test_an_option_that_could_be_changed_in_place_is_refused(options):
    w = nn.Parameter(np.ones(2))
    optimizer = optim.Adam([w], lr=0.1)

    @tg.compile
    def step(x):
        optimizer.zero_grad()
        (w * x).sum().backward()
        optimizer.step()

    step(np.ones(2))
    optimizer.param_groups[0].update(options)
    before = w.detach().numpy().copy()
    with pytest.raises(TypeError, match=f"Adam: expected the option {next(iter(options))} to be a number or a tuple"):
        step(np.ones(2))
    np.testing.assert_array_equal(w.detach().numpy(), before)
    assert optimizer.state[w]["step"] == 1
    optimizer.param_groups[0].update(lr=0.1, betas=(0.9, 0.999))
    step(np.ones(2))
