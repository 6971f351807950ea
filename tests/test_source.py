"""`step.source`: the latest program as a file that a person can read and that NumPy alone can run."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl import nn, optim

ALONE = """
import runpy, sys
import numpy as np
step = runpy.run_path(sys.argv[1])["step"]
with np.load(sys.argv[2]) as given:
    outputs = step(*[given[f"arr_{i}"] for i in range(len(given.files))])
np.savez(sys.argv[3], *outputs)
assert not [name for name in sys.modules if name.partition(".")[0] in ("tinygrad_dl", "llvmlite")]
"""


def run_alone(text, arrays, folder):
    """The outputs of a file's `step` in a process of its own, which sees no more than NumPy."""
    file, given, result = folder / "step.py", folder / "in.npz", folder / "out.npz"
    file.write_text(text, encoding="utf-8")
    np.savez(given, *arrays)
    subprocess.run([sys.executable, "-I", "-c", ALONE, file, given, result], check=True)
    with np.load(result) as got:
        return [got[f"arr_{i}"] for i in range(len(got.files))]


def trained(backend="numpy", size=24, classes=5):
    """A compiled step like that of the digits, after its recording, with data."""
    with tg.random.scope(0):
        model = nn.Sequential(
            nn.Linear(size, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, classes)
        )
    optimizer = optim.Adam(model.parameters(), lr=1e-2)

    @tg.compile(backend=backend)
    def step(x, y):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, size)).astype(np.float32), rng.integers(0, classes, 40)
    with tg.random.scope(1):
        step(x, y)
    return step, model, optimizer, x, y


def test_a_training_step_runs_alone_and_gives_the_numbers_of_the_compiled_one(tmp_path):
    step, model, optimizer, x, y = trained()
    program = step.programs[0]
    names = [v.name for v in program.inputs]
    before = {f"model.{name}": t.numpy().copy() for name, t in model.state_dict().items()}
    for name, p in model.named_parameters():
        kept = {k: t for k, t in optimizer.state[p].items() if isinstance(t, tg.Tensor)}
        before |= {f"{k} of model.{name}": t.numpy().copy() for k, t in kept.items()}
    with tg.random.scope(2):
        loss = step(x, y)
    with tg.random.scope(2):
        key = tg.random.key()
    (count,) = {state["step"] for state in optimizer.state.values()}
    group = optimizer.param_groups[0]
    numbers = dict(optimizer.constants({"step": count}, group))
    known = {"x": x, "y": y, "key": key, "lr": group["lr"], "eps": group["eps"], **before, **numbers}
    known |= {"betas.0": group["betas"][0], "betas.1": group["betas"][1]}
    arrays = [np.asarray(known[n], v.dtype) for n, v in zip(names, program.inputs, strict=True)]
    outputs = dict(zip([v.name for v in program.outputs], run_alone(step.source, arrays, tmp_path), strict=True))
    np.testing.assert_array_equal(outputs.pop("result"), loss.numpy())
    for name, p in model.named_parameters():
        np.testing.assert_array_equal(outputs.pop(f"grad of model.{name}"), p.grad.numpy())
        for k in ("exp_avg", "exp_avg_sq"):
            np.testing.assert_array_equal(outputs.pop(f"new {k} of model.{name}"), optimizer.state[p][k].numpy())
    for name, t in model.state_dict().items():
        np.testing.assert_array_equal(outputs.pop(f"new model.{name}"), t.numpy())
    assert not outputs


def test_values_bear_the_users_names():
    step, *_ = trained()
    text = step.source
    signature = text[text.index("def step(") : text.index("\n):")]
    for name in ("x", "y", "model_0_weight", "model_1_running_mean", "key", "lr", "betas_1", "exp_avg_of_model_4_bias"):
        assert f"    {name},  # " in signature
    assert "    grad_of_model_4_bias = np.add.reduce(" in text
    assert ", out=model_0_weight)" in text
    assert "        new_model_4_weight,  # replaces model_4_weight\n" in text
    assert "new_model_0_weight -> model_0_weight" in str(step.programs[0])


