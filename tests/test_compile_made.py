"""What a step itself makes, tensors, modules and optimizers, is new at every call; what it leaves behind is state."""

import copy

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl import nn, optim

BACKENDS = ["interpreter", "numpy", "native"]
STEPS = {}


def step(make):
    """Register what gives a step and where to look for its state."""
    STEPS[make.__name__] = make
    return make


def parameter():
    return nn.Parameter(np.array([1.0, 2.0]))


@step
def an_attack():
    w = parameter()

    def f(x):
        d = tg.tensor(np.zeros(2), requires_grad=True)
        (w * np.tanh(x + d)).sum().backward()
        d.assign(d.detach() + 0.1 * np.sign(d.grad) * x)
        return d

    return f, []


@step
def a_leaf_of_an_argument():
    def f(x):
        d = tg.tensor(x, requires_grad=True)
        (d**3).sum().backward()
        with tg.no_grad():
            d += d.grad
        return {"new": d}

    return f, []


def inner_loop(optimizer, **options):
    def make():
        w = parameter()

        def f(x):
            d = nn.Parameter(np.zeros(2))
            inner = optimizer([d], **options)
            for _ in range(3):
                inner.zero_grad()
                (w * (d - x) ** 2).sum().backward()
                inner.step()
            return d.detach()

        return f, []

    return make


STEPS["inner SGD"] = inner_loop(optim.SGD, lr=0.1)
STEPS["inner momentum"] = inner_loop(optim.SGD, lr=0.1, momentum=0.9)
STEPS["inner Adam"] = inner_loop(optim.Adam, lr=0.1)


@step
def an_inner_schedule():
    w = parameter()

    def f(x):
        inner = optim.SGD([w], lr=0.1)
        schedule = optim.lr_scheduler.StepLR(inner, 1, 0.5)
        for _ in range(3):
            inner.zero_grad()
            (w * w * x).sum().backward()
            inner.step()
            schedule.step()
        return w.detach()

    return f, [w]


@step
def an_optimizer_for_each_call():
    w = parameter()

    def f(x):
        inner = optim.Adam([w], lr=0.1)
        inner.zero_grad()
        (w * w * x).sum().backward()
        inner.step()
        return w.detach()

    return f, [w]


@step
def a_module_for_each_call():
    def f(x):
        norm = nn.BatchNorm1d(2)
        return norm(np.stack([x, 2 * x, 0 * x])).sum() + norm.running_mean.sum()

    return f, []


@step
def a_copy_of_a_module():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).astype(np.float64)

    def f(x):
        with tg.no_grad():
            model[0].weight.assign(model[0].weight + 1)
            model[1].running_mean.assign(model[1].running_mean + 1)
        target = copy.deepcopy(model).eval().requires_grad_(False)
        return target(np.stack([x, 2 * x, x * x]))

    return f, [*model.parameters(), *model.buffers()]


@step
def an_inner_loop_on_a_copy():
    model = nn.Linear(2, 2).astype(np.float64)

    def f(x):
        fast = copy.deepcopy(model)
        inner = optim.Adam(fast.parameters(), lr=0.1)
        for _ in range(3):
            inner.zero_grad()
            (fast(x[None]) ** 2).sum().backward()
            inner.step()
        with tg.no_grad():
            for p, q in zip(model.parameters(), fast.parameters(), strict=True):
                p.assign(p + 0.1 * (q - p))
        return fast.weight.detach()

    return f, [*model.parameters()]


@step
def a_module_with_the_state_of_another():
    model = nn.Linear(2, 2).astype(np.float64)

    def f(x):
        other = nn.Linear(2, 2).astype(np.float64)
        other.load_state_dict(model.state_dict())
        model.weight.assign(model.weight.detach() * 2)
        return other(x[None]).detach()

    return f, [*model.parameters()]


@step
def a_module_with_a_frozen_parameter():
    def f(x):
        layer = nn.Linear(2, 1).astype(np.float64)
        layer.weight.assign(np.ones((1, 2)))
        layer.bias.requires_grad = False
        inner = optim.SGD(layer.parameters(), lr=0.1)
        (layer(x[None]) ** 2).sum().backward()
        inner.step()
        return layer.weight.detach()

    return f, []


@step
def a_buffer_made_at_the_first_call():
    class Average(nn.Module):
        def __init__(self):
            self.kept = None

        def forward(self, x):
            if self.kept is None:
                self.kept = nn.Buffer(np.zeros(2))
            self.kept.assign(self.kept * 0.5 + x)
            return self.kept * 1

    return Average(), []


