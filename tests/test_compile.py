"""Compiled steps against eager ones: the same losses, parameters, optimizer state and generators."""

import gc
import weakref

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl import nn, optim
from tinygrad_dl.graph import Handle
from tinygrad_dl.optim import lr_scheduler

RNG = np.random.default_rng(0)
BATCHES = [(RNG.normal(size=(16, 6)), RNG.integers(0, 4, 16)) for _ in range(40)]
OPTIMIZERS = {
    "SGD": lambda p: optim.SGD(p, lr=0.1, weight_decay=0.01),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.1),
    "nesterov": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "averaging": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, averaging=True),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True, eps_inside=True),
    "Adam": lambda p: optim.Adam(p, lr=0.01, weight_decay=0.01),
    "amsgrad": lambda p: optim.Adam(p, lr=0.01, amsgrad=True, maximize=True),
    "AdamW": lambda p: optim.AdamW(p, lr=0.01),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.05, lr_decay=0.1),
    "NAdam": lambda p: optim.NAdam(p, lr=0.01),
    "RAdam": lambda p: optim.RAdam(p, lr=0.01),
    "Adamax": lambda p: optim.Adamax(p, lr=0.01),
}


def network(dtype=np.float64, p=0.2):
    layers = [nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(p), nn.Linear(8, 4)]
    return nn.Sequential(*layers).astype(dtype)


def train(compiled, make=OPTIMIZERS["Adam"], steps=12, dtype=np.float64, schedule=None, extra=None, backend="auto"):
    """Losses, model, optimizer and step after some training."""
    tg.seed(1)
    model = network(dtype)
    optimizer = make(model.parameters())
    rates = schedule(optimizer) if schedule else None

    def step(x, y):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        if extra:
            extra(model)
        optimizer.step()
        if rates:
            rates.step()
        return loss

    run = tg.compile(step, backend=backend) if compiled else step
    losses = [run(tg.tensor(x.astype(dtype)), tg.tensor(y)).item() for x, y in (BATCHES * 5)[:steps]]
    return losses, model, optimizer, run


def same(a, b, tolerance=1e-12):
    """Losses, parameters, buffers, gradients and optimizer state agree, each to its norm."""
    np.testing.assert_allclose(a[0], b[0], rtol=1e-10)
    for (name, x), y in zip(a[1].state_dict().items(), b[1].state_dict().values(), strict=True):
        close(x.numpy(), y.numpy(), tolerance, name)
    for p, q in zip(a[1].parameters(), b[1].parameters(), strict=True):
        close(p.grad.numpy(), q.grad.numpy(), tolerance, "grad")
    theirs = b[2].state_dict()["state"]
    for number, state in a[2].state_dict()["state"].items():
        for name, value in state.items():
            close(np.asarray(value), np.asarray(theirs[number][name]), tolerance, name)


def close(x, y, tolerance, name):
    assert x.shape == y.shape
    assert x.dtype == y.dtype
    assert np.linalg.norm(x - y) <= tolerance * max(np.linalg.norm(x), 1e-3), name


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer(name):
    eager, compiled = (train(c, OPTIMIZERS[name]) for c in (False, True))
    same(eager, compiled, 1e-11)
    assert len(compiled[3].programs) <= (2 if name == "RAdam" else 1), compiled[3].explain()


def test_200_steps_in_float64():
    eager, compiled = (train(c, steps=200) for c in (False, True))
    np.testing.assert_allclose(eager[0], compiled[0], rtol=1e-10)


def test_one_step_in_float32_after_20():
    eager, compiled = (train(c, steps=20, dtype=np.float32) for c in (False, True))
    for p, q in zip(eager[1].parameters(), compiled[1].parameters(), strict=True):
        q.assign(p.detach())
    compiled[1].load_state_dict(eager[1].state_dict())
    compiled[2].load_state_dict(eager[2].state_dict())
    state = tg.random.state()
    x, y = (tg.tensor(BATCHES[0][0].astype(np.float32)), tg.tensor(BATCHES[0][1]))
    a = eager[3](x, y)
    tg.random.state(state)
    b = compiled[3](x, y)
    assert a.item() == pytest.approx(b.item(), rel=1e-5)
    for p, q in zip(eager[1].parameters(), compiled[1].parameters(), strict=True):
        close(p.detach().numpy(), q.detach().numpy(), 1e-5, "parameter")
        close(p.grad.numpy(), q.grad.numpy(), 1e-5, "gradient")


@pytest.mark.parametrize(
    "schedule",
    [
        lambda o: lr_scheduler.StepLR(o, 3, 0.5),
        lambda o: lr_scheduler.CosineAnnealingLR(o, 20),
        lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=40),
        lambda o: lr_scheduler.LambdaLR(o, lambda n: 1 / (1 + n)),
    ],
)
def test_schedules_inside_the_step(schedule):
    eager, compiled = (train(c, schedule=schedule) for c in (False, True))
    same(eager, compiled)
    assert eager[2].param_groups[0]["lr"] == compiled[2].param_groups[0]["lr"]
    assert len(compiled[3].programs) == 1


