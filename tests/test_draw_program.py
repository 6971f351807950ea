"""Pictures of compiled programs: a box per operation or per kernel, frames around what is fused."""

import re

import numpy as np
import pytest
from programs import training_step
from test_drawing import arrows, boxes

import tinygrad_dl as tg
from tinygrad_dl import nn, optim
from tinygrad_dl.compiler.kernels import Kernels
from tinygrad_dl.drawing.program import WHOLE


def trained(*layers, rate=0.1, size=6):
    """A compiled training step that has run."""
    with tg.random.scope(0):
        model = nn.Sequential(*[layer() for layer in layers])
        optimizer = optim.SGD(model.parameters(), lr=rate)

        step = tg.compile(training_step(model, optimizer), backend="numpy")
        step(np.random.default_rng(0).normal(size=(8, size)).astype(np.float32), np.arange(8) % 3)
    return step


@pytest.fixture(scope="module")
def regression():
    return trained(lambda: nn.Linear(6, 3))


@pytest.fixture(scope="module")
def network():
    return trained(
        lambda: nn.Linear(6, 4, bias=False),
        lambda: nn.BatchNorm1d(4),
        nn.ReLU,
        lambda: nn.Dropout(0.5),
        lambda: nn.Linear(4, 3),
    )


def frames(drawing):
    """The names of the boxes in each cluster, by its title."""
    found = re.findall(r"subgraph cluster\w* {(.*?)\n\t}", drawing.source, re.DOTALL)
    return {re.search(r"kernel \d+", text)[0]: re.findall(r"(b\d+) \[label=<", text) for text in found}


def test_a_small_program():
    f = tg.compile(lambda x, w: np.tanh(x @ w + 1.0).sum(axis=0), backend="numpy")
    f(np.ones((5, 3), np.float32), np.ones((3, 2), np.float32))
    drawing = tg.draw(f.programs[0])
    assert sorted(boxes(drawing).values()) == [
        ["add  (·, 1)", "float32 (5, 2)"],
        ["matmul", "float32 (5, 2)"],
        ["result = sum  axis=0", "float32 (2,)"],
        ["tanh", "float32 (5, 2)"],
        ["w", "float32 (3, 2)"],
        ["x", "float32 (5, 3)"],
    ]
    assert set(arrows(drawing)) == {
        ("x", "matmul"), ("w", "matmul"), ("matmul", "add  (·, 1)"), ("add  (·, 1)", "tanh"),
        ("tanh", "result = sum  axis=0"),
    }  # fmt: skip
    names = {row[0]: name for name, row in boxes(drawing).items()}
    ((title, members),) = frames(drawing).items()
    assert title == "kernel 0"
    assert set(members) == {names["add  (·, 1)"], names["tanh"], names["result = sum  axis=0"]}
    assert "test_draw_program.py:" in drawing.source  # tooltips


def test_frames_hold_what_a_kernel_computes(regression):
    drawing = tg.draw(regression)
    members = [kernel for kernel in Kernels(regression.programs[0]).members() if len(kernel) > 1]
    found = frames(drawing)
    assert sorted(map(len, found.values())) == sorted(map(len, members))
    inside = {name for names in found.values() for name in names}
    titles = {name: row[0] for name, row in boxes(drawing).items()}
    assert not any("matmul" in titles[name] for name in inside)
    assert sum("matmul" in title for title in titles.values()) == 2


def test_state_arguments_and_results_look_different(regression):
    cells = re.findall(r'BGCOLOR="(#\w+)".*?<B>(.*?)</B>(?:  <FONT.*?</FONT>)?&nbsp;', tg.draw(regression).source)
    colours = {title: colour for colour, title in cells}
    assert colours["model.0.weight"] == colours["model.0.bias"]
    assert colours["x"] == colours["y"] == colours["lr"]
    assert colours["new model.0.weight = subtract"] == colours["result = divide"]
    assert len({colours[t] for t in ("x", "model.0.weight", "result = divide")}) == 3


def test_depth_0_makes_one_box_of_a_kernel(regression):
    kernels = Kernels(regression.programs[0])
    drawing = tg.draw(regression, depth=0)
    assert not frames(drawing)
    folded = [row for row in boxes(drawing).values() if row[0].startswith("kernel ")]
    members = [kernel for kernel in kernels.members() if len(kernel) > 1]
    assert sorted(row[-1] for row in folded) == sorted(f"{len(kernel)} operations" for kernel in members)
    assert any("optimizer.step()" in row[0] for row in folded)


def test_a_large_program_is_drawn_by_its_kernels(network):
    program = network.programs[0]
    assert len(program.body) > WHOLE
    drawing = tg.draw(program)
    assert drawing.source == tg.draw(program, depth=0).source
    assert len(boxes(drawing)) < WHOLE
    kernels = [row[0] for row in boxes(drawing).values() if row[0].startswith("kernel ")]
    assert any("BatchNorm1d, ReLU, Dropout" in title for title in kernels)
    used = {v for step in program.body for v in (*step.inputs, *step.outputs)}
    inputs = sum(v in used for v in (*program.inputs, *program.constants))
    assert len(boxes(tg.draw(program, depth=1))) == len(program.body) + inputs


def test_dot_can_draw_it(network):
    assert "kernel 0" in tg.draw(network).svg().replace("&#160;", " ")


def test_a_compiled_function_before_its_first_call_and_inputs_are_refused(regression):
    with pytest.raises(RuntimeError, match="no program before the first call"):
        tg.draw(tg.compile(lambda x: x))
    with pytest.raises(TypeError, match="inputs go with a Module"):
        tg.draw(regression, np.ones(3))
