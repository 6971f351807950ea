"""Operations with a seeded bug each, and the name of its cause in gradcheck's catalogue."""

import numpy as np
from wrong_gradients import BUGS, POSITIVE, SQUARE, X, Y, consuming, mixed, pair_of_outputs, writes

from tinygrad_dl.fused import fused
from tinygrad_dl.primitive import primitive

N, WIDE = X.size, np.arange(20.0).reshape(4, 5) / 7 - 1.3
AT = np.array([0, 2, 2, 1])
MASK = X > 0.2


def op(kernel, *rules):
    return primitive(kernel, *rules, name="op")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x)
    return e / e.sum(axis=-1, keepdims=True)


def rows_max(x):
    return x.max(axis=1)


def _inside(rule):
    """The tanh of a network with a rule of its own."""
    layer = op(np.tanh, rule)
    return lambda x, w: np.exp(layer(x @ w) @ w.T).sum(axis=0)


def _fused_linear(rule):
    def backward(g, saved, needs, x, w):
        return rule(g, w) if needs[0] else None, x.T @ g if needs[1] else None

    return fused(forward=lambda x, w: (x @ w, None), backward=backward, name="op")(lambda x, w: x @ w)


def _random_kernel(x):
    return x * np.random.default_rng().normal()


def _random_rule(g, _y, x):
    return g * np.random.default_rng().normal()


def _named(name, **bugs):
    return {f"{name}: {label.replace('_', ' ')}": (*bug, name) for label, bug in bugs.items()}


