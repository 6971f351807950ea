"""What a compiled function looks at before it runs a program again: a change of it is seen, and nothing else is."""

import types

import changes
import numpy as np
import pytest
from changes import CHANGES, Scaled, trainer

import tinygrad_dl as tg
from tinygrad_dl import nn

X = np.array([1.0, -2.0])


@pytest.fixture(autouse=True)
def as_they_were(monkeypatch):
    monkeypatch.setattr(Scaled, "factor", 1.0)
    monkeypatch.setattr(changes, "SCALE", 2.0)


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
        vars(changes).update(SCALE=2.0)
        vars(changes).pop("LATER", None)
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
