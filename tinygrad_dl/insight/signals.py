"""What the doctor looks for in the numbers of a step: inputs, initial weights, units, activations, gradients, the size
of the update. Each function gives a place and figures for every time that it finds its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..graph import Array, Leaf, Node
from ..optim.sgd import SGD
from ..transforms import gradients
from .flow import below, untouched_gradients
from .history import quietly
from .rehearsal import MOVING, Product, Rehearsal, kind, title
from .wiring import Found

LARGE, SMALL = 10.0, 0.01  # root mean square of inputs
NARROW = 5.0  # how many deviations a typical feature may lie away from 0
GAIN, SIGNAL = 1.6, 2.0  # factors by which initial weights' variance, and the deviation of sums, may be off
PROBE = 16  # examples before a unit that none of them wakes counts as dead
DEAD, SATURATED = 0.4, 0.5  # shares of units, and of values
FLAT = 0.04  # of the steepest slope: a tanh beyond ±0.98, a sigmoid beyond 0.01 and 0.99
GRADIENTS, ACTIVATIONS = 1e2, 1e3  # how many times the first and the last layer may differ
HASTY, IDLE = 0.5, 1e-6  # ‖ΔW‖ / ‖W‖; about 1e-3 is usual (Karpathy, CS231n notes: Ratio of weights:updates)
ROUNDS = 8  # of the power method

# fan · var(W) from and to what suits, with the inputs' fan or the mean of both fans: He et al. 2015 for (leaky) ReLU;
# Glorot and Bengio 2010, with gains from 1 up to 5/3 for tanh and to 4 for sigmoid; Klambauer et al. 2017 for SELU
GAINS: dict[str, tuple[str, float, float]] = {
    "relu": ("He", 2, 2),
    "leaky_relu": ("He", 2, 2),
    "tanh": ("Xavier", 1, 25 / 9),
    "sigmoid": ("Xavier", 1, 16),
    "elu": ("He", 1, 2),
    "selu": ("LeCun", 1, 1),
}


def not_finite(r: Rehearsal) -> Found:
    value = r.loss.data.item()
    bad = [leaf for p in r.parameters.values() if (leaf := p.node) in r.gradients and not _finite(r.gradients[leaf])]
    if not np.isfinite(value) or bad:
        what = f"the loss is {value}" if not np.isfinite(value) else f"the gradient of {r.name(bad[0])} is not finite"
        yield r.loss.node if not np.isfinite(value) else bad[0], {"what": what}


def _finite(a: Array) -> bool:
    return bool(np.isfinite(a).all())


def unscaled_inputs(r: Rehearsal) -> Found:
    """The inputs as the first layers see them, so after what the model itself does to scale them."""
    first = [p for p in r.layers if below(p.node)[0] is None]
    for product, x in {id(x): (p, x) for p in first if (x := r.operand(p.node, 0)) is not None}.values():
        if np.ndim(x) < 2 or not np.size(x):
            continue
        columns = np.asarray(x, np.float64).reshape(-1, x.shape[-1])
        size, feature = float(np.sqrt(np.square(columns).mean())), int(np.median(np.abs(columns), 0).argmax())
        typical = float(np.median(np.abs(columns[:, feature])))
        std = columns.std(0)
        varying = std > 1e-6 * np.abs(columns).max(0)
        away = float(np.median(np.abs(columns.mean(0)[varying]) / std[varying])) if varying.any() else 0.0
        figures = {"size": size, "feature": feature, "typical": typical, "away": away}
        if size > LARGE or typical > LARGE:
            yield product.node, {**figures, "what": f"a root mean square of {size:.3g}; feature {feature} is typically "
                                 f"{typical:.3g}"}  # fmt: skip
        elif 0 < size < SMALL and np.abs(columns).max() < 10 * SMALL:  # not just sparse
            yield product.node, {**figures, "what": f"a root mean square of only {size:.2g}"}
        elif away > NARROW and len(columns) >= PROBE:
            yield product.node, {**figures, "what": f"features that lie {away:.3g} deviations away from 0"}


def unsuited_init(r: Rehearsal) -> Found:
    if r.steps:
        return
    for product in r.layers:
        sums, activation = _activated(r, product)
        if activation is None:
            continue
        (scheme, low, high), values, weight = _wanted(activation), r.value(sums), r.value(product.weight)
        if values is None:
            continue
        fan_out, fan_in = np.moveaxis(weight, product.units, 0).shape
        variance, std = float(weight.var()), float(np.std(values))
        gains = (fan_in * variance, (fan_in + fan_out) / 2 * variance)
        suits = any(low / GAIN <= gain <= high * GAIN for gain in gains) or 1 / SIGNAL <= std <= SIGNAL
        if not suits and variance > 0:
            wanted = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
            yield product.weight, {"weight": r.name(product.weight), "gain": gains[0], "activation": kind(activation),
                                   "scheme": scheme, "wanted": wanted, "std": std}  # fmt: skip


def _activated(r: Rehearsal, product: Product) -> tuple[Node, Node | None]:
    """A layer's sums, and the activation that they go into, if that is all that they do."""
    node = product.node
    while len(r.users[node]) == 1:
        user = r.users[node][0]
        if kind(user) in GAINS:
            return node, user
        if title(user) not in MOVING and not (title(user) == "add" and any(isinstance(p, Leaf) for p in below(user))):
            break
        node = user
    return node, None


