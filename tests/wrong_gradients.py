"""Functions with a seeded bug in the gradient, one a way of going wrong."""

import numpy as np

import tinygrad_dl as tg
from tinygrad_dl.checking import gradcheck
from tinygrad_dl.fused import fused
from tinygrad_dl.primitive import primitive

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 4))
Y = RNG.normal(size=(3, 4))
SQUARE = RNG.normal(size=(3, 3))
POSITIVE = np.abs(X) + 0.5


def check(f, *inputs, **options):
    return gradcheck(f, *inputs, raise_on_failure=False, **options)


def scaled(factor):
    """A right value, a gradient too large by a factor."""
    return primitive(np.tanh, lambda g, y, _x: factor * g * (1 - y * y), name="scaled")


def writes(into):
    """A rule with the right result that writes into what it is given."""

    def rule(g, y, x):
        result = g * 2 * x
        {"g": g, "x": x, "y": y}[into][...] *= 0
        return result

    return primitive(lambda x: x * x, rule, name="writes")


def double_in_place(x):
    x *= 2
    return x


def _scatter_once(g, _y, _x, _i):
    out = np.zeros(_x.shape)
    out[_i] = g
    return out


def _frozen_rule():
    seen = []

    def rule(g, _y, x):
        seen.append(x)
        return 2 * g * seen[0]

    op = primitive(lambda x: x * x, rule, name="frozen")

    def f(x):
        op(tg.tensor(X + 1, requires_grad=True)).sum().backward()
        return op(x)

    return f


def stale():
    """A rule that reads what the kernel left behind."""
    left = {}

    def kernel(x):
        left["x"] = x
        return x * x

    return primitive(kernel, lambda g, _y, _x: 2 * g * left["x"], name="stale")


def _norm_rule(mean=True, deviation=True):
    """Batch normalisation whose backward may take the mean or the deviation for constants."""

    def f(x):
        m, centred = x.mean(axis=0), x - x.mean(axis=0)
        s = np.sqrt(np.mean(np.square(centred), axis=0) + 1e-5)
        return (x - (m if mean else m.detach())) / (s if deviation else s.detach())

    return f


def mixed(value=1.0, first=1.0, second=1.0):
    """A fused product of x and tanh(y), each part of its pair wrong by a factor."""

    def forward(x, y):
        t = np.tanh(y)
        return value * x * t, t

    def backward(g, saved, needs, x, y):
        return (first * g * saved if needs[0] else None, second * g * x * (1 - saved * saved) if needs[1] else None)

    return fused(forward=forward, backward=backward, name="mixed")(lambda x, y: x * np.tanh(y))


def consuming():
    def backward(g, saved, needs, x):
        result = g * saved
        saved *= 2
        return (result,)

    return fused(forward=lambda x: (x * x, 2 * x), backward=backward, name="consuming")(lambda x: x * x)


def pair_of_outputs(wrong=1.0):
    def backward(g, saved, needs, x):
        a, b = (0 if part is None else part for part in g)
        return (a * np.cos(x) - wrong * b * np.sin(x),)

    @fused(forward=lambda x: ((np.sin(x), np.cos(x)), None), backward=backward, name="both")
    def both(x):
        return np.sin(x), np.cos(x)

    return both


def one_wrong_element(size, at):
    def rule(g, _y, x):
        out = 2 * g * x
        out[at] *= 1.001
        return out

    return primitive(lambda x: x * x, rule, name="one_wrong")


def _wrong_alone():
    """A fused product whose second gradient is right only when the first is wanted too."""

    def backward(g, saved, needs, x, y):
        return g * y if needs[0] else None, g * x * needs[0] if needs[1] else None

    return fused(forward=lambda x, y: (x * y, None), backward=backward, name="alone")(lambda x, y: x * y)


MIXTURE = np.array([1e-6, 1e-3, 1.0, 1e3, 1e6])
AT = np.array([0, 2, 2, 1])

