"""What a compiled function looks at before it runs a program again: a change of it is seen, and nothing else is."""

import types

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl import nn

X = np.array([1.0, -2.0])
CHANGES = {}
SCALE = 2.0


def change(make):
    """Register what gives a function and a change that it must see."""
    CHANGES[make.__name__] = make
    return make


def eval_of(model):
    return lambda: setattr(model, "training", False)


@change
def a_dict_of_modules_that_grows():
    class Chain(nn.Module):
        def __init__(self):
            self.parts = {"first": nn.Linear(2, 2)}

        def forward(self, x):
            for part in self.parts.values():
                x = part(x)
            return x

    model = Chain().astype(np.float64)
    return lambda x: model(x[None]), lambda: model.parts.update(second=nn.Linear(2, 2).astype(np.float64))


@change
def a_dict_of_numbers_that_grows():
    numbers = {"k": 1.0}
    return lambda x: x * sum(numbers.values()), lambda: numbers.update(j=3.0)


@change
def a_dict_of_numbers_that_shrinks():
    numbers = {"k": 1.0, "j": 3.0}
    return lambda x: x * numbers.get("j", 2.0), lambda: numbers.pop("j")


def trainer(method):
    class Trainer:
        def __init__(self):
            self.parts = types.SimpleNamespace(model=nn.Sequential(nn.Dropout(0.5)), names=["a"])
            self.w = nn.Parameter(np.array([3.0, 4.0]))
            self.history, self.count = [], 0

        def step(self, x):
            self.w.grad = None
            (self.parts.model(x) * self.w).sum().backward()
            return self.w.grad if self.w.grad is not None else x * 0

        if method:
            step = tg.compile(step)

    return Trainer()


@change
def a_mode_behind_an_object():
    one = trainer(method=False)
    return lambda x: one.step(x), eval_of(one.parts.model)


@change
def a_mode_behind_the_object_of_a_method():
    one = trainer(method=False)
    return one.step, eval_of(one.parts.model)


@change
def a_model_behind_an_object():
    one = trainer(method=False)
    return lambda x: one.step(x), lambda: setattr(one.parts, "model", nn.Sequential())


@change
def a_mode_in_a_list_behind_an_object():
    one = types.SimpleNamespace(models=[nn.Dropout(0.5)])
    return lambda x: one.models[0](x), eval_of(one.models[0])


@change
def a_frozen_parameter_behind_an_object():
    one = types.SimpleNamespace(w=nn.Parameter(np.ones(2)), b=nn.Parameter(np.ones(2)))

    def f(x):
        one.w.grad = one.b.grad = None
        (one.w * x + one.b).sum().backward()
        return 1.0 if one.w.grad is None else 2.0

    return f, lambda: setattr(one.w, "requires_grad", False)


@change
def a_mode_behind_an_object_that_is_an_argument():
    one = trainer(method=False)
    return lambda x: type(one).step(one, x), eval_of(one.parts.model)


class Scaled(nn.Module):
    factor = 1.0

    def forward(self, x):
        return self.helper(x) + self.shown

    def helper(self, x):
        return x * SCALE * self.factor

    @property
    def shown(self):
        return SCALE


class Inherited(Scaled):
    def forward(self, x):
        return super().forward(x)


@pytest.fixture(autouse=True)
def _globals(monkeypatch):
    monkeypatch.setattr(Scaled, "factor", 1.0)
    monkeypatch.setitem(globals(), "SCALE", 2.0)


@change
def a_global_of_another_method():
    model = Scaled()
    return lambda x: model(x), lambda: globals().update(SCALE=3.0)


@change
def a_global_of_an_inherited_method():
    model = Inherited()
    return lambda x: model(x), lambda: globals().update(SCALE=3.0)


@change
def an_attribute_of_the_class():
    model = Inherited()
    return lambda x: model(x), lambda: setattr(Scaled, "factor", 5.0)