def _wanted(activation: Node) -> tuple[str, float, float]:
    if title(activation) == "leaky_relu":
        gain = 2 / (1 + activation.static["slope"] ** 2)
        return "He", gain, gain
    return GAINS[kind(activation)]


def identical_units(r: Rehearsal) -> Found:
    for product in r.layers:
        weight, gradient = r.value(product.weight), r.gradients.get(product.weight)
        if gradient is None or weight.shape[product.units] < 2 or not _finite(gradient):
            continue
        if _same(weight, product.units, 0.0) and _same(gradient, product.units, 1e-5):
            yield product.weight, {"weight": r.name(product.weight), "units": weight.shape[product.units]}


def _same(a: Array, axis: int, tolerance: float) -> bool:
    first = a.take([0], axis=axis)
    return bool(np.abs(a - first).max() <= tolerance * np.abs(a).max())


def dead_units(r: Rehearsal) -> Found:
    for node in r.called("relu", "maximum"):
        y = r.value(node)
        if kind(node) != "relu" or y is None or y.ndim < 2 or len(y) < PROBE:
            continue
        units = ~y.reshape(len(y), -1).any(axis=0)
        if units.mean() >= DEAD:
            yield node, {"dead": int(units.sum()), "units": units.size, "examples": len(y)}


def saturated_units(r: Rehearsal) -> Found:
    last = r.products[-1].node.order if r.products else 0
    for node in r.called("tanh", "sigmoid"):
        if node.order > last:  # of an output, that may be right
            continue
        y = r.value(node)
        if y is None:
            continue
        slope = 1 - y**2 if title(node) == "tanh" else 4 * y * (1 - y)
        share = float(np.mean(slope < FLAT))
        if share >= SATURATED:
            yield node, {"share": share, "activation": title(node), "slope": float(slope.mean())}


def activations_grow(r: Rehearsal) -> Found:
    yield from _ends(r, {p.node: r.value(p.node) for p in r.products}, lambda first, last: first * ACTIVATIONS < last)


def activations_fade(r: Rehearsal) -> Found:
    yield from _ends(r, {p.node: r.value(p.node) for p in r.products}, lambda first, last: first > ACTIVATIONS * last)


def gradients_grow(r: Rehearsal) -> Found:
    yield from _ends(r, r.gradients, lambda first, last: first > GRADIENTS * last)


def gradients_fade(r: Rehearsal) -> Found:
    yield from _ends(r, r.gradients, lambda first, last: first * GRADIENTS < last)


def _ends(r: Rehearsal, arrays: dict[Node, Any], wrong: Callable[[float, float], bool]) -> Found:
    """The first and the last of at least three hidden layers, if the sizes of their values are wrong.

    The output layer is left out: it may well begin small, or at zero."""
    found = [(p, float(np.sqrt(np.square(arrays[p.node], dtype=np.float64).mean()))) for p in r.products[:-1]
             if arrays.get(p.node) is not None]  # fmt: skip
    found = [(p, size) for p, size in found if size > 0]
    if len(found) < 3 or not wrong(found[0][1], found[-1][1]):
        return
    (start, first), (end, last) = found[0], found[-1]
    yield start.node, {"first": first, "first_layer": _layer(r, start), "last": last, "last_layer": _layer(r, end),
                       "layers": len(found)}  # fmt: skip


