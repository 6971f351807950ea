"""Values of few columns are computed with their rows side by side: NumPy's numbers, and only where it is of use."""

from __future__ import annotations

import numpy as np
import pytest
from programs import record

import tinygrad_dl as tg
from tinygrad_dl import nn, optim
from tinygrad_dl.compiler import narrow
from tinygrad_dl.compiler.passes import simplify

F = nn.functional
STEPS = {
    "softmax": lambda x, w, b, t, y: F.softmax(x @ w + b, -1),
    "loss": lambda x, w, b, t, y: F.cross_entropy(x @ w + b, y),
    "given targets": lambda x, w, b, t, y: -np.mean(np.sum(F.log_softmax(x @ w + b, -1) * t, axis=-1)),
    "loss and scores": lambda x, w, b, t, y: (np.sum(np.max(x @ w * 2, axis=1)), x @ w * 2),
    "both directions": lambda x, w, b, t, y: np.sum(
        np.exp(x @ w) / np.sum(np.exp(x @ w), axis=1, keepdims=True), axis=0
    ),
    "all": lambda x, w, b, t, y: np.sum(np.square(x @ w - np.mean(x @ w, axis=1, keepdims=True))),
    "products on both sides": lambda x, w, b, t, y: (np.exp(x @ w) / np.sum(np.exp(x @ w), axis=1)[:, None]) @ w.T,
    "two products": lambda x, w, b, t, y: np.min(x @ w + (x * 2) @ (w + 1), axis=1),
    "where": lambda x, w, b, t, y: np.sum(np.where(x @ w > b, x @ w, -np.inf) > 0, axis=1),
    "another dtype": lambda x, w, b, t, y: np.sum((x @ w).astype(np.float32), axis=1),
    "a square factor": lambda x, w, b, t, y: np.prod(np.cos(x @ w) @ (w.T @ w), axis=1, keepdims=True),
    "three dimensions": lambda x, w, b, t, y: np.sum(x @ w, axis=1)[None, :, None] + (x @ w)[None] * np.ones((2, 1, 1)),
    "read otherwise": lambda x, w, b, t, y: (np.sum((x @ w) * b, axis=1), np.cumsum((x @ w) * b, axis=0)),
    "constants": lambda x, w, b, t, y: np.max(
        x @ w + np.arange(w.shape[1]) / np.arange(1, len(x) + 1)[:, None], axis=1
    ),
}


def arrays(rows, columns, dtype=np.float64):
    rng = np.random.default_rng(0)
    shapes = (rows, 12), (12, columns), (columns,), (rows, columns)
    return [*(rng.normal(size=shape).astype(dtype) for shape in shapes), rng.integers(0, columns, rows)]


def program_of(step, given):
    def results(*tensors):
        found = step(*tensors)
        return found if isinstance(found, tuple) else (found,)

    return simplify(record(results, given)[0])


def turned(program):
    """The program with its narrow values turned, if there are any."""
    found = narrow.turned_rows(program, lambda step: step.op.name != "cumsum")
    return None if found is program else found


@pytest.mark.parametrize("rows", [16, 37])
@pytest.mark.parametrize("columns", [2, 10])
@pytest.mark.parametrize("name", STEPS)
def test_turned_programs_mean_the_same(name, rows, columns):
    given = arrays(rows, columns)
    program = program_of(STEPS[name], given)
    other = turned(program)
    assert other is not None
    assert any(v.shape == (columns, rows) for step in other.body for v in step.outputs)
    for a, b in zip(other.run(given), program.run(given), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=1e-6 if a.dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", STEPS)
def test_machine_code_of_turned_values_is_numpys(name, dtype):
    pytest.importorskip("llvmlite")
    step = tg.compile(STEPS[name], backend="native")
    for rows, columns in ((16, 2), (33, 3), (50, 10), (200, 12)):
        given = arrays(rows, columns, dtype)
        for _ in range(2):
            found = step(*given)
        want = STEPS[name](*(a.astype(np.float64) if a.dtype == dtype else a for a in given))
        pairs = zip(*(r if isinstance(r, tuple) else (r,) for r in (found, want)), strict=True)
        for a, b in pairs:
            scale = np.max(np.abs(np.asarray(b)))
            single = dtype == np.float32 or name == "another dtype"
            np.testing.assert_allclose(a.numpy(), np.asarray(b), rtol=0, atol=scale * (2e-5 if single else 1e-12))


@pytest.mark.parametrize("columns", [narrow.COPIED, narrow.COLUMNS, narrow.COLUMNS + 1])
def test_wide_values_are_turned_only_where_nothing_is_copied(columns):
    given = arrays(20, columns)
    found = {name: turned(program_of(STEPS[name], given)) is not None for name in ("loss", "softmax", "given targets")}
    small = columns <= narrow.COPIED
    assert found == {"loss": columns <= narrow.COLUMNS, "softmax": small, "given targets": small}


@pytest.mark.parametrize(
    "step",
    [
        lambda x, w, b, t, y: np.sum(x @ w + b, axis=0),  # nothing along the rows
        lambda x, w, b, t, y: np.max((x @ w)[:, None] + b, axis=1),
        lambda x, w, b, t, y: np.sum(t * 2, axis=1),  # no product
        lambda x, w, b, t, y: np.sum(x[:15] @ w, axis=1),  # few rows
        lambda x, w, b, t, y: np.sum(x @ w[:, :1], axis=1),
    ],
)
def test_what_gains_nothing_stays(step):
    assert turned(program_of(step, arrays(20, 5))) is None


@pytest.mark.parametrize("backend", ["native", "interpreter"])
def test_weights_that_are_scaled_by_rows_stay_where_they_are(backend):
    """The new value of a state lies as the old one: to turn both would cost two copies."""
    if backend == "native":
        pytest.importorskip("llvmlite")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 20)), rng.normal(size=(30, 4))

    def trained(compiled):
        w = tg.tensor(np.ones((20, 4)), requires_grad=True)
        optimizer = optim.SGD([w], lr=0.01)

        def step(x, y):
            optimizer.zero_grad()
            loss = np.mean(np.square(x @ w - y))
            loss.backward()
            optimizer.step()
            with tg.no_grad():
                w.assign(w / np.maximum(1, np.sqrt(np.sum(w * w, axis=1, keepdims=True))))
            return loss

        step = compiled(step)
        return [step(x, y).item() for _ in range(5)], w.detach().numpy()

    losses, weights = trained(lambda f: f)
    found, same = trained(lambda f: tg.compile(f, backend=backend))
    np.testing.assert_allclose(found, losses, rtol=1e-12)
    np.testing.assert_allclose(same, weights, rtol=1e-12)


def test_each_value_of_a_deep_network_is_looked_at_a_few_times():
    """All layers of a residual network are one group; a search from each anew took minutes for 1,000 of them."""

    def looks(layers):
        def step(x, w, b, t, y):
            for _ in range(layers):
                x = x + np.maximum(x @ w, 0) / layers
            return np.sum(np.max(x, axis=1))

        program = program_of(step, [np.ones((20, 12)), np.ones((12, 12)), *arrays(20, 12)[2:]])
        seen = []
        found = narrow.turned_rows(program, lambda step: seen.append(step) is None)
        assert found is not program
        return len(seen)

    assert looks(40) < 4.5 * looks(10)
