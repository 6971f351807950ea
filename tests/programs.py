"""Programs to test passes and backends on: of every operation with its gradients, of random expressions."""

import numpy as np
from op_table import ROWS

import tinygrad_dl as tg
from tinygrad_dl.compiler.feeds import Argument
from tinygrad_dl.compiler.tape import Tape
from tinygrad_dl.graph import wrap
from tinygrad_dl.scope import written_to


def record(f, arrays):
    """The program of a function of Tensors that returns Tensors, and what it gave."""
    tape, inputs = Tape(), [a.view() for a in arrays]
    for i, a in enumerate(inputs):
        tape.feed(a, Argument(i))
    found = written_to(tape, lambda: f(*map(wrap, inputs)))
    results = [y for y in found if isinstance(y, tg.Tensor)]
    return tape.program(results)[0], [y.data for y in results]


def ones(*shape, dtype=np.float32):
    return np.ones(shape or 3, dtype)


def run(f, *args, times=4):
    """The result of the last of some calls."""
    for _ in range(times):
        result = f(*args)
    return result


def values(t):
    return t.numpy().tolist()


def training_step(model, optimizer):
    """One step of descent on the cross-entropy, to be compiled."""

    def step(x, y):
        optimizer.zero_grad()
        loss = tg.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def _arrays(tree):
    if isinstance(tree, list | tuple):
        return [x for part in tree for x in _arrays(part)]
    return [tree] if isinstance(tree, np.ndarray) else []


def _filled(tree, rest):
    if type(tree) in (list, tuple):
        return type(tree)(_filled(part, rest) for part in tree)
    return next(rest) if isinstance(tree, np.ndarray) else tree


def _tensors(tree):
    if isinstance(tree, list | tuple):
        return [x for part in tree for x in _tensors(part)]
    return [tree] if isinstance(tree, tg.Tensor) else []


def with_gradients(row):
    """A function of the row's arrays: its results, and the gradients of all that is floating."""

    def f(*tensors):
        inputs = [t.detach() for t in tensors]
        for t in inputs:
            if t.dtype.kind == "f":
                t.requires_grad = True
        outputs = _tensors(row.call(_filled(row.sample(), iter(inputs))))
        wanted, ys = [t for t in inputs if t.requires_grad], [y for y in outputs if y.requires_grad]
        found = []
        if wanted and ys:
            weights = tuple(np.random.default_rng(1).normal(size=y.shape).astype(y.dtype) for y in ys)
            found = tg.gradients(ys, wanted, weights, allow_unused=True)
        return [y.detach() for y in outputs] + [g for g in found if g is not None]

    return f


def of_row(row):
    """`(program, arrays, results)` of a row; None where shapes depend on values or a generator draws."""
    arrays = _arrays(row.sample())
    try:
        program, results = record(with_gradients(row), arrays)
    except RuntimeError as error:
        if "depends on values" in str(error) or "reads a value out" in str(error):
            return None
        raise
    if len(program.inputs) != len(arrays):  # it draws
        return None
    return program, arrays, results


CALLED = [row for row in ROWS if _arrays(row.sample())]


def expression(rng, dtype=np.float64, steps=12):
    """`(f, arrays)`: a random function of a few matrices, vectors and numbers, without NaN."""
    arrays = [rng.normal(size=shape).astype(dtype) for shape in ((5, 7), (5, 7), (7,), (5, 1), (7, 4), ())]
    plan = [(rng.integers(len(_STEPS)), rng.integers(100), rng.integers(100)) for _ in range(steps)]

    def f(*tensors):
        values = list(tensors)
        for step, i, j in plan:
            a, b = values[i % len(values)], values[j % len(values)]
            try:
                values.append(_STEPS[step](a, b))
            except (ValueError, IndexError):  # shapes that do not fit
                continue
        return values[len(tensors) :] or [values[0] * 1]

    return f, arrays


_STEPS = [
    lambda a, b: a + b,
    lambda a, b: a * b * 0.5,
    lambda a, b: a - np.tanh(b),
    lambda a, b: a / (1 + b * b),
    lambda a, b: np.maximum(a, b),
    lambda a, b: np.where(a > b, a, 0.5 * b),
    lambda a, b: np.sqrt(a * a + 1),
    lambda a, b: np.exp(-(a * a)),
    lambda a, b: a.sum(axis=0) if a.ndim else a,
    lambda a, b: a.sum(axis=-1, keepdims=True) if a.ndim else a,
    lambda a, b: a.mean() + b,
    lambda a, b: np.max(a, axis=-1, keepdims=True) if a.ndim else a,
    lambda a, b: np.tanh(a @ b),
    lambda a, b: a.T,
    lambda a, b: a.reshape(-1)[:5] if a.size > 4 else a,
    lambda a, b: (a > 0).astype(a.dtype) + b,
    lambda a, b: np.concatenate([a, b], axis=-1) if a.ndim and b.ndim else a,
    lambda a, b: a[..., 1::2] + b[..., :-1:2] if a.ndim and b.ndim else a,
    lambda a, b: np.flip(a, -1) * b if a.ndim else a,
    lambda a, b: np.exp(-np.abs(a[:3, None] - a[:2]))[..., 0] if a.ndim else b,
    lambda a, b: a[np.array([0, 2, -1, 0])] if a.ndim and len(a) > 2 else b,
    lambda a, b: np.pad(a[:2], 1) if a.ndim else b,
    lambda a, b: (a[:, None] * a[:, :1, None]).sum(axis=(0, 2)) if a.ndim == 2 else b,
]