def test_comments_say_which_line_and_layer_each_part_came_from():
    step, *_ = trained()
    body = step.source[step.source.index("def step(") :].split("\n")
    comments = [line.strip() for line in body if line.strip().startswith("#")]
    layers = [c for c in comments if c.startswith("# layer")]
    assert [int(c[-1]) for c in layers] == [0, 1, 2, 3, 4, 4, 3, 2, 1, 0]  # forward and back
    first = comments[0]
    assert first.startswith("# test_source.py:")
    assert first.endswith("in step: loss = nn.functional.cross_entropy(model(x), y)")
    loss = next(i for i, line in enumerate(body) if "np.log(" in line)  # outside of the layers
    assert next(line.strip() for line in reversed(body[:loss]) if line.strip().startswith("#")) == first
    assert comments[-1].endswith("in step: optimizer.step()")
    backward = next(i for i, c in enumerate(comments) if c.startswith("# backward of test_source.py:"))
    assert sum(c.startswith("# layer") for c in comments[:backward]) == 5


def test_names_are_found_in_nested_arguments_and_methods():
    class Task:
        def __init__(self):
            self.model = nn.Linear(3, 2)

        @tg.compile
        def scores(self, batch, scale, *more):
            return {"y": self.model(batch["image"]) * scale, "z": more[0]}

    task = Task()
    task.scores({"image": np.ones((4, 3), np.float32)}, np.float32(2), np.ones(2))
    (program,) = Task.scores.programs
    assert [v.name for v in program.inputs] == [
        "batch.image", "scale", "more.0", "self.model.weight", "self.model.bias",
    ]  # fmt: skip
    assert [v.name for v in program.outputs] == ["result 0", "more.0"]


def test_names_that_python_and_numpy_have_are_left_alone(tmp_path):
    @tg.compile(backend="numpy")
    def f(np, step, sum, b0, v0):
        return np * step + sum * b0 - v0

    arrays = [np.full((8, 9), float(i)) for i in range(5)]
    want = f(*arrays)
    (got,) = run_alone(f.source, arrays, tmp_path)
    np.testing.assert_array_equal(got, want.numpy())


def test_the_source_is_of_the_program_that_ran_last():
    f = tg.compile(lambda x: np.tanh(x) if x.ndim == 1 else np.exp(x))
    with pytest.raises(RuntimeError, match="before the first call"):
        _ = f.source
    vector, matrix = np.ones(3), np.ones((2, 3))
    f(vector)
    assert "np.tanh" in f.source
    f(matrix)
    assert "np.exp" in f.source
    f(vector)
    assert "np.tanh" in f.source
    f.clear()
    with pytest.raises(RuntimeError, match="before the first call"):
        _ = f.source


@pytest.mark.parametrize("backend", ["native", "numpy", "interpreter"])
def test_explain_says_which_backend_and_how_often(backend):
    if backend == "native":
        pytest.importorskip("llvmlite")
    f = tg.compile(lambda x: x * 2, backend=backend)
    for n in (3, 3, 4, 3):
        f(np.ones(n))
    assert f.explain().split("\n") == [
        "<lambda>: 2 programs",
        f"  0: {f.programs[0]!r}, run by {backend}",
        "     recorded because of the first call; replayed 2 times",
        f"  1: {f.programs[1]!r}, run by {backend}",
        "     recorded because of an array argument of float64 (4,), after float64 (3,); replayed 0 times",
    ]


def test_programs_are_listed_in_the_order_of_their_recording():
    factor = 1.0
    f = tg.compile(lambda x: x * factor)
    f(np.ones(3))
    f(np.ones(4))
    factor = 2.0
    f(np.ones(3))
    assert [p.inputs[0].shape for p in f.programs] == [(3,), (4,), (3,)]


def test_the_texts_in_the_documentation_are_those_that_come_out(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parent.parent / "docs" / "compile.md").read_text("utf-8")
    names = {"__name__": "page"}
    for code in re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        exec(compile(code, "compile.md", "exec"), names)
    source, ir = re.findall(r"^```text\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert names["layer"].source == source
    got, want = (re.sub(r"%r\d+", "%r", text).split("\n") for text in (names["kernel"], ir))
    found = iter(got)
    assert all(line in found for line in want if line)  # in this order
