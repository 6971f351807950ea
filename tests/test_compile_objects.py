"""Compiled steps of programs made of objects: agents in trainers, containers of one's own, state made at first."""

import copy
import types
from collections import OrderedDict, defaultdict, deque

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl import nn, optim

F = nn.functional
ONES = np.ones((4, 2), np.float32)
BATCHES = [np.full(3, float(i)) for i in range(4)]


class Agent:
    def __init__(self, seed):
        tg.seed(seed)
        self.net = nn.Linear(2, 1)
        self.optimizer = optim.SGD(self.net.parameters(), lr=0.1)

    def learn(self, x):
        self.optimizer.zero_grad()
        loss = (self.net(x) ** 2).mean()
        loss.backward()
        self.optimizer.step()
        return loss


class Trainer:
    def __init__(self):
        self.agent, self.agents = Agent(0), [Agent(1)]

    def step(self, x):
        return self.agent.learn(x) + self.agents[0].learn(x)


def replace(trainer, seed):
    trainer.agent, trainer.agents[0] = Agent(seed), Agent(seed + 1)


def test_objects_may_be_replaced_by_others():
    runs = []
    for compiled in (lambda f: f, tg.compile):
        trainer = Trainer()
        step = compiled(trainer.step)
        losses = []
        for seed in range(3):
            replace(trainer, seed)
            losses += [step(ONES).item() for _ in range(3)]
        runs.append(losses)
    np.testing.assert_allclose(*runs, rtol=1e-5)


class Base:
    def __init__(self):
        self.w, self.history, self.steps = nn.Parameter(np.array([3.0, 4.0])), [], 0
        self.latest = None

    def loss(self, x):
        return ((self.w * x) ** 2).sum()

    @tg.compile
    def step(self, x):
        self.w.grad = None
        loss = self.loss(x)
        loss.backward()
        self.latest = loss
        return loss

    def fit(self, batches):
        for x in batches:
            self.steps += 1
            self.history.append(self.step(x).item())


class Regularised(Base):
    def loss(self, x):
        return super().loss(x) + (self.w * self.w).sum()


def test_what_only_other_methods_read_is_not_looked_at():
    one = Regularised()
    one.fit([np.ones(2)] * 6)
    assert one.history == [50.0] * 6
    assert len(Base.step.programs) <= 2, Base.step.explain()


def helpers():
    module = types.ModuleType("helpers")
    module.__file__ = "/somewhere/helpers.py"
    exec("def act(x): return x * 2", module.__dict__)
    return module


class Patched(nn.Module):
    def forward(self, x):
        return x * 2


class Property:
    @property
    def gain(self):
        return 2.0

    def act(self, x):
        return x * 2


def patched():
    kind = type("Net", (Patched,), {"forward": Patched.forward})
    return kind()


def with_property():
    kind = type("Gain", (Property,), {"gain": Property.gain})
    return kind()


@pytest.mark.parametrize(
    ("make", "use", "change"),
    [
        (lambda: types.SimpleNamespace(act=np.exp), lambda o, x: o.act(x), lambda o: setattr(o, "act", np.tanh)),
        (patched, lambda o, x: o(x), lambda o: setattr(type(o), "forward", lambda self, x: x * 5)),
        (with_property, lambda o, x: x * o.gain, lambda o: setattr(type(o), "gain", property(lambda self: 9.0))),
        (Property, lambda o, x: o.act(x), lambda o: setattr(o, "act", lambda x: x * 7)),
        (helpers, lambda o, x: o.act(x), lambda o: exec("def act(x): return x * 3", o.__dict__)),
    ],
    ids=["attribute", "method", "property", "method of one object", "reloaded module"],
)
def test_functions_may_be_replaced_by_others(make, use, change):
    one = make()
    f = tg.compile(lambda x: use(one, x))
    for _ in range(2):
        np.testing.assert_allclose(f(BATCHES[1]), use(one, BATCHES[1]))
    change(one)
    for _ in range(2):
        np.testing.assert_allclose(f(BATCHES[1]), use(one, BATCHES[1]))