def made_at_the_first_call(place, make):
    """In a dict, a list or an object."""

    def build():
        table, items, thing = {}, [], type("Thing", (), {"kept": None})()

        def found():
            if place == "dict":
                if "kept" not in table:
                    table["kept"] = make()
                return table["kept"]
            if place == "list":
                if not items:
                    items.append(make())
                return items[0]
            if thing.kept is None:
                thing.kept = make()
            return thing.kept

        def f(x):
            kept = found()
            kept.assign(kept * 0.5 + x)
            return kept * 1

        return f, []

    return build


for place in ("dict", "list", "object"):
    STEPS[f"a buffer in the {place}"] = made_at_the_first_call(place, lambda: nn.Buffer(np.zeros(2)))
    STEPS[f"a tensor in the {place}"] = made_at_the_first_call(place, lambda: tg.tensor(np.zeros(2)))


@step
def an_optimizer_made_at_the_first_call():
    w, kept = parameter(), []

    def f(x):
        if not kept:
            kept.append(optim.Adam([w], lr=0.1))
        kept[0].zero_grad()
        (w * w * x).sum().backward()
        kept[0].step()
        return w.detach()

    return f, [w]


@step
def momentum_by_hand():
    w, kept = parameter(), {}

    def f(x):
        w.grad = None
        (w * w * x).sum().backward()
        v = kept.setdefault(w, tg.tensor(np.zeros(2)))
        v *= 0.9
        v += w.grad
        with tg.no_grad():
            w.assign(w - 0.1 * v)
        return v.detach()

    return f, [w]


def own_optimizer(state):
    class Momentum(optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {"lr": 0.1})

        def init_state(self, p, group):
            return {"v": state(p)}

        def update(self, p, g, state, o):
            v = state["v"]
            v *= 0.9
            v += g
            p -= o["lr"] * v

    def make():
        w = parameter()
        optimizer = Momentum([w])

        def f(x):
            optimizer.zero_grad()
            (w * w * x).sum().backward()
            optimizer.step()
            return w.detach()

        return f, [w]

    return make


STEPS["an optimizer of one's own"] = own_optimizer(lambda p: tg.tensor(np.zeros_like(p.data)))
STEPS["state that operations give"] = own_optimizer(lambda p: p.detach() * 2)
STEPS["state that is the parameter"] = own_optimizer(lambda p: p.detach())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", STEPS)
def test_every_call_is_that_of_the_step(name, backend):
    runs = []
    for compiled in (lambda f: f, tg.compile(backend=backend)):
        tg.seed(0)
        f, state = STEPS[name]()
        f = compiled(f)
        results = [f(np.array([k, 1.0])) for k in (1.0, 2.0, 3.0, 4.0, 5.0)]  # looked at when all have been made
        results = [r["new"] if isinstance(r, dict) else r for r in results]
        runs.append([t.detach().numpy() for t in (*results, *state)])
    for ours, theirs in zip(*runs, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize(
    "name", ["a_leaf_of_an_argument", "a_module_for_each_call", "a_module_with_a_frozen_parameter", "inner SGD"]
)
def test_what_is_gone_when_the_step_ends_is_no_reason_to_record_it_again(name):
    f = tg.compile(STEPS[name]()[0])
    for _ in range(2):  # the second time there may be a gradient
        f(np.ones(2))
    before = len(f.programs)
    for _ in range(3):
        f(np.ones(2))
    assert len(f.programs) == before


def test_a_schedule_of_an_optimizer_from_outside_is_refused():
    w = parameter()
    optimizer = optim.SGD([w], lr=0.1)

    @tg.compile
    def f(x):
        schedule = optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        (w * x).sum().backward()
        optimizer.step()
        schedule.step()

    with pytest.raises(RuntimeError, match=r"(?s)StepLR was created in the step.*create it where"):
        f(np.ones(2))


def test_explain_says_that_something_was_left_behind():
    f = tg.compile(STEPS["a tensor in the object"]()[0])
    for _ in range(3):
        f(np.ones(2))
    assert len(f.programs) == 1  # what can run no more is not kept
    assert "the previous step created" in f.explain()


@pytest.mark.parametrize("backend", BACKENDS)
def test_plain_arrays_among_the_results(backend):
    kept = np.arange(3.0)
    f = tg.compile(lambda x: (x * 2, kept, np.float32(3), nn.functional.one_hot(np.array([0, 2]), 3)), backend=backend)
    for _ in range(3):
        doubled, same, number, hot = f(np.ones(3))
        np.testing.assert_array_equal(doubled.numpy(), [2, 2, 2])
        np.testing.assert_array_equal(same, kept)
        assert number == 3
        np.testing.assert_array_equal(np.asarray(hot), [[1, 0, 0], [0, 0, 1]])
