"""Looks of the doctor at models with one fault each, and at the same models without it: `CASES`."""

import numpy as np
from doctor_cases import BCE, CE, MSE, Residual, curve, yes_or_no
from doctor_models import (
    ByHand,
    Cut,
    Scaled,
    WrittenOutSigmoid,
    WrittenOutSoftmax,
    X,
    Y,
    added_between_steps,
    asleep,
    column,
    deep,
    evaluated,
    frozen_norm,
    gain,
    in_one,
    linear_chain,
    look,
    mlp,
    nan,
    partly_frozen,
    remembering,
    replaced,
    saturated,
    sgd,
    small,
    trained,
    twice_backward,
    with_optimizer,
    with_weights,
    zeroed_in_place,
)

import tinygrad_dl as tg
from tinygrad_dl import nn, optim

# fault: looks at which it is found, and looks at which it is not
CASES = {
    "not finite": (
        [lambda: nan(mlp()), lambda: look(mlp(), (np.full_like(X[:64], np.inf), Y[:64]))],
        [lambda: look(mlp())],
    ),
    "graph of an earlier step": (
        [lambda: remembering(False)],
        [lambda: remembering(True), lambda: look(mlp(), (mlp()[0](tg.tensor(X[:64]))[:, :20], Y[:64]))],
    ),
    "softmax before cross-entropy": (
        [
            lambda: look(nn.Sequential(nn.Linear(20, 5), nn.Softmax())),
            lambda: look(WrittenOutSoftmax(20, 5)),
            lambda: look(nn.Sequential(nn.Linear(20, 5), nn.Softmax()), loss=nn.CrossEntropyLoss(label_smoothing=0.1)),
        ],
        [
            lambda: look(nn.Linear(20, 5)),
            lambda: look(nn.Sequential(nn.Linear(20, 5), nn.LogSoftmax()), loss=nn.NLLLoss()),
            lambda: look(nn.Sequential(nn.Linear(20, 5), nn.ReLU())),
        ],
    ),
    "activation before cross-entropy": (
        [
            lambda: look(nn.Sequential(nn.Linear(20, 5), nn.ReLU())),
            lambda: look(nn.Sequential(nn.Linear(20, 5), ByHand())),
            lambda: look(nn.Sequential(nn.Linear(20, 5), nn.Sigmoid())),
            lambda: look(nn.Sequential(nn.Linear(20, 5), nn.Tanh(), nn.LogSoftmax()), loss=nn.NLLLoss()),
            lambda: look(nn.Sequential(nn.Linear(20, 5), nn.Softmax(axis=0))),
        ],
        [
            lambda: look(nn.Linear(20, 5)),
            lambda: look(mlp(nn.Sigmoid)),
            lambda: look(nn.Sequential(nn.Linear(20, 5), nn.Softmax())),  # has a name of its own
            lambda: look(nn.Sequential(nn.Linear(20, 5), nn.LeakyReLU())),
            lambda: look(nn.Sequential(nn.Linear(20, 5), nn.Tanh()), loss=lambda z, y: CE(20 * z, y)),  # soft-capped
            lambda: look(nn.Sequential(nn.Linear(3, 1), nn.ReLU()), curve(0), MSE),
        ],
    ),
    "outputs broadcast against targets": (
        [
            lambda: look(nn.Linear(3, 1), column(), lambda o, t: ((o - t) ** 2).mean()),
            lambda: look(nn.Linear(3, 1), column(), lambda o, t: np.abs(t - o).mean()),
            lambda: look(nn.Linear(3, 1), curve(0, 64), lambda o, t: np.square(o[:, 0] - t).mean()),
        ],
        [
            lambda: look(nn.Linear(3, 1), column(), lambda o, t: np.square(o - t[:, None]).mean()),
            lambda: look(nn.Linear(3, 1), curve(0, 64), lambda o, t: np.square(o - t).mean()),
            lambda: look(nn.Linear(3, 1), column(), lambda o, t: np.square(o - o.T - (t[:, None] - t)).mean()),
            lambda: look(nn.Linear(3, 3), (curve(0, 3)[0], np.ones((3, 3))), lambda o, t: np.square(o - t).mean()),
        ],
    ),
    "sigmoid before the with-logits loss": (
        [
            lambda: look(nn.Sequential(nn.Linear(20, 1), nn.Sigmoid()), yes_or_no(0), BCE),
            lambda: look(WrittenOutSigmoid(20, 1), yes_or_no(0), BCE),
        ],
        [
            lambda: look(nn.Linear(20, 1), yes_or_no(0), BCE),
            lambda: look(nn.Sequential(nn.Linear(20, 1), nn.Sigmoid()), yes_or_no(0), MSE),
        ],
    ),
    "bias before batch norm": (
        [lambda: look(nn.Sequential(nn.Linear(20, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 5)))],
        [
            lambda: look(mlp(norm=True)),
            lambda: look(nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.BatchNorm1d(32), nn.Linear(32, 5))),
        ],
    ),
    "dropout before batch norm": (
        [
            lambda: look(nn.Sequential(nn.Linear(20, 32), nn.Dropout(0.2), nn.BatchNorm1d(32), nn.Linear(32, 5))),
            lambda: look(nn.Sequential(nn.Linear(20, 20), nn.Dropout(0.5), nn.ReLU(), mlp(norm=True))),
        ],
        [lambda: look(mlp(norm=True, drop=0.5)), lambda: look(mlp(drop=0.5))],
    ),
    "float64 leaking in": (
        [
            lambda: look(mlp(), (X[:64].astype(np.float64), Y[:64])),
            lambda: look(Scaled(np.sqrt(0.5))),
            lambda: look(nn.Linear(3, 1), [a.astype(t) for a, t in zip(curve(0), "fd", strict=True)], MSE),
        ],
        [
            lambda: look(Scaled(0.5)),
            lambda: look(mlp().astype(np.float64), (X[:64].astype(np.float64), Y[:64])),
        ],
    ),
    "evaluation mode": (
        [lambda: look(mlp(norm=True).eval()), lambda: look(mlp(drop=0.5).eval())],
        [lambda: look(mlp(norm=True, drop=0.5)), lambda: look(mlp().eval()), frozen_norm],
    ),
    "evaluated in training mode": ([lambda: evaluated(False)], [lambda: evaluated(True)]),
    "parameters without gradient": (
        [lambda: look(Cut(True)), lambda: look(nn.Linear(20, 5), loss=lambda z, y: CE(z.detach(), y))],
        [lambda: look(Cut(False)), lambda: look(Cut(True).requires_grad_(False))],
    ),
    "nothing to learn": (
        [lambda: look(mlp().requires_grad_(False))],
        [lambda: look(mlp()), lambda: look(partly_frozen())],
    ),
    "parameters not in the optimizer": (
        [lambda: with_optimizer(lambda m: optim.Adam(m[0].parameters())), lambda: replaced(False)],
        [lambda: with_optimizer(lambda m: optim.Adam(optim.decay_groups(m, 0.1))), lambda: replaced(True)],
    ),
    "other parameters in the optimizer": (
        [lambda: replaced(False), lambda: with_optimizer(lambda m: optim.Adam(mlp().parameters()))],
        [lambda: replaced(True)],
    ),
    "gradients accumulated": (
        [
            lambda: with_optimizer(lambda m: trained(m, 30, zero_grad=False, optimizer=sgd(lr=1e-3)(m))),
            lambda: with_optimizer(lambda m: trained(m, 4, zero_grad=False)),
            twice_backward,
        ],
        [
            lambda: with_optimizer(lambda m: trained(m, 30)),
            lambda: with_optimizer(zeroed_in_place),
            lambda: with_optimizer(lambda m: added_between_steps(m, trained(m, 3))),
        ],
    ),
    "batch norm on a tiny batch": (
        [lambda: look(mlp(norm=True), small(4))],
        [lambda: look(mlp(norm=True), small(16)), lambda: look(mlp(), small(4))],
    ),
    "unscaled inputs": (
        [
            lambda: look(mlp(), (X[:64] * 100, Y[:64])),
            lambda: look(mlp(), (X[:64] / 1000, Y[:64])),
            lambda: look(mlp(), (X[:64] * np.where(np.arange(20) == 3, 500, 1).astype(np.float32), Y[:64])),
            lambda: look(mlp(), (1 + X[:64] / 100, Y[:64])),
        ],
        [
            lambda: look(Scaled(0.01), (X[:64] * 100, Y[:64])),
            lambda: look(mlp(), ((X[:64] > 0).astype("f"), Y[:64])),
            lambda: look(nn.Linear(20_000, 5), (np.eye(64, 20_000, dtype=np.float32), Y[:64])),
        ],
    ),
    "identical units": (
        [
            lambda: look(mlp(init="zeros")),
            lambda: look(mlp(nn.Tanh, init=lambda w: nn.init.constant_(w, 0.1))),
        ],
        [
            lambda: look(nn.Linear(20, 5, init="zeros")),
            lambda: look(nn.Sequential(nn.Linear(20, 32), Residual(32, "zeros"), nn.Linear(32, 5))),
            lambda: with_weights(in_one, mlp()),  # the output layer's weights tell them apart
        ],
    ),
    "unsuited initial weights": (
        [
            lambda: look(mlp(nn.Tanh, "normal")),
            lambda: look(mlp(nn.ReLU, "fan_in_uniform", 3)),
            lambda: look(mlp(nn.SELU, gain(6.0), 3)),
            lambda: look(mlp(nn.LeakyReLU, gain(0.05))),
            lambda: look(mlp(ByHand, gain(0.05))),
        ],
        [
            lambda: look(mlp(nn.ReLU, "xavier_normal")),
            lambda: look(mlp(nn.Tanh, "xavier_uniform", 3)),
            lambda: look(mlp(nn.SELU, "lecun_normal", 3)),
            lambda: look(mlp(nn.ReLU, "normal", norm=True)),
            lambda: look(nn.init.lsuv_(mlp(depth=3), X)),
            lambda: saturated(30),
        ],
    ),
    "dead units": (
        [lambda: with_weights(asleep, mlp()), lambda: with_weights(asleep, mlp(ByHand))],
        [lambda: look(mlp()), lambda: with_weights(asleep, mlp(nn.LeakyReLU))],
    ),
    "saturated units": ([lambda: saturated(30)], [lambda: saturated(1)]),
    "activations explode": ([lambda: linear_chain(9)], [lambda: linear_chain(1)]),
    "activations vanish": ([lambda: linear_chain(0.1)], [lambda: linear_chain(1)]),
    "gradients explode": ([lambda: linear_chain(9)], [lambda: linear_chain(1)]),
    "gradients vanish": (
        [lambda: deep(nn.Sigmoid, "xavier_normal")],
        [lambda: deep(nn.Tanh, "xavier_normal"), lambda: deep(nn.Sigmoid, "xavier_normal", 2)],
    ),
    "learning rate beyond the curvature": (
        [lambda: with_optimizer(sgd(lr=50.0)), lambda: with_optimizer(sgd(lr=50.0, momentum=0.9, nesterov=True))],
        [lambda: with_optimizer(sgd(lr=0.1)), lambda: with_optimizer(sgd(lr=0.1, momentum=0.9, averaging=True))],
    ),
    "updates too large": ([lambda: look(mlp(), lr=0.5)], [lambda: look(mlp(), lr=3e-3)]),
    "updates too small": (
        [lambda: look(mlp(), lr=1e-9), lambda: with_optimizer(sgd(lr=0.0))],
        [lambda: look(mlp(), lr=1e-4)],
    ),
}  # fmt: skip