def test_what_a_notebook_reloads_is_seen():
    def act(x):
        return x * 2

    def edited(x):
        return x * 3

    class Edited(nn.Module):
        def forward(self, x):
            return x * 5

    model = patched()
    f = tg.compile(lambda x: model(x) + act(x))
    f(BATCHES[1])
    act.__code__ = edited.__code__
    np.testing.assert_array_equal(f(BATCHES[1]).numpy(), [5, 5, 5])
    model.__class__ = Edited
    np.testing.assert_array_equal(f(BATCHES[1]).numpy(), [8, 8, 8])
    assert "the class of model was Net, is Edited" in f.explain()


class Unset:
    __slots__ = ("scale",)


def test_a_slot_that_is_set_later_is_seen():
    one = Unset()
    f = tg.compile(lambda x: x * getattr(one, "scale", 2.0))
    for want in (2, 2, 3, 3, 2):
        if want == 3:
            one.scale = 3.0
        elif hasattr(one, "scale"):
            del one.scale
        np.testing.assert_array_equal(f(BATCHES[1]).numpy(), want * BATCHES[1])


class Stack(list):
    pass


@pytest.mark.parametrize(
    ("pack", "unpack"),
    [
        (lambda x: OrderedDict(x=x), lambda b: b["x"]),
        (lambda x: defaultdict(list, x=x), lambda b: b["x"]),
        (lambda x: Stack([x]), lambda b: b[0]),
        (lambda x: [OrderedDict(x=(x,))], lambda b: b[0]["x"][0]),
    ],
)
def test_kinds_of_dicts_and_lists_are_arguments_and_results(pack, unpack):
    f = tg.compile(lambda batch: pack(unpack(batch) * 2))
    same = pack(BATCHES[0])
    for x in BATCHES:
        result = f(pack(x))
        assert type(result) is type(same)
        np.testing.assert_array_equal(unpack(result), x * 2)
    assert len(f.programs) == 1


@pytest.mark.parametrize(
    "pack",
    [
        lambda x: {x},
        lambda x: deque([x]),
        lambda x: {"a": x}.values(),
        lambda x: {"a": x}.items(),
        lambda x: zip("a", [x], strict=True),
    ],
)
def test_other_containers_of_results_are_refused(pack):
    f = tg.compile(lambda x: pack(x.sum()))
    with pytest.raises(RuntimeError, match=r"got a \w+ with a tensor in it; make it of the results"):
        f(BATCHES[1])


def test_a_deque_is_looked_at():
    recent = deque(maxlen=2)
    f = tg.compile(lambda x: x + sum(part for part in recent))
    for x in BATCHES:
        recent.append(x)
        np.testing.assert_array_equal(f(x).numpy(), x + sum(recent))


class Momentum:
    """As one writes it in PyTorch: what is kept is made at the first step, by an operation."""

    def __init__(self, parameters):
        self.parameters, self.kept, self.last = list(parameters), {}, None

    def step(self):
        with tg.no_grad():
            for i, p in enumerate(self.parameters):
                if i in self.kept:
                    self.kept[i].assign(0.9 * self.kept[i] + p.grad)
                else:
                    self.kept[i] = p.grad.detach().copy()
                if self.last is None:
                    self.last = np.zeros_like(p)
                self.last.assign(0.5 * self.last + p.grad)
                p -= 0.1 * self.kept[i] + 0.01 * self.last