BUGS = {
    "1.001 times too large": (scaled(1.001), (X,)),
    "0.9999 times": (scaled(0.9999), (X,)),
    "twice": (scaled(2.0), (X,)),
    "sign": (scaled(-1.0), (X,)),
    "zero": (scaled(0.0), (X,)),
    "ignores the incoming gradient": (primitive(np.tanh, lambda g, y, _x: 1 - y * y, name="op"), (X,)),
    "squares the incoming gradient": (primitive(np.tanh, lambda g, y, _x: g * g * (1 - y * y), name="op"), (X,)),
    "only the sign of the incoming gradient": (
        primitive(np.sin, lambda g, _y, x: np.sign(g) * np.cos(x), name="op"),
        (X,),
    ),
    "missing chain factor": (primitive(lambda x: np.sin(3 * x), lambda g, _y, x: g * np.cos(3 * x), name="op"), (X,)),
    "input for output": (primitive(np.exp, lambda g, _y, x: g * x, name="op"), (X,)),
    "missing sum over the broadcast axis": (
        primitive(np.add, lambda g, *_: g, lambda g, *_: g, name="op"),
        (X, Y[0]),
    ),
    "broadcast copied, not summed": (
        primitive(np.add, lambda g, *_: g, lambda g, *_: g[0], name="op"),
        (X, Y[0]),
    ),
    "transposed shape": (primitive(np.exp, lambda g, y, _x: (g * y).T, name="op"), (X,)),
    "transposed, square": (
        primitive(np.matmul, lambda g, _y, _a, b: g @ b, lambda g, _y, a, _b: a.T @ g, name="op"),
        (SQUARE, SQUARE + 1),
    ),
    "arguments swapped": (
        primitive(np.divide, lambda g, y, _a, b: -g * y / b, lambda g, _y, _a, b: g / b, name="op"),
        (X, POSITIVE),
    ),
    "slice off by one": (
        primitive(lambda x: x[:, 1:], lambda g, _y, _x: np.pad(g, ((0, 0), (0, 1))), name="op"),
        (X,),
    ),
    "repeated indices overwrite": (primitive(lambda x, i: x[i], _scatter_once, None, name="op"), (X[:, 0], AT)),
    "sum for mean": (primitive(lambda x: np.mean(x), lambda g, _y, _x: g * np.ones(_x.shape), name="op"), (X,)),
    "divides by n - 1": (
        primitive(lambda x: np.var(x), lambda g, _y, x: g * 2 * (x - x.mean()) / (x.size - 1), name="op"),
        (X,),
    ),
    "diagonal of the softmax Jacobian only": (
        primitive(lambda z: np.exp(z) / np.exp(z).sum(), lambda g, y, _z: g * y * (1 - y), name="op"),
        (X[0],),
    ),
    "value of a later call": (stale(), (X,)),
    "clips the incoming gradient": (primitive(lambda x: x * 1, lambda g, *_: np.clip(g, -5, 5), name="op"), (X,)),
    "drops small incoming gradients": (
        primitive(np.sin, lambda g, _y, x: g * (abs(g) > 0.1) * np.cos(x), name="op"),
        (X,),
    ),
    "mean taken for a constant": (_norm_rule(mean=False), (X,)),
    "deviation taken for a constant": (_norm_rule(deviation=False), (X,)),
    "value of an earlier call": (_frozen_rule(), (X,)),
    "writes into the incoming gradient": (writes("g"), (X,)),
    "writes into an inner incoming gradient": (lambda x: np.sin(writes("g")(x)) * 2, (X,)),
    "backward writes into its input": (writes("x"), (X,)),
    "backward writes into its output": (writes("y"), (X,)),
    "backward writes into an inner input": (lambda x: writes("x")(np.sin(x)), (X,)),
    "forward writes into its input": (primitive(double_in_place, lambda g, _y, _x: 2 * g, name="op"), (X,)),
    "float32 kernel": (
        primitive(
            lambda x: np.tanh(x.astype("float32")).astype("float64"), lambda g, y, _x: g * (1 - y * y), name="op"
        ),
        (X,),
    ),
    "rule None": (primitive(np.multiply, lambda g, _y, _a, b: g * b, None, name="op"), (X, Y)),
    "detached": (lambda x: x * x.detach(), (X,)),
    "through plain NumPy": (lambda x, y: tg.tensor(np.sin(x.detach().numpy())) * y, (X, Y)),
    "plain number": (lambda x: float(x.detach().sum()), (X,)),
    "one output of two": (lambda x: (np.sin(x), scaled(1.001)(x)), (X,)),
    "one element of 150": (one_wrong_element(150, 77), (RNG.normal(size=150),)),
    "the smallest of very different elements": (one_wrong_element(5, 0), (MIXTURE,)),
    "in the middle of a deep composite": (lambda x: np.exp(np.sin(scaled(1.001)(x @ x.T) * 3)).sum(), (X,)),
    "beside a large constant": (lambda x: scaled(1.001)(x) + 1e6, (X,)),
    "small values": (primitive(lambda x: 1e-9 * np.sin(x), lambda g, _y, x: 1.001e-9 * g * np.cos(x), name="op"), (X,)),
    "fused value": (mixed(value=1 + 1e-9), (X, Y)),
    "fused gradient, first argument": (mixed(first=1 + 1e-9), (X, Y)),
    "fused gradient, second argument": (mixed(second=1.001), (X, Y)),
    "fused, inside of a function": (lambda x, y: np.exp(mixed(second=1 + 1e-10)(x, y)).sum(), (X, Y)),
    "fused, one argument wanted alone": (_wrong_alone(), (X, Y)),
    "fused, one of two outputs": (lambda x: pair_of_outputs(1.001)(x)[1], (X,)),
    "outside of the slopes at a kink": (primitive(np.abs, lambda g, _y, _x: 3 * g, name="op"), (np.zeros(2),)),
}