@change
def a_default_of_a_keyword():
    model = nn.Dropout(0.5)

    def f(x, *, model=model):
        return model(x)

    return f, eval_of(model)


@change
def a_mode_behind_another_compiled_function():
    model = nn.Dropout(0.5)
    inner = tg.compile(lambda x: model(x))
    return lambda x: inner(x) * 2, eval_of(model)


@change
def a_mode_in_a_set():
    models = {nn.Dropout(0.5)}
    return lambda x: sum(model(x) for model in models), eval_of(*models)


@change
def a_set_that_grows():
    numbers = {1.0}
    return lambda x: x * sum(numbers), lambda: numbers.add(3.0)


@change
def a_variable_that_is_bound_later():
    def f(x):
        try:
            return x * factor
        except NameError:
            return x

    def bind():
        nonlocal factor
        factor = 3.0

    if False:
        factor = None
    return f, bind


@change
def a_global_that_is_bound_later():
    def f(x):
        try:
            return x * LATER
        except NameError:
            return x

    return f, lambda: globals().update(LATER=3.0)


@change
def another_element_of_a_set():
    numbers = {2.0}

    def replace():
        numbers.clear()
        numbers.add(3.0)

    return lambda x: x * sum(numbers), replace


@change
def the_order_of_models_behind_an_object():
    one = types.SimpleNamespace(models=[nn.Dropout(0.5), nn.Sequential()])
    return lambda x: one.models[0](x), lambda: one.models.reverse()


@change
def a_mode_behind_an_object_with_slots():
    class Slotted:
        __slots__ = ("model",)

    one = Slotted()
    one.model = nn.Dropout(0.5)
    return lambda x: one.model(x), eval_of(one.model)


@change
def a_mode_behind_a_class():
    class Space:
        model = nn.Dropout(0.5)

    return lambda x: Space.model(x), eval_of(Space.model)


@change
def a_number_of_a_python_module():
    module = types.ModuleType("settings")
    module.__file__ = "settings.py"
    module.factor = 2.0
    return lambda x: x * module.factor, lambda: setattr(module, "factor", 3.0)


@change
def a_global_of_a_helper_of_any_class():
    class Helped:
        def __call__(self, x):
            return self.times(x)

        @staticmethod
        def times(x):
            return x * SCALE

    return Helped(), lambda: globals().update(SCALE=3.0)


@change
def the_sign_of_a_zero():
    numbers = {"k": 0.0}
    return lambda x: np.copysign(x, numbers["k"]), lambda: numbers.update(k=-0.0)


@change
def the_order_of_a_dict():
    parts = {"first": lambda x: x * 2, "second": lambda x: x + 1}

    def f(x):
        for part in parts.values():
            x = part(x)
        return x

    return f, lambda: parts.update(first=parts.pop("first"))


@change
def one_of_many_entries():
    numbers = {str(i): float(i) for i in range(1000)}
    return lambda x: x * sum(numbers.values()), lambda: numbers.update({"7": 8.0})


@change
def one_of_many_parts():
    numbers = [float(i) for i in range(1000)]
    return lambda x: x * sum(numbers), lambda: numbers.__setitem__(7, 8.0)


class Base:
    def go(self, x):
        return x * SCALE


class Inheriting(Base):
    pass


@change
def a_global_of_a_method_that_is_inherited_by_what_the_step_makes():
    return lambda x: Inheriting().go(x), lambda: globals().update(SCALE=5.0)


class Making:
    def __init__(self):
        self.scale = SCALE


class MadeToo(Making):
    pass


@change
def a_global_that_is_read_where_an_object_is_made():
    one = MadeToo()  # an object that is there says nothing of how others are made
    return lambda x: x * one.scale * MadeToo().scale, lambda: globals().update(SCALE=5.0)


class Gain:
    def __mul__(self, x):
        return x * SCALE