@pytest.mark.parametrize("backend", ["interpreter", "numpy", "native"])
def test_state_that_an_operation_makes_at_the_first_call(backend):
    runs = []
    for compiled in (lambda f: f, tg.compile(backend=backend)):
        w = nn.Parameter(np.array([1.0, 2.0]))
        momentum = Momentum([w])

        def step(x, w=w, momentum=momentum):
            w.grad = None
            loss = ((w - x) ** 2).sum()
            loss.backward()
            momentum.step()
            return loss

        f = compiled(step)
        runs.append([f(np.zeros(2)).item() for _ in range(6)])
    np.testing.assert_allclose(*runs, rtol=1e-12)
    assert len(f.programs) <= 2, f.explain()


def test_collections_and_arrays_that_a_step_replaces_are_not_state():
    class Logging:
        def __init__(self):
            self.outputs, self.named, self.array = [], {}, np.ones(3)

        def step(self, x):
            count = len(self.outputs) + len(self.named)
            y = x * self.array
            self.outputs, self.named, self.array = [y], {"y": y}, np.ones(3)
            return y, count

    one = Logging()
    f = tg.compile(one.step)
    for x in BATCHES:
        np.testing.assert_array_equal(f(x)[0].numpy(), x)


def test_state_of_an_object_that_is_bound_anew_is_refused():
    class Recurrent:
        def __init__(self):
            self.h, self.out = tg.tensor(np.zeros(2)), None

        def step(self, x):
            self.out = x * 2
            self.h = 0.9 * self.h + self.out
            return self.h.sum()

    with pytest.raises(
        RuntimeError, match=r"self.h was bound to a new tensor in the step; write self.h.assign\(value\)"
    ):
        tg.compile(Recurrent().step)(np.ones(2))


@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_chains_may_be_longer_than_pythons_stack(backend):
    steps = nn.Buffer(np.zeros(()))

    @tg.compile(backend=backend)
    def euler(x):
        for _ in range(1200):
            x = x + 0.01 * x
        steps.assign(steps + 1)
        return x

    for _ in range(2):
        np.testing.assert_allclose(euler(np.ones(3)).numpy(), 1.01**1200, rtol=1e-11)
    assert steps.item() == 2


def test_what_has_a_compiled_method_can_be_copied():
    class Model(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(2, 1)
            self.predict = tg.compile(self._predict, backend="numpy")

        def _predict(self, x):
            return self.layer(x)

        forward = _predict

    one = Model()
    one.predict(ONES)
    other = copy.deepcopy(one)
    other.layer.weight.assign(np.zeros((1, 2)))
    other.layer.bias.assign(np.ones(1))
    np.testing.assert_array_equal(other.predict(ONES).numpy(), np.ones((4, 1)))
    np.testing.assert_array_equal(one.predict(ONES).numpy(), one(ONES).detach().numpy())
    assert "run by numpy" in other.predict.explain()


def test_what_a_compiled_function_knows_of_itself_is_not_looked_at():
    compiled = tg.compile(lambda x: x * 2)

    @tg.compile
    def step(x):
        return compiled(x) + len(compiled._recorded) * 0

    for _ in range(4):
        step(BATCHES[1])
        compiled(BATCHES[1])
    assert len(step.programs) == 1


def test_generators_are_refused():
    def gen(x):
        yield x

    with pytest.raises(TypeError, match="expected a function that returns its results, got a generator"):
        tg.compile(gen)


@pytest.mark.parametrize("pick", [lambda w, y: w[y], lambda w, y: np.eye(3)[y], lambda w, y: np.take(w, y)])
def test_a_pick_from_an_array_says_what_to_write(pick):
    with pytest.raises(RuntimeError, match=r"write tg.tensor\(array\)\[tensor\].*\n?.*lambda w, y") as raised:
        tg.compile(lambda y: pick(np.ones(3), y))(np.array([0, 2]))
    assert "fromnumeric" not in str(raised.value)


def test_a_mode_that_is_set_as_it_is_changes_nothing():
    model = nn.Sequential(nn.Linear(2, 2))
    f = tg.compile(lambda x: model(x))
    f(ONES)
    model.train()
    f(ONES)
    assert len(f.programs) == 1
