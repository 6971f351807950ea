"""What NumPy lacks: activations, losses and layers as functions, against SciPy, mpmath and loops."""

import math

import mpmath as mp
import numpy as np
from op_table_row import Row, boolean, each, exact, frozen, inside, positive, real, rows
from scipy import special

from tinygrad_dl import random
from tinygrad_dl.compiler import lowering
from tinygrad_dl.nn import activations, objectives, transformations
from tinygrad_dl.nn import functional as F
from tinygrad_dl.optim import gradients
from tinygrad_dl.train import step as training

X = real(3, 4)
LABELS = frozen([2, 0, 3])
SOME = frozen([2, -100, 3])
TARGET = inside(3, 4)
WEIGHT = positive(4)
P = special.softmax(real(3, 4), axis=-1)


# references: one number after the other


def plain_words(key, n):
    """n words of SplitMix64, as the paper's figure has it, on Python integers."""
    mask, words = 2**64 - 1, []
    for i in range((n + 1) // 2):
        z = (key + (i + 1) * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & mask
        z ^= z >> 31
        words += [z & 0xFFFFFFFF, z >> 32]
    return words[:n]


def elu(x, alpha=1.0):
    return x if x > 0 else alpha * mp.expm1(x)


def leaky(x, slope=0.01):
    return x if x > 0 else slope * x


def softplus(x, beta=1.0, threshold=20.0):
    return mp.log1p(mp.exp(beta * x)) / beta


def gelu_tanh(x, approximate):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def hot(labels, num_classes, axis=-1, dtype=np.float32):
    return np.stack([labels == c for c in range(num_classes)], axis).astype(dtype)


def nll(log_p, labels, weight=None, ignore_index=-100, reduction="mean"):
    weight = np.ones(log_p.shape[1]) if weight is None else weight
    pairs = [(row, k) for row, k in zip(log_p, labels, strict=True)]
    losses = [0.0 if k == ignore_index else -row[k] * weight[k] for row, k in pairs]
    return reduced(losses, reduction, sum(weight[k] for _, k in pairs if k != ignore_index))


def cross_entropy(z, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    """Of labels as of their smoothed one-hot rows, each weighted; the mean is over the labels' weights."""
    weight = np.ones(z.shape[1]) if weight is None else weight
    soft = target.ndim == z.ndim
    rows = target if soft else hot(target, z.shape[1], dtype=float)
    rows = (1 - label_smoothing) * rows + label_smoothing / z.shape[1]
    kept = np.ones(len(z)) if soft else (target != ignore_index).astype(float)
    losses = [-k * (weight * special.log_softmax(x) * t).sum() for k, x, t in zip(kept, z, rows, strict=True)]
    total = len(z) if soft else sum(weight[k] for k in target if k != ignore_index)
    return reduced(losses, reduction, total)


def reduced(losses, reduction, total=None):
    losses = np.asarray(losses)
    total = losses.size if total is None else total
    return losses if reduction == "none" else losses.sum() if reduction == "sum" else losses.sum() / total


def mse(a, b, reduction="mean"):
    return reduced([(x - y) ** 2 for x, y in zip(a, b, strict=True)], reduction, a.size)


def bce(z, t, weight=1.0, pos_weight=1.0, reduction="mean"):
    return reduced(-weight * (pos_weight * t * special.log_expit(z) + (1 - t) * special.log_expit(-z)), reduction)


def normal(x, weight, bias, eps):
    """(x - mean) / sqrt(var + eps) over all axes but the second, with the mean and the variance."""
    channels = np.moveaxis(x, 1, 0)
    mean, var = np.array([c.mean() for c in channels]), np.array([c.var() for c in channels])
    return standard(x, mean, var, weight, bias, eps), mean, var


def standard(x, mean, var, weight, bias, eps=1e-5):
    channels = zip(np.moveaxis(x, 1, 0), mean, var, weight, bias, strict=True)
    return np.moveaxis(np.array([(c - m) / np.sqrt(v + eps) * w + b for c, m, v, w, b in channels]), 0, 1)


def words(key, shape):
    return np.array(plain_words(int(key), math.prod(shape)), np.uint32).reshape(shape)


def dropped(x, key, p, factor):
    return np.where(words(key, x.shape) < math.ceil((1 - p) * 2**32), x * factor, 0)


def affine(x, w, b=None):
    y = np.array([[np.dot(row, unit) for unit in w] for row in x])
    return y if b is None else y + b


KEY = np.array(12345678901234567, np.uint64)

ACTIVATIONS = rows(
    (F.relu, each(lambda x: max(x, 0.0)), real),
    (activations._relu, each(lambda x: max(x, 0.0)), real),
    (activations._gate, lambda g, closed: np.where(closed, 0, g), real(2, 3), boolean(2, 3)),
    (F.leaky_relu, exact(leaky), real),
    (F.leaky_relu, exact(leaky), real, 0.2),
    (activations._leaky_relu, exact(leaky), real, 0.2),
    (F.elu, exact(elu), real),
    (activations._elu, exact(elu), real, 0.7),
    (F.selu, exact(lambda x: mp.mpf("1.0507009873554804934") * elu(x, mp.mpf("1.6732632423543772848"))), real),
    (F.sigmoid, special.expit, real),
    (activations._sigmoid, special.expit, real),
    (F.silu, lambda x: x * special.expit(x), real),
    (F.softplus, exact(softplus), real),
    (activations._softplus, exact(softplus), real, 2.0, 30.0),
    (F.gelu, exact(lambda x: x * mp.ncdf(x)), real),
    (F.gelu, gelu_tanh, real, {"approximate": "tanh"}),
    (activations.erf, exact(mp.erf), real),
    (F.softmax, special.softmax, X, {"axis": 0}),
    (F.softmax, lambda x: x, real(0, 4)),
    (activations._softmax, special.softmax, X, {"axis": -1}),
    (F.log_softmax, special.log_softmax, X, {"axis": 0}),
    (activations._log_softmax, special.log_softmax, X, {"axis": -1}),
    (F.logsumexp, special.logsumexp, X, {"axis": 1, "keepdims": True}),
    (F.hardmax, lambda x, axis: hot(x.argmax(axis), x.shape[axis], axis), X, 0),
    (F.one_hot, hot, LABELS, 5),
    (activations._hot, hot, LABELS, {"num_classes": 4, "axis": 0, "dtype": np.float64}),
)

OF_X = {"shape": X.shape, "axis": 1, "ignore_index": -100}
LOSSES = rows(
    (gradients._checked, lambda norm: norm, np.array(3.0)),
    (training._checked, lambda loss: loss, np.array(3.0)),
    (
        lowering.bounded,
        lambda k, size: np.array([i + size * (i < 0) for i in k]),
        np.array([0, -1, 4, -5]),
        {"size": 5},
    ),
    (objectives._safe, lambda k, **_: np.array([max(i, 0) for i in k]), SOME, OF_X),
    (F.nll_loss, nll, X, LABELS),
    (F.nll_loss, nll, X, SOME, WEIGHT),
    (F.nll_loss, nll, X, SOME, WEIGHT, {"reduction": "none"}),
    (objectives._mean_cross_entropy, cross_entropy, X, SOME, {"ignore_index": -100}),
    (objectives._mean_cross_entropy, cross_entropy, X, LABELS, {"ignore_index": 0}),
    (F.cross_entropy, cross_entropy, X, LABELS),
    (F.cross_entropy, cross_entropy, X, SOME, WEIGHT, {"label_smoothing": 0.2}),
    (F.cross_entropy, cross_entropy, X, P, {"reduction": "sum"}),
    (F.cross_entropy, cross_entropy, X, P, WEIGHT, {"label_smoothing": 0.1}),
    (F.mse_loss, mse, X, TARGET),
    (F.mse_loss, mse, X, TARGET, "none"),
    (F.l1_loss, lambda a, b: reduced(abs(a - b), "mean"), X, TARGET),
    (F.huber_loss, lambda a, b, r, delta: reduced(special.huber(delta, a - b), r), X, TARGET, "sum", 0.7),
    (F.binary_cross_entropy_with_logits, bce, X, P),
    (F.binary_cross_entropy_with_logits, bce, X, P, positive(3, 4), WEIGHT, "sum"),
    (F.l1_penalty, lambda ws, lam, m: lam / m * sum(map(abs, np.concatenate(ws))), [real(2), real(3)], 0.3, 4),
    (F.l2_penalty, lambda ws, lam, m: lam / m / 2 * sum(np.concatenate(ws) ** 2), [real(2), real(3)], 0.3, 4),
)

LAYERS = rows(
    (F.linear, affine, X, real(2, 4), real(2)),
    (F.linear, affine, X, real(2, 4)),
    (transformations._linear, affine, X, real(2, 4), real(2)),
    (transformations._norm, normal, real(4, 2), positive(2), real(2), {"eps": 1e-5}),
    (transformations._norm, normal, real(2, 2, 3), positive(2), real(2), {"eps": 0.1}),
    (F.batch_norm, standard, real(3, 2), real(2), positive(2), positive(2), real(2)),
    (
        F.batch_norm,
        lambda x, _mean, _var, w, b, training: normal(x, w, b, 1e-5)[0],
        *(real(4, 2), None, None, positive(2), real(2)),
        {"training": True},
    ),
    (transformations._dropout, dropped, real(3, 4), KEY, {"p": 0.4, "factor": 1 / 0.6}),
    (
        F.dropout,
        lambda x, p, rng: dropped(x, np.random.default_rng(rng).bit_generator.random_raw(), p, 1 / (1 - p)),
        *(real(3, 4), 0.4),
        {"rng": 7},
    ),
    (F.dropout, lambda x, p, training, scale: x * 0.6, X, 0.4, False, "test"),
    (random.bits, words, KEY, {"shape": (3, 5)}),
)

RUNNING = Row(
    transformations._towards,
    (real(3), real(3)),
    lambda old, new, momentum, correction: old + momentum * (correction * new - old),
    {"momentum": 0.1, "correction": 1.25},
    detached=True,
)

ROWS = [*ACTIVATIONS, *LOSSES, *LAYERS, RUNNING]
