import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl import nn, optim

F = np.float32


@pytest.mark.parametrize("backend", ["interpreter", "numpy", "native"])
def test_a_compiled_step_is_watched_and_keeps_its_state(backend):
    if backend == "native":
        pytest.importorskip("llvmlite")
    tg.seed(0)
    model = nn.Linear(3, 2)
    optimizer = optim.Adam(model.parameters())

    @tg.compile(backend=backend)
    def step(x, y):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(np.log(model(x) + 9), y)
        loss.backward()
        optimizer.step()
        return loss

    x, y = np.ones((4, 3), F), np.array([0, 1, 0, 1])
    for _ in range(3):
        with tg.detect_nan():
            step(x, y)
    state = lambda: [t.copy() for p in model.parameters() for t in (p.data, optimizer.state[p]["exp_avg"].data)]
    before, count = state(), [optimizer.state[p]["step"] for p in model.parameters()]
    with pytest.raises(FloatingPointError, match=r"(?s)has nan.*np\.log"), tg.detect_nan():
        step(-1e6 * np.ones((4, 3), F) * np.sign(model.weight.data[0] + model.weight.data[1]), y)
    for a, b in zip(before, state(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert count == [optimizer.state[p]["step"] for p in model.parameters()]
    with tg.detect_nan():
        step(x, y)