CATALOGUE = {
    **_named(
        "constant factor",
        two=(op(np.sin, lambda g, _y, x: 2 * g * np.cos(x)), (X,)),
        half=(op(lambda x: x * x, lambda g, _y, x: g * x), (X,)),
        sign=(op(np.cos, lambda g, _y, x: g * np.sin(x)), (X,)),
        inner_factor=(op(lambda x: np.sin(3 * x), lambda g, _y, x: g * np.cos(3 * x)), (X,)),
        a_thousandth=(op(np.sin, lambda g, _y, x: 1.001 * g * np.cos(x)), (X,)),
        number_of_elements=(op(np.sin, lambda g, _y, x: g * np.cos(x) * x.size), (X,)),
        divided_by_an_axis=(op(np.sin, lambda g, _y, x: g * np.cos(x) / x.shape[1]), (X,)),
        in_a_network=(_inside(lambda g, y, _x: 2 * g * (1 - y * y)), (X, SQUARE[:, :2].repeat(2, 0)[:4])),
        fused=(mixed(second=-2.0), (X, Y)),
        one_of_two_outputs=(lambda x: pair_of_outputs(0.5)(x)[1], (X,)),
    ),
    **_named(
        "mean treated as sum",
        whole=(op(np.mean, lambda g, _y, _x: g * np.ones(_x.shape)), (X,)),
        axis=(op(lambda x: x.mean(axis=0), lambda g, _y, _x: np.broadcast_to(g, _x.shape)), (X,)),
    ),
    **_named(
        "sum treated as mean",
        whole=(op(np.sum, lambda g, _y, _x: g * np.ones(_x.shape) / 12), (X,)),
        axis=(op(lambda x: x.sum(axis=0), lambda g, _y, _x: np.broadcast_to(g / 3, _x.shape)), (X,)),
    ),
    **_named(
        "wrong ddof",
        var=(op(np.var, lambda g, _y, x: g * 2 * (x - x.mean()) / (N - 1)), (X,)),
        var_of_ddof_one=(op(lambda x: x.var(ddof=1), lambda g, _y, x: g * 2 * (x - x.mean()) / N), (X,)),
        std=(op(np.std, lambda g, y, x: g * (x - x.mean()) / (N - 1) / y), (X,)),
        both_in_std=(op(np.std, lambda g, _y, x: g * (x - x.mean()) / (N - 1) / x.std(ddof=1)), (X,)),
    ),
    **_named(
        "missing sum over a broadcast axis",
        of_a_row=(op(np.add, lambda g, *_: g, lambda g, *_: g), (X, Y[0])),
        of_a_column=(op(np.multiply, lambda g, _y, _a, b: g * b, lambda g, _y, a, _b: g * a), (X, Y[:, :1])),
        one_part_taken=(op(np.add, lambda g, *_: g, lambda g, *_: g[0]), (X, Y[0])),
        one_part_taken_of_a_product=(
            op(np.multiply, lambda g, _y, _a, b: g * b, lambda g, _y, a, _b: (g * a)[-1]),
            (X, Y[0]),
        ),
        mean=(op(lambda x, b: x + b / 3, lambda g, *_: g, lambda g, *_: g), (X, Y[0])),
    ),
    **_named("mean over a broadcast axis", row=(op(np.add, lambda g, *_: g, lambda g, *_: g.mean(axis=0)), (X, Y[0]))),
    **_named(
        "transposed operand",
        answer=(op(np.exp, lambda g, y, _x: (g * y).T), (X,)),
        answer_square=(op(np.exp, lambda g, y, _x: (g * y).T), (SQUARE,)),
        right_factor=(op(np.matmul, lambda g, _y, _a, b: g @ b, lambda g, _y, a, _b: a.T @ g), (SQUARE, SQUARE + 1)),
        left_factor=(op(np.matmul, lambda g, _y, _a, b: g @ b.T, lambda g, _y, a, _b: a @ g), (X, WIDE)),
        gradient=(op(np.matmul, lambda g, _y, _a, b: g.T @ b.T, lambda g, _y, a, _b: a.T @ g), (SQUARE, SQUARE + 1)),
        fused=(_fused_linear(lambda g, w: g @ w), (SQUARE, SQUARE + 1)),
    ),
    **_named("wrong shape", flat=(op(np.exp, lambda g, y, _x: (g * y).ravel()), (X,))),
    **_named(
        "swapped arguments",
        rules=(op(np.divide, lambda g, y, _a, b: -g * y / b, lambda g, _y, _a, b: g / b), (X, POSITIVE)),
        operands=(op(np.multiply, lambda g, _y, a, _b: g * a, lambda g, _y, a, _b: g * a), (X, Y)),
        angles=(
            op(
                np.arctan2,
                lambda g, _y, a, b: -g * a / (a * a + b * b),
                lambda g, _y, a, b: g * b / (a * a + b * b),
            ),
            (X, POSITIVE),
        ),
    ),
    **_named(
        "input and output mistaken",
        exp=(op(np.exp, lambda g, _y, x: g * x), (X,)),
        sqrt=(op(np.sqrt, lambda g, _y, x: g / (2 * x)), (POSITIVE,)),
        square=(op(lambda x: x * x, lambda g, y, _x: 2 * g * y), (X,)),
    ),
    **_named(
        "missing chain factor",
        x=(op(lambda x: x * x, lambda g, _y, _x: 2 * g), (X,)),
        one_by_x=(op(np.log, lambda g, _y, _x: g), (POSITIVE,)),
        y=(op(np.exp, lambda g, _y, _x: g), (X,)),
        one_by_y=(op(np.sqrt, lambda g, _y, _x: g / 2), (POSITIVE,)),
        one_less_y=(op(sigmoid, lambda g, y, _x: g * y), (X,)),
        one_less_y_squared=(op(np.tanh, lambda g, _y, _x: g), (X,)),
        y_and_one_less_y=(op(sigmoid, lambda g, _y, _x: g), (X,)),
        cos=(op(np.sin, lambda g, _y, _x: g), (X,)),
        one_by_one_and_x_squared=(op(np.arctan, lambda g, _y, _x: g), (X,)),
        x_too_many=(op(lambda x: 2 * x, lambda g, _y, x: 2 * g * x), (X,)),
        other_operand=(op(np.multiply, lambda g, _y, _a, _b: g, lambda g, _y, a, _b: g * a), (X, Y)),
        one_by_y_of_a_norm=(op(lambda x: np.sqrt((x * x).sum(axis=1)), lambda g, _y, x: g[:, None] * x), (X,)),
        mask=(op(lambda x: np.maximum(x, 0), lambda g, _y, _x: g), (X,)),
        mask_of_clip=(op(lambda x: np.clip(x, -0.5, 0.7), lambda g, _y, _x: g), (X,)),
        sign=(op(np.abs, lambda g, _y, _x: g), (X,)),
    ),
    **_named(
        "inverted mask",
        relu=(op(lambda x: np.maximum(x, 0), lambda g, _y, x: g * (x < 0)), (X,)),
        leaky=(op(lambda x: np.where(x > 0, x, 0.1 * x), lambda g, _y, x: np.where(x > 0, 0.1 * g, g)), (X,)),
        clip=(op(lambda x: np.clip(x, -0.5, 0.7), lambda g, y, x: g * (y != x)), (X,)),
        where=(op(lambda x, m: np.where(m, x, 0), lambda g, _y, _x, m: np.where(m, 0, g), None), (X, MASK)),
        maximum=(op(rows_max, lambda g, y, x: g[:, None] * (x != y[:, None])), (X,)),
    ),
    **_named(
        "shifted by a slice",
        off_by_one=(op(lambda x: x[:, 1:], lambda g, _y, _x: np.pad(g, ((0, 0), (0, 1)))), (X,)),
        back=(op(lambda x: x[:-1], lambda g, _y, _x: np.pad(g, ((1, 0), (0, 0)))), (X,)),
        roll=(op(lambda x: np.roll(x, 1, axis=1), lambda g, _y, _x: g), (X,)),
    ),
    **_named(
        "repeated indices overwrite",
        vector=BUGS["repeated indices overwrite"],
        matrix=(op(lambda x, i: x[i], BUGS["repeated indices overwrite"][0].vjps[0], None), (X, AT)),
    ),
    **_named(
        "diagonal of the Jacobian only",
        softmax=(op(softmax, lambda g, y, _x: g * y * (1 - y)), (X,)),
        cumsum=(op(lambda x: np.cumsum(np.sin(x)), lambda g, _y, x: g * np.cos(x)), (X[0],)),
        centred=(op(lambda x: x - x.mean(), lambda g, _y, _x: g * (1 - 1 / N)), (X,)),
    ),
    **_named(
        "not linear in the incoming gradient",
        ignored=(op(np.tanh, lambda g, y, _x: 1 - y * y), (X,)),
        squared=(op(np.tanh, lambda g, y, _x: g * g * (1 - y * y)), (X,)),
        sign_only=(op(np.sin, lambda g, _y, x: np.sign(g) * np.cos(x)), (X,)),
        added=(op(np.sin, lambda g, _y, x: g + np.cos(x)), (X,)),
        clipped=BUGS["clips the incoming gradient"],
        dropped=BUGS["drops small incoming gradients"],
    ),
    **_named("stale value", read_in_the_rule=BUGS["value of a later call"]),
    **_named("no gradient", zeros=(op(np.tanh, lambda g, _y, _x: 0 * g), (X,))),
    **_named(
        "gradient written in place",
        at_the_end=(writes("g"), (X,)),
        inside=(lambda x: np.sin(writes("g")(x)) * 2, (X,)),
    ),
    **_named(
        "saved value mutated",
        argument=(writes("x"), (X,)),
        output=(writes("y"), (X,)),
        fused=(consuming(), (X,)),
    ),
    **_named(
        "gradient cut off",
        detached=(lambda x: x * x.detach(), (X,)),
        twice=(lambda x: np.sin(x) + x.detach() * np.exp(x.detach() * x), (X,)),
        no_rule=(op(np.multiply, lambda g, _y, _a, b: g * b, None), (X, Y)),
    ),
    **_named(
        "float32 lost inside",
        kernel=BUGS["float32 kernel"],
        cast=(lambda x: np.tanh(x.astype("float32")), (X,)),
    ),
    **_named("random forward", op=(op(_random_kernel, lambda g, _y, _x: g), (X,))),
    **_named("random backward", op=(op(np.sin, _random_rule), (X,))),
    **_named(
        "kink at the point",
        relu=(lambda x: np.maximum(x, 0), (np.array([1.0, 0.0]),)),
        tie=(lambda x: np.max(x), (np.array([3.0, 1.0, 3.0]),)),
        abs_in_a_function=(lambda x: np.exp(np.abs(x)).sum(), (np.array([0.0, 1.0, -2.0]),)),
    ),
}

UNNAMED = {  # no operation is wrong, or its rule follows no pattern: nothing can be verified, so nothing is named
    "mean taken for a constant": BUGS["mean taken for a constant"],
    "through plain NumPy": BUGS["through plain NumPy"],
    "value of an earlier call": BUGS["value of an earlier call"],
    "one element of 150": BUGS["one element of 150"],
    "detached, and through plain NumPy too": (lambda x: x * x.detach() + np.sin(x.detach().numpy()), (X,)),
    "a rule of its own": (op(np.sin, lambda g, _y, x: g * np.cos(x + 0.3)), (X,)),
}
