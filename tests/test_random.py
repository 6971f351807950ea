"""Random sources: reproducible, per thread, and masks whose bits look random."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from op_table_nn import plain_words
from scipy import stats

import tinygrad_dl as tg
from tinygrad_dl import nn, random


def test_bits_give_the_known_answers():
    # of the paper's Java class (java.util.SplittableRandom's mixer), seeds 0 and 1234567
    assert random.bits(np.uint64(0), shape=2).view(np.uint64).tolist() == [0xE220A8397B1DCDAF]
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert random.bits(np.uint64(1234567), shape=8).view(np.uint64).tolist() == expected


@pytest.mark.parametrize("key", [0, 1, 2**32, 0xDEADBEEF12345678, 2**64 - 1])
def test_bits_equal_the_generator_word_by_word(key):
    words = random.bits(np.uint64(key), shape=(3, 5))
    assert words.shape == (3, 5)
    assert words.dtype == np.uint32
    assert words.ravel().tolist() == plain_words(key, 15)


@pytest.fixture(scope="module")
def words():
    return random.bits(np.uint64(0x0123456789ABCDEF), shape=(1 << 18,))


def test_bits_are_balanced(words):
    ones = np.unpackbits(words.view(np.uint8)).sum()
    assert stats.binomtest(int(ones), words.size * 32).pvalue > 1e-3


def test_bytes_are_uniform(words):
    for shift in (0, 8, 16, 24):
        assert stats.chisquare(np.bincount((words >> shift) & 255, minlength=256)).pvalue > 1e-3


def test_neighbours_rows_and_keys_are_uncorrelated(words):
    u = words / 2.0**32
    other = random.bits(np.uint64(0x0123456789ABCDF0), shape=words.shape) / 2.0**32
    for a, b in [(u[:-1], u[1:]), (u[:-2], u[2:]), (u[:-64], u[64:]), (u, other)]:
        assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(a.size)


def test_values_gaps_and_pairs_are_as_chance_has_them(words):
    u = words / 2.0**32
    assert stats.kstest(u, "uniform").pvalue > 1e-3
    gaps = np.diff(np.flatnonzero(u < 0.2))
    counts = np.bincount(np.minimum(gaps, 30), minlength=31)[1:]
    shares = np.array([0.2 * 0.8**k for k in range(29)] + [0.8**29])
    assert stats.chisquare(counts, shares * counts.sum()).pvalue > 1e-3
    pairs = np.bincount((u[::2] * 16).astype(int) * 16 + (u[1::2] * 16).astype(int), minlength=256)
    assert stats.chisquare(pairs).pvalue > 1e-3


def test_one_flipped_key_bit_flips_half_of_the_bits():
    base = random.bits(np.uint64(7), shape=(4096,))
    for bit in (0, 5, 31, 32, 63):
        changed = random.bits(np.uint64(7 ^ (1 << bit)), shape=(4096,)) ^ base
        share = np.unpackbits(changed.view(np.uint8)).mean()
        assert abs(share - 0.5) < 4 * 0.5 / np.sqrt(4096 * 32)


def test_seed_rules_every_source():
    def draws():
        tg.seed(3)
        sources = [
            random.uniform(shape=4),
            random.normal(shape=4),
            random.bernoulli(0.3, shape=40),
            random.permutation(9),
        ]
        return [t.tolist() for t in sources] + [int(random.key())]

    assert draws() == draws()
    assert draws() != [t.tolist() for t in (random.uniform(shape=4),)]


def test_sources_have_shape_dtype_and_range():
    with random.scope(0):
        u = random.uniform(-2, 3, shape=(200, 50))
        n = random.normal(1, 2, shape=10_000, dtype=np.float64)
        b = random.bernoulli(0.25, shape=10_000)
    assert u.dtype == np.float32
    assert u.shape == (200, 50)
    assert -2 <= u.min().item() < -1.9
    assert 2.9 < u.max().item() < 3
    assert n.dtype == np.float64
    assert stats.kstest((n.numpy() - 1) / 2, "norm").pvalue > 1e-3
    assert set(b.tolist()) == {0.0, 1.0}
    assert stats.binomtest(int(b.sum().item()), 10_000, 0.25).pvalue > 1e-3
    assert sorted(random.permutation(20, rng=1).tolist()) == list(range(20))


@pytest.mark.parametrize("draw", [random.uniform, lambda a, b, n, t: nn.init.uniform_(tg.tensor(np.zeros(n, t)), a, b)])
def test_the_upper_end_is_not_drawn(draw):
    """One of 4,096 numbers below 1 is 1 when it is rounded to half precision."""
    with random.scope(0):
        values = draw(0, 1, 100_000, np.float16).numpy()
    assert values.max() == np.nextafter(np.float16(1), np.float16(0))


def test_scope_is_a_blocks_own():
    tg.seed(1)
    before = random.state()
    with random.scope(5):
        first = random.uniform(shape=3).tolist()
    assert random.state() == before
    with random.scope(5):
        assert random.uniform(shape=3).tolist() == first
    assert random.uniform(shape=3, rng=5).tolist() == first


def test_state_can_be_taken_and_put_back():
    tg.seed(9)
    kept = random.state()
    first = random.normal(shape=5).tolist()
    random.state(kept)
    assert random.normal(shape=5).tolist() == first


def test_threads_with_scopes_draw_their_own_streams():
    def work(n):
        with random.scope(n):
            return [random.uniform(shape=3).tolist() for _ in range(50)]

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(work, range(8)))
    assert together == [work(n) for n in range(8)]


@pytest.mark.parametrize(
    "call", [lambda: random.uniform(2, 1), lambda: random.normal(0, -1), lambda: random.bernoulli(1.5)]
)
def test_impossible_parameters_are_refused(call):
    with pytest.raises(ValueError, match="expected"):
        call()


def test_a_source_that_is_none_is_refused():
    with pytest.raises(TypeError, match="expected a seed"):
        random.uniform(rng="abc")
