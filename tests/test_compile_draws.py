"""Random numbers that are drawn past tg.random: a recording repeats them, and says so."""

import random
import warnings

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl import nn


@pytest.mark.parametrize("backend", ["interpreter", "numpy", "native"])
def test_draws_past_tg_random_are_frozen_and_verify_tells(backend):
    def frozen(draw):
        return tg.compile(lambda x: (x + draw()).sum(), backend=backend, verify=1)

    rng = np.random.default_rng(0)
    for draw in (lambda: rng.normal(size=3), lambda: np.random.rand(3), random.random):  # noqa: NPY002
        step = frozen(draw)
        with pytest.warns(RuntimeWarning, match="later runs repeat these numbers"):
            step(np.ones(3))
        with pytest.raises(RuntimeError, match="differ"):
            step(np.ones(3))
    seen = frozen(lambda: tg.random.normal(shape=(3,), rng=rng))
    assert len({seen(np.ones(3)).item() for _ in range(4)}) == 4


class _Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.rng = np.random.default_rng(0)

    def forward(self, x):
        return x + self.rng.normal(size=3)


_OLD, _PYTHON = np.random.RandomState(0), random.Random(0)
_TWISTER = np.random.Generator(np.random.MT19937(0))


@pytest.mark.parametrize(
    ("function", "where"),
    [
        (lambda x: x + np.random.rand(3), "np.random"),  # noqa: NPY002
        (lambda x: x + random.random(), "Python's random"),
        (lambda x: x + _OLD.rand(3), "_OLD"),
        (lambda x: x + _PYTHON.random(), "_PYTHON"),
        (lambda x: x + _TWISTER.random(3), "_TWISTER"),
        (lambda x, rng=_TWISTER: x + rng.random(3), "a default of <lambda>"),
        (_Noisy(), "the function.rng"),
    ],
)
def test_a_draw_past_tg_random_is_warned_of_where_it_is_called(function, where):
    step = tg.compile(function)
    with pytest.warns(RuntimeWarning, match=f"drew random numbers from {where}, and later") as caught:
        first = step(np.ones(3))
    assert [w.filename for w in caught] == [__file__]
    np.testing.assert_array_equal(step(np.ones(3)), first)  # without another word


def test_draws_that_later_runs_repeat_rightly_are_not_warned_of():
    rng = np.random.default_rng(0)

    def step(x):
        own = np.random.default_rng(1).normal(size=3)  # the same at each call
        return nn.functional.dropout(x) + tg.random.normal(shape=(3,), rng=rng) + own

    step = tg.compile(step)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not np.array_equal(step(np.ones(3)), step(np.ones(3)))


def test_a_number_that_the_system_draws_has_no_state_to_look_at():
    system = random.SystemRandom()
    step = tg.compile(lambda x: x + system.random())
    np.testing.assert_array_equal(step(np.ones(3)), step(np.ones(3)))