def expression_of_many_dtypes(rng):
    """`(f, arrays)`: the same of small whole numbers, cast now and then; sums and products may overflow."""
    shapes = (45, 50), (45, 50), (50,), (45, 1), ()
    arrays = [np.asarray(rng.integers(0, 4, shape)).astype(rng.choice(_DTYPES)) for shape in shapes]
    plan = [(rng.integers(len(_CASTING)), rng.integers(100), rng.integers(100), rng.choice(_DTYPES)) for _ in range(14)]

    def f(*tensors):
        values = list(tensors)
        for step, i, j, dtype in plan:
            try:
                values.append(_CASTING[step](values[i % len(values)], values[j % len(values)], dtype))
            except (ValueError, TypeError):  # shapes or dtypes that do not fit
                continue
        return values[-4:]

    return f, arrays


_DTYPES = [np.float16, np.float32, np.float64, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.bool_]
_CASTING = [
    lambda a, b, t: tg.ops.astype(a, dtype=t),
    lambda a, b, t: a + b,
    lambda a, b, t: np.multiply(a, b),
    lambda a, b, t: np.where(np.greater(a, b), a, b),
    lambda a, b, t: np.where(np.greater(a, b), a, 0),
    lambda a, b, t: np.where(np.greater(a, 1), 0, b),
    lambda a, b, t: a.sum(axis=0) if a.ndim else a,
    lambda a, b, t: a.sum(),
    lambda a, b, t: np.prod(a, axis=-1, keepdims=True) if a.ndim else a,
    lambda a, b, t: np.max(a, axis=-1) if a.ndim else a,
    lambda a, b, t: a.mean(axis=0) if a.ndim and a.dtype.kind == "f" else a,
    lambda a, b, t: a[..., 1:] if a.ndim and a.shape[-1] > 1 else a,
    lambda a, b, t: a[::-1] if a.ndim else a,
    lambda a, b, t: a[(0,) * a.ndim],
    lambda a, b, t: a[np.array([0, 0])] if a.ndim else a,
    lambda a, b, t: a.T,
    lambda a, b, t: a.reshape(-1),
    lambda a, b, t: np.broadcast_to(a, (3, *a.shape)) if a.size < 5000 else a,
    lambda a, b, t: a @ b.T if a.ndim == b.ndim == 2 and a.shape[1] == b.shape[1] else a,
]


def gradients_of_expression(rng):
    """`(f, arrays)`: a loss of three matrices, and its gradients; between what fuses is what moves elements."""
    arrays = [rng.normal(size=(6, 7)) for _ in range(3)]
    plan = [(rng.integers(len(_MOVING)), rng.integers(100), rng.integers(100)) for _ in range(rng.integers(3, 14))]

    def f(*tensors):
        inputs = [t.detach() for t in tensors]
        for t in inputs:
            t.requires_grad = True
        values = list(inputs)
        for step, i, j in plan:
            values.append(_MOVING[step](values[i % len(values)], values[j % len(values)]))
        loss = sum((t * t).mean() for t in values[-3:])
        found = tg.gradients([loss], inputs, allow_unused=True)
        return [t.detach() for t in (loss, *values[-2:])] + [g for g in found if g is not None]

    return f, arrays


_MOVING = [
    lambda a, b: a + b,
    lambda a, b: a * b,
    lambda a, b: a / (1 + b * b),
    lambda a, b: np.tanh(a),
    lambda a, b: np.maximum(a, 0) * 2,
    lambda a, b: np.where(a > b, a, b),
    lambda a, b: np.clip(a, -1, 1),
    lambda a, b: a**2,
    lambda a, b: a * a.mean(),
    lambda a, b: a - b.sum(axis=0, keepdims=True) * 0.1,
    lambda a, b: a * b.max(axis=1, keepdims=True),
    lambda a, b: tg.nn.functional.softmax(a),
    lambda a, b: a @ b.T @ b * 0.05,
    lambda a, b: np.roll(a, 1, axis=-1),
    lambda a, b: np.roll(a, 2, axis=0),
    lambda a, b: np.flip(a, 0),
    lambda a, b: np.cumsum(a, axis=0) * 0.1,
    lambda a, b: np.concatenate([a[:2], b[2:]]),
    lambda a, b: np.stack([a, b]).sum(axis=0),
    lambda a, b: a.T.reshape(a.shape),
]