@pytest.mark.parametrize(
    "clip",
    [
        lambda m: optim.clip_grad_norm(m.parameters(), 0.1),
        lambda m: optim.clip_grad_norm(m.parameters(), 100.0),
        lambda m: optim.clip_grad_value(m.parameters(), 0.01),
    ],
)
def test_clipping_inside_the_step(clip):
    same(*(train(c, extra=clip) for c in (False, True)))


def test_a_changed_rate_needs_no_new_program():
    results = []
    for compiled in (False, True):
        losses, model, optimizer, step = train(compiled, steps=5)
        optimizer.param_groups[0]["lr"] = 0.5
        x, y = BATCHES[0]
        losses.append(step(tg.tensor(x), tg.tensor(y)).item())
        losses.append(step(tg.tensor(x), tg.tensor(y)).item())
        results.append((losses, model, optimizer, step))
    same(*results)
    assert len(results[1][3].programs) == 1


def test_eager_and_compiled_calls_mix():
    def mixed(pattern):
        tg.seed(2)
        model = network()
        optimizer = optim.Adam(model.parameters(), lr=0.01)

        def step(x, y):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        fast = tg.compile(step)
        losses = [(fast if c else step)(x, y).item() for c, (x, y) in zip(pattern, BATCHES, strict=False)]
        return losses, model, optimizer, fast

    same(mixed([0] * 12), mixed([1, 1, 0, 1, 0, 0, 1, 1, 1, 0, 1, 1]))


