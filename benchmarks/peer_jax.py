"""The measured steps as pure functions under jax.jit, whose state is donated: its memory is written again."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .peers import (
    ADAM_EPS,
    EPS,
    FIRST,
    RATE,
    SECOND,
    Case,
    Elementwise,
    Gathering,
    Inference,
    Letters,
    Network,
    Parameters,
    Recurrent,
    Transformer,
)
from .timing import Contestant


def _arrays(result: Any) -> list[Any]:
    return [np.asarray(a) for a in jax.tree.leaves(result)]


def _initial(network: Network) -> tuple[Any, Any]:
    """Parameters and running statistics of every layer."""
    params: list[dict[str, Any]] = []
    for weight in network.weights():
        width = len(weight)
        params.append({"w": jnp.asarray(weight.T), "scale": jnp.ones(width), "shift": jnp.zeros(width)})
    del params[-1]["scale"]
    return params, [(jnp.zeros(b), jnp.ones(b)) for _, b in network.pairs[:-1]]


def _forward(params: Any, stats: Any, x: Any, key: Any, dropout: float, training: bool) -> tuple[Any, Any]:
    moved = []
    for p, (mean, variance) in zip(params[:-1], stats, strict=True):
        x = x @ p["w"]
        if training:
            n = len(x)
            of_batch, squares = x.mean(0), x.var(0)
            moved.append((0.9 * mean + 0.1 * of_batch, 0.9 * variance + 0.1 * n / (n - 1) * squares))
            mean, variance = of_batch, squares
        x = (x - mean) * (jax.lax.rsqrt(variance + EPS) * p["scale"]) + p["shift"]
        x = jnp.maximum(x, 0)
    if training and dropout:
        x = jnp.where(jax.random.bernoulli(key, 1 - dropout, x.shape), x / (1 - dropout), 0)
    return x @ params[-1]["w"] + params[-1]["shift"], moved


def _adam_step(params: Any, gradients: Any, first: Any, second: Any, count: Any) -> tuple[Any, Any, Any]:
    first = jax.tree.map(lambda m, g: FIRST * m + (1 - FIRST) * g, first, gradients)
    second = jax.tree.map(lambda v, g: SECOND * v + (1 - SECOND) * g * g, second, gradients)
    scale = jnp.sqrt(1 - SECOND**count)
    rate = RATE / (1 - FIRST**count)
    params = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) / scale + ADAM_EPS), params, first, second)
    return params, first, second


def _zeros(tree: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, tree)


def _stateful(step: Callable[..., Any], state: Any, *data: Any) -> Contestant:
    """A step that takes and gives the state, jitted; the state goes from call to call."""
    jitted = jax.jit(step, donate_argnums=0)

    def run() -> Any:
        nonlocal state
        state, result = jitted(state, *data)
        return result

    return Contestant(run, _arrays)


def _differentiated(network: Network) -> Callable[..., Any]:
    """Loss, moved statistics, and gradients, of parameters, statistics, inputs, labels and a key."""

    def loss_of(params: Any, stats: Any, x: Any, y: Any, key: Any) -> Any:
        scores, moved = _forward(params, stats, x, key, network.dropout, training=True)
        return -jnp.take_along_axis(jax.nn.log_softmax(scores), y[:, None], 1).mean(), moved

    return jax.value_and_grad(loss_of, has_aux=True)


def _training(network: Network) -> Contestant:
    both = _differentiated(network)

    def step(state: Any, x: Any, y: Any) -> Any:
        params, stats, first, second, count, key = state
        key, now = jax.random.split(key)
        (loss, moved), gradients = both(params, stats, x, y, now)
        params, first, second = _adam_step(params, gradients, first, second, count + 1)
        return (params, moved, first, second, count + 1, key), loss

    params, stats = _initial(network)
    state = (params, stats, _zeros(params), _zeros(params), jnp.asarray(0.0), jax.random.key(0))
    return _stateful(step, state, *(jnp.asarray(a) for a in network.data()))


def _gathering(network: Network) -> Contestant:
    both = _differentiated(network)
    params, stats = _initial(network)

    def step(state: Any, params: Any, x: Any, y: Any) -> Any:
        before, stats, key = state
        key, now = jax.random.split(key)
        (loss, moved), gradients = both(params, stats, x, y, now)
        gradients = jax.tree.map(jnp.add, before, gradients)
        return (gradients, moved, key), (loss, gradients[0]["w"][:, 0])

    state = (_zeros(params), stats, jax.random.key(0))
    return _stateful(step, state, params, *(jnp.asarray(a) for a in network.data()))


def _inference(network: Network) -> Contestant:
    params, stats = _initial(network)
    x = jnp.asarray(network.data()[0])
    predict = jax.jit(lambda params, stats, x: _forward(params, stats, x, None, 0.0, training=False)[0])
    return Contestant(lambda: predict(params, stats, x), _arrays)


def _elementwise(case: Elementwise) -> Contestant:
    x, w, b, weights = (jnp.asarray(a) for a in case.data())

    def loss(x: Any, w: Any, b: Any, weights: Any) -> Any:
        h = jax.nn.gelu(x * w + b, approximate=True)
        centred = h - h.mean(1, keepdims=True)
        variance = (centred * centred).mean(1, keepdims=True)
        return (centred * jax.lax.rsqrt(variance + EPS) * weights).mean()

    both = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))
    return Contestant(lambda: both(x, w, b, weights), _arrays)


def _norm(x: Any, scale: Any, shift: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + EPS) * scale + shift


def _block(params: Any, x: Any, heads: int) -> Any:
    """A block of a transformer, and a classifier behind it."""

    def linear(name: str, x: Any) -> Any:
        return x @ params[name] + params[name + " bias"]

    y = _norm(x, *params["norms"][0])
    query, key, value = (
        linear(name, y).reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3) for name in ("query", "key", "value")
    )
    weights = jax.nn.softmax(query @ key.swapaxes(-1, -2) / query.shape[-1] ** 0.5, axis=-1)
    x = x + linear("mix", (weights @ value).transpose(0, 2, 1, 3).reshape(x.shape))
    hidden = jax.nn.gelu(linear("up", _norm(x, *params["norms"][1])), approximate=True)
    return linear("classes", (x + linear("down", hidden)).mean(1))


def _lstm(params: Any, x: Any) -> Any:
    """By a scan, which was quicker than written out, and a classifier behind it."""

    def cell(state: Any, x: Any) -> Any:
        h, c = state
        i, f, g, o = jnp.split(jnp.concatenate([x, h], 1) @ params["gates"], 4, 1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

    zeros = jnp.zeros((len(x), len(params["classes"])))
    (h, _), _ = jax.lax.scan(cell, (zeros, zeros), x.swapaxes(0, 1))
    return h @ params["classes"] + params["classes bias"]


def _letters(params: Any, x: Any) -> Any:
    hidden = jnp.tanh(params["table"][x].reshape(len(x), -1) @ params["hidden"] + params["hidden bias"])
    return hidden @ params["next"] + params["next bias"]


def _model_step(case: Transformer | Recurrent | Letters) -> Contestant:
    weights = case.weights()
    params: dict[str, Any] = {name: jnp.asarray(weight.T) for name, weight in weights.items()}
    params |= {f"{name} bias": jnp.zeros(len(weight)) for name, weight in weights.items()}
    match case:
        case Transformer():
            params["norms"] = [(jnp.ones(case.width), jnp.zeros(case.width)) for _ in range(2)]
            forward = functools.partial(_block, heads=case.heads)
        case Recurrent():
            gates = jnp.concatenate([params.pop("input"), params.pop("state")])
            params = {"gates": gates, "classes": params["classes"], "classes bias": params["classes bias"]}
            forward = _lstm
        case Letters():
            params["table"] = params["table"].T
            del params["table bias"]
            forward = _letters

    def step(state: Any, x: Any, y: Any) -> Any:
        params, first, second, count = state

        def loss_of(params: Any) -> Any:
            return -jnp.take_along_axis(jax.nn.log_softmax(forward(params, x)), y[:, None], 1).mean()

        loss, gradients = jax.value_and_grad(loss_of)(params)
        params, first, second = _adam_step(params, gradients, first, second, count + 1)
        return (params, first, second, count + 1), loss

    state = (params, _zeros(params), _zeros(params), jnp.asarray(0.0))
    return _stateful(step, state, *(jnp.asarray(a) for a in case.data()))


def _adam(case: Parameters) -> Contestant:
    def step(state: Any, gradient: Any) -> Any:
        value, first, second, count = state
        value, first, second = _adam_step(value, gradient, first, second, count + 1)
        return (value, first, second, count + 1), value[:1000]

    value, gradient = (jnp.asarray(a) for a in case.data())
    return _stateful(step, (value, _zeros(value), _zeros(value), jnp.asarray(0.0)), gradient)


def make(variant: str, case: Case) -> Contestant | None:
    """The step of a case."""
    match case:
        case Network():
            return _training(case)
        case Inference(network):
            return _inference(network)
        case Gathering(network):
            return _gathering(network)
        case Elementwise():
            return _elementwise(case)
        case Transformer() | Recurrent() | Letters():
            return _model_step(case)
        case Parameters():
            return _adam(case)
    return None