@change
def a_global_that_an_operator_reads():
    gain = Gain()
    return lambda x: gain * x, lambda: globals().update(SCALE=5.0)


@change
def an_attribute_that_getattr_is_told():
    class Listing(nn.Module):
        def __init__(self):
            self.numbers = [2.0]

        def forward(self, x):
            return x * getattr(self, "numbers")[0]  # noqa: B009

    model = Listing()
    return lambda x: model(x), lambda: model.numbers.__setitem__(0, 3.0)


@pytest.mark.parametrize("name", CHANGES)
def test_it_is_seen(name):
    runs = []
    for compiled in (lambda f: f, tg.compile):
        tg.seed(0)
        f, make_change = CHANGES[name]()
        f = compiled(f)
        results = [f(X) for _ in range(3)]
        make_change()
        results += [f(X) for _ in range(2)]
        globals().update(SCALE=2.0)
        globals().pop("LATER", None)
        Scaled.factor = 1.0
        if compiled is tg.compile:
            assert len(f.programs) <= 3, f.explain()
        runs.append([r.data if isinstance(r, tg.Tensor) else np.asarray(r) for r in results])
    assert not np.array_equal(runs[0][2], runs[0][3])
    for ours, theirs in zip(*runs, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_method_that_is_compiled_sees_its_object():
    one = trainer(method=True)
    for _ in range(3):
        one.step(X)
    one.parts.model.eval()
    np.testing.assert_array_equal(one.step(X).numpy(), X)


def test_explain_says_what_changed_in_a_collection():
    numbers, table = [float(i) for i in range(1000)], {str(i): i for i in range(1000)}
    f = tg.compile(lambda x: x * (sum(numbers) + sum(table.values())))
    f(X)
    numbers[7] = 8.0
    f(X)
    table["7"] = None
    table["7"] = 8
    f(X)
    table["0"] = table.pop("0")
    f(X)
    assert [line.partition("because of ")[2].partition(";")[0] for line in f.explain().splitlines()[2::2]] == [
        "the first call",
        "numbers[7] was 7.0, is 8.0",
        "table['7'] was 7, is 8",
        "table has another order than before",
    ]


def test_explain_names_the_argument_that_changed():
    f = tg.compile(lambda x, models: models["a"].model(x))
    models = {"a": types.SimpleNamespace(model=nn.Dropout(0.5))}
    f(X, models)
    models["a"].model.eval()
    np.testing.assert_array_equal(f(X, models).numpy(), X)
    assert "models['a'].model.training was True, is False" in f.explain()


def test_what_an_object_counts_and_collects_is_not_looked_at():
    one = trainer(method=True)
    for _ in range(5):
        one.history.append(one.step(X))
        one.count += 1
        one.parts.names.append("b")
    assert len(type(one).step.programs) <= 2  # the first has no gradient to clear


@pytest.mark.parametrize("place", ["cell", "dict", "list", "default"])
def test_equal_numbers_and_texts_may_be_other_objects(place):
    number, table, items = 1.5, {"k": 1.5}, [1.5, "text"]
    many = [1.5] * 1000

    def f(x, k=None):
        return x * {"cell": number, "dict": table["k"], "list": items[0] + sum(many), "default": k or 1}[place]

    f = tg.compile(f)
    for _ in range(4):
        f(X)
        number = float("1.5")
        table["k"], items[:] = float("1.5"), [float("1.5"), "".join(["te", "xt"])]
        many[:] = [float("1.5") for _ in many]
    assert len(f.programs) == 1


@pytest.mark.parametrize("backend", ["interpreter", "numpy", "native"])
def test_zeros_of_either_sign_are_other_arguments(backend):
    f = tg.compile(lambda x, k: np.copysign(x, k), backend=backend)
    for k in (0.0, -0.0, 0.0, -0.0):
        np.testing.assert_array_equal(f(X, k).numpy(), np.copysign(X, k))
    assert "another float argument: 0.0, then -0.0" in f.explain()
