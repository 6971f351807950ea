"""Functions to be compiled, each with a change that a compiled one must see: `CHANGES`."""

import types

import numpy as np

import tinygrad_dl as tg
from tinygrad_dl import nn

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