def test_state_dicts_are_saved_and_loaded_between(tmp_path):
    _, model, optimizer, step = train(True, steps=6)
    tg.save(tmp_path / "run.npz", {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    kept = tg.random.state()
    x, y = BATCHES[3]
    first = [step(tg.tensor(x), tg.tensor(y)).item() for _ in range(3)]
    state = tg.load(tmp_path / "run.npz")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    tg.random.state(kept)
    assert [step(tg.tensor(x), tg.tensor(y)).item() for _ in range(3)] == first
    assert len(step.programs) == 1


def test_inference_and_training_are_two_programs():
    tg.seed(0)
    model = network()
    predict = tg.compile(lambda x: model(x))
    x = tg.tensor(BATCHES[0][0])
    predict(x)
    model.eval()
    np.testing.assert_allclose(predict(x).numpy(), model(x).detach().numpy())
    np.testing.assert_allclose(predict(x).numpy(), model(x).detach().numpy())
    assert len(predict.programs) == 2
    assert "training was True, is False" in predict.explain()


def test_structures_of_arguments_and_results():
    @tg.compile
    def f(pair, options):
        a, b = pair
        return {"sum": a + b, "parts": [a * 2, (b, options["name"])], "n": 3}

    a, b = np.ones(3), np.arange(3.0)
    for k in (1.0, 2.0):
        out = f((a * k, tg.tensor(b)), {"name": "x"})
        np.testing.assert_array_equal(out["sum"].numpy(), a * k + b)
        np.testing.assert_array_equal(out["parts"][0].numpy(), 2 * a * k)
        assert out["parts"][1][1] == "x"
        assert out["n"] == 3


def test_higher_order_gradients():
    def f(x, w):
        return (np.tanh(x @ w) ** 2).sum()

    def penalty(x, w):
        g = tg.grad(f, argnums=1)(x, w)
        value, product = tg.hvp(lambda v: f(x, v), (w,), (g,))
        return value, product, (g * g).sum()

    fast = tg.compile(penalty)
    x = RNG.normal(size=(4, 3))
    for _ in range(3):
        w = RNG.normal(size=(3, 2))
        for a, b in zip(penalty(tg.tensor(x), tg.tensor(w)), fast(x, w), strict=True):
            np.testing.assert_allclose(a.detach().numpy(), b.numpy(), rtol=1e-12)
    assert len(fast.programs) == 1


def test_backward_twice_accumulates():
    w = nn.Parameter(np.array([1.0, 2.0]))

    @tg.compile
    def step(x):
        (w * x).sum().backward()
        (w * w).sum().backward()

    for k in (1.0, 3.0):
        w.grad = None
        step(np.full(2, k))
        np.testing.assert_array_equal(w.grad.numpy(), k + 2 * np.array([1.0, 2.0]))
    step(np.full(2, 1.0))  # now there is a gradient at the start
    np.testing.assert_array_equal(w.grad.numpy(), 3 + 1 + 4 * np.array([1.0, 2.0]))
    step(np.full(2, 1.0))
    np.testing.assert_array_equal(w.grad.numpy(), 3 + 2 + 6 * np.array([1.0, 2.0]))
    assert len(step.programs) == 2


@pytest.mark.parametrize("backend", ["interpreter", "numpy", "native"])
def test_a_scope_of_random_numbers_in_the_step_begins_anew_at_every_run(backend):
    rng = np.random.default_rng(0)

    def f(x):
        with tg.random.scope(3):
            masked = nn.functional.dropout(x, 0.5) + tg.random.uniform(shape=(4,))
            own = tg.random.normal(shape=(4,), rng=rng)
        return masked, own, nn.functional.dropout(x, 0.5)

    found = []
    for compiled in (lambda f: f, tg.compile(backend=backend)):
        tg.seed(1)
        rng = np.random.default_rng(0)
        step = compiled(f)
        results = [step(np.ones(4, np.float32)) for _ in range(3)]
        with tg.random.scope(5):
            results.append(step(np.ones(4, np.float32)))
        found.append(results)
    for eager, other in zip(*found, strict=True):
        for a, b in zip(eager, other, strict=True):
            np.testing.assert_array_equal(np.asarray(b), np.asarray(a))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble", "bool", "int8"])
@pytest.mark.parametrize("backend", ["interpreter", "numpy", "native"])
def test_a_single_number_is_drawn_in_any_dtype(backend, dtype):
    found = []
    for compiled in (lambda f: f, tg.compile(backend=backend)):
        tg.seed(3)
        draw = tg.random.bernoulli if dtype in ("bool", "int8") else tg.random.normal
        step = compiled(lambda x: (x * draw(dtype=dtype), draw(dtype=dtype)))  # noqa: B023
        found.append([step(np.ones(2)) for _ in range(4)])
    for eager, other in zip(*found, strict=True):
        for a, b in zip(eager, other, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(b.numpy(), a.numpy())


def test_random_draws_follow_the_generator():
    def f(x):
        return x + tg.random.normal(shape=(3,)), nn.functional.dropout(x, 0.5), tg.random.uniform(shape=3)

    fast, x = tg.compile(f), tg.tensor(np.ones(3, np.float32))
    tg.seed(5)
    eager = [[t.tolist() for t in f(x)] for _ in range(4)]
    tg.seed(5)
    assert [[t.tolist() for t in fast(x)] for _ in range(4)] == eager


@pytest.mark.parametrize("backend", ["interpreter", "numpy", "native"])
def test_a_label_outside_the_classes_raises_on_replay_and_changes_nothing(backend):
    _, model, optimizer, step = train(True, steps=3, backend=backend)
    x, y = BATCHES[0]
    before = everything(model, optimizer)
    with pytest.raises(ValueError, match="label 7 at row 2 is outside the 4 classes"):
        step(tg.tensor(x), tg.tensor(np.where(np.arange(16) == 2, 7, y)))
    assert len(step.programs) == 1
    assert everything(model, optimizer) == before


def everything(model, optimizer):
    """All state as bytes."""
    found = [t.data.tobytes() for t in model.state_dict().values()]
    for state in optimizer.state_dict()["state"].values():
        found += [np.asarray(value).tobytes() for value in state.values()]
    return found


def test_plain_average_of_statistics():
    def run(compiled):
        layer = nn.BatchNorm1d(6, momentum=None).astype(np.float64)
        f = tg.compile(lambda x: layer(x)) if compiled else layer
        for x, _ in BATCHES[:4]:
            f(tg.tensor(x))
        return layer.running_var.numpy()

    np.testing.assert_allclose(run(True), run(False))


def test_verify_runs_beside_the_function():
    runs = []
    for verify in (0, 3):
        tg.seed(1)
        model = network()
        optimizer = optim.Adam(model.parameters(), lr=0.01)
        rates = lr_scheduler.StepLR(optimizer, 2)

        def step(x, y, model=model, optimizer=optimizer, rates=rates):
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rates.step()
            return loss

        fast = tg.compile(step, verify=verify)
        runs.append(([fast(x, y).item() for x, y in BATCHES[:6]], model, optimizer))
    same(*runs)


def test_verify_finds_what_is_not_seen():
    numbers = iter([2.0, 2.0, 3.0])
    f = tg.compile(lambda x: x * next(numbers), verify=2)
    f(np.ones(3))
    f(np.ones(3))
    with pytest.raises(RuntimeError, match="result 0 differs from the function's own"):
        f(np.ones(3))


@pytest.mark.parametrize("backend", ["interpreter", "numpy", "native"])
def test_a_compiled_step_goes_away_without_garbage_collection(backend):
    model = nn.Linear(3, 2)
    optimizer = optim.Adam(model.parameters())

    def latest():
        @tg.compile(backend=backend)
        def step(x):
            optimizer.zero_grad()
            loss = (model(x) ** 2).sum()
            loss.backward()
            optimizer.step()
            return loss

        for _ in range(3):
            step(tg.tensor(np.ones((4, 3), np.float32)))
        return weakref.ref(step._latest)

    gc.disable()
    try:
        assert latest()() is None
    finally:
        gc.enable()


def test_every_tensor_of_a_compiled_step_is_whole():
    """Whoever walks through all that live, as `why` does, may look at each."""
    weight = nn.Parameter(np.ones(3, np.float32))

    @tg.compile
    def step(x):
        weight.grad = None
        (weight * x).sum().backward()

    for _ in range(3):
        step(tg.tensor(np.ones(3, np.float32)))
    living = [o for o in gc.get_objects() if issubclass(type(o), Handle)]  # others may warn when asked for a class
    assert any(o is weight for o in living)
    assert all(hasattr(o, name) for o in living for name in ("data", "node", "name", "_grad"))