def _layer(r: Rehearsal, product: Product) -> str:
    return str(product.node.path or r.name(product.weight))


def _ratios(r: Rehearsal) -> dict[str, float]:
    """‖ΔW‖ / ‖W‖ of the weights; ‖W‖ counts as at least √n for n rows, or columns, if there are fewer, about what it
    is with usual initial values: from zero the first steps are large ones."""
    found = {}
    for p, new in r.updates.items():
        if p.ndim > 1 and p.node in r.gradients and r.gradients[p.node].any():
            size = max(float(np.linalg.norm(p.data)), float(np.sqrt(min(p.shape))))
            found[r.name(p)] = float(np.linalg.norm(new - p.data)) / size
    return found


def hasty(r: Rehearsal) -> Found:
    large = {name: ratio for name, ratio in _ratios(r).items() if ratio > HASTY}
    if large:
        most = max(large, key=lambda name: large[name])
        yield None, {"ratio": large[most], "weight": most, "count": len(large)}


def idle(r: Rehearsal) -> Found:
    ratios = _ratios(r)
    if ratios and max(ratios.values()) < IDLE:
        most = max(ratios, key=lambda name: ratios[name])
        yield None, {"ratio": ratios[most], "weight": most}


def too_curved(r: Rehearsal) -> Found:
    """A gradient step diverges along a direction of curvature λ if η > 2 / λ; with momentum β, and η · share of each
    gradient taken, if η · share > 2 (1 + β) / λ (Goh 2017, Why momentum really works; Nesterov's: 2 (1 + β) /
    (1 + 2β)). λ, of the Hessian of this batch's loss, is estimated from below; what it foretells must also happen."""
    groups = r.optimizer.param_groups
    if not isinstance(r.optimizer, SGD) or any(g["maximize"] for g in groups):
        return
    rates = {p: g["lr"] * _share(g) for g in groups for p in g["params"] if p.node in r.gradients}
    limit = max(2 * (1 + g["momentum"]) / (1 + 2 * g["momentum"] * g["nesterov"]) for g in groups)
    with untouched_gradients(r.nodes):
        sharpness = quietly(lambda: _sharpness(r, rates)) if any(rates.values()) else None
    if sharpness is None or not sharpness > limit:
        return
    before, after = r.loss.data.item(), r.loss_with(r.updates)
    if not after <= before:
        rate = max(g["lr"] for g in groups)
        yield None, {"rate": rate, "most": rate * limit / sharpness, "before": before, "after": after}


def _share(group: dict[str, Any]) -> float:
    """The part of a gradient that enters a step, once there is momentum."""
    if not group["momentum"]:
        return 1.0
    return float(1 - group["momentum"] if group["averaging"] else 1 - group["dampening"])


def _sharpness(r: Rehearsal, rates: dict[Any, float]) -> float:
    """The largest eigenvalue of √η H √η, η the rate of each parameter, by the power method, from below."""
    leaves = list(rates)
    roots = [np.sqrt(rates[p]) for p in leaves]
    slopes = gradients(r.loss, leaves, create_graph=True)
    rng = np.random.default_rng(0)
    v = [rng.normal(size=p.shape).astype(p.dtype) for p in leaves]
    largest = 0.0
    for _ in range(ROUNDS):
        length = np.sqrt(sum(float(np.vdot(a, a)) for a in v))
        if not length > 0:
            break
        v = [a / length for a in v]
        pairs = [(g, s * a) for g, s, a in zip(slopes, roots, v, strict=True) if g is not None and g.node is not None]
        products = gradients([g for g, _ in pairs], leaves, [a for _, a in pairs], retain_graph=True, allow_unused=True)
        hv = [np.zeros_like(a) if h is None else s * h.data for h, s, a in zip(products, roots, v, strict=True)]
        largest = max(largest, sum(float(np.vdot(a, h)) for a, h in zip(v, hv, strict=True)))
        v = hv
    return largest
