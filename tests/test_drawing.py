"""Pictures: what is in them, in the DOT text and in the SVG that `dot` makes of it."""

import copy
import html
import re
import xml.etree.ElementTree as ET
from collections import Counter

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl import nn

INPUTS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


def boxes(drawing: tg.Drawing) -> dict[str, list[str]]:
    """The lines of text of each box, by the box's name in the DOT text."""
    found = re.findall(r"^\s*(b\d+) \[label=<(.*)> tooltip=", drawing.source, re.MULTILINE)
    cells = {name: re.findall(r"<TD[^>]*>(.*?)</TD>", table) for name, table in found}
    words = {name: [html.unescape(re.sub(r"<[^>]*>", "", cell)).strip() for cell in row] for name, row in cells.items()}
    return {name: [re.sub("  +", "  ", word) for word in row if word] for name, row in words.items()}


def arrows(drawing: tg.Drawing) -> Counter[tuple[str, str]]:
    """How many arrows go from title to title."""
    titles = {name: next(w for w in row if not re.match(r"\d+  ", w)) for name, row in boxes(drawing).items()}
    edges = re.findall(r"^\s*(b\d+) -> (b\d+) \[(.*)\]", drawing.source, re.MULTILINE)
    return Counter((titles[b], titles[a]) if "dir=back" in how else (titles[a], titles[b]) for a, b, how in edges)


def texts(svg: str) -> list[str]:
    found = [t.text or "" for t in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    return [text.replace("\xa0", " ").replace("\u200c", "").strip() for text in found]


@pytest.fixture
def formula():
    x = tg.tensor(2.0, requires_grad=True, name="x")
    w = tg.tensor(-3.0, requires_grad=True, name="w")
    y = np.tanh(x * w + 6.5)
    y.name = "y"
    return y, x, w


@pytest.fixture
def model():
    tg.seed(0)
    return nn.Sequential(nn.Linear(4, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


def test_a_formula_reads_like_a_worked_example(formula):
    y, *_ = formula
    y.backward()
    drawing = tg.draw(y)
    slope = 1 - np.tanh(0.5) ** 2
    assert sorted(boxes(drawing).values()) == sorted(
        [
            ["x", "float32", "value", "2", "grad", f"{-3 * slope:.4g}"],
            ["w", "float32", "value", "-3", "grad", f"{2 * slope:.4g}"],
            ["multiply", "float32", "value", "-6", "grad", f"{slope:.4g}"],
            ["add  (·, 6.5)", "float32", "value", "0.5", "grad", f"{slope:.4g}"],
            ["y = tanh", "float32", "value", f"{np.tanh(0.5):.4g}", "grad", "1"],
        ]
    )
    assert arrows(drawing) == Counter(
        [("x", "multiply"), ("w", "multiply"), ("multiply", "add  (·, 6.5)"), ("add  (·, 6.5)", "y = tanh")]
    )
    assert "test_drawing.py:" in drawing.source
    assert "y = np.tanh(x * w + 6.5)" in drawing.source


def test_before_backward_there_are_values_only(formula):
    assert "grad" not in str(boxes(tg.draw(formula[0])))


def test_values_and_gradients_can_be_left_out(formula):
    formula[0].backward()
    assert "value" not in str(boxes(tg.draw(formula[0], values=False)))
    assert "grad" not in str(boxes(tg.draw(formula[0], grads=False)))


def test_a_formula_made_in_a_function_keeps_names_and_values(formula):
    y = formula[0]
    y.backward()
    before = boxes(tg.draw(y))

    def made():
        x = tg.tensor(2.0, requires_grad=True, name="x")
        w = tg.tensor(-3.0, requires_grad=True, name="w")
        y = np.tanh(x * w + 6.5)
        y.name = "y"
        y.backward()
        return y

    assert boxes(tg.draw(made())) == before


def test_a_value_that_has_changed_since_is_not_shown(formula):
    y, x, _ = formula
    y.backward()
    with tg.no_grad():
        x -= 1.0
    drawn = [row for row in boxes(tg.draw(y)).values() if row[0] == "x"]
    assert drawn[0][2:4] == ["value", "changed since"]
    assert boxes(tg.draw(x * 1.0))["b0"][2:4] == ["value", "1"]


def test_larger_arrays_show_norms_of_gradients_and_on_demand_statistics():
    a = np.arange(6.0).reshape(2, 3)
    t = tg.tensor(a, requires_grad=True, name="t")
    loss = (t * t).sum()
    loss.backward()
    row = boxes(tg.draw(loss))["b0"]
    assert row == ["t", "float64 (2, 3)", "‖grad‖", f"{np.linalg.norm(2 * a):.3g}"]
    row = boxes(tg.draw(loss, values=True))["b0"]
    assert row[2:4] == ["mean ± std", f"{a.mean():.3g} ± {a.std():.3g}"]


def test_small_arrays_are_written_out():
    t = tg.tensor([[1.5, -2.0], [0.0, 4.0]], requires_grad=True, name="t")
    assert boxes(tg.draw(t * 1))["b0"][-1] == "[[1.5, -2], [0, 4]]"


def test_the_order_of_arguments_is_shown_where_it_matters():
    a, b = tg.tensor(1.0, requires_grad=True, name="a"), tg.tensor(2.0, requires_grad=True, name="b")
    assert re.findall(r"headlabel=(\d)", tg.draw(b - a).source) == ["1", "2"]
    total = a + b
    assert not re.search(r"headlabel=", tg.draw(total).source)
    assert len(arrows(tg.draw(a * a))) == 1
    assert arrows(tg.draw(a * a))["a", "multiply"] == 2


def test_names_come_from_the_model_and_modules_are_clusters(model):
    x = tg.tensor(INPUTS, name="images")
    loss = nn.functional.cross_entropy(model(x), tg.tensor(np.arange(6) % 3, name="labels"))
    loss.backward()
    drawing = tg.draw(loss)
    titles = [row[0] for row in boxes(drawing).values()]
    words = "images labels weight weight bias weight bias linear linear batch_norm cross_entropy"
    assert sorted(titles) == sorted([*words.split(), "2  ReLU", "3  Dropout"])
    for heading in ("Sequential", "0  Linear", "1  BatchNorm1d", "4  Linear"):
        assert f'label="{heading}"' in drawing.source or f"label={heading} " in drawing.source
    assert drawing.source.count("subgraph cluster_") == 4
    assert arrows(drawing)["images", "linear"] == 1
    assert arrows(drawing)["weight", "linear"] == 2


def test_a_module_is_drawn_from_sample_inputs_and_stays_as_it_was(model):
    before = {name: t.numpy().copy() for name, t in model.state_dict().items()}
    state = copy.deepcopy(tg.random.generator().bit_generator.state)
    model.requires_grad_(False)
    drawing = tg.draw(model, INPUTS)
    assert ["input", "float32 (6, 4)"] in list(boxes(drawing).values()) or ["x", "float32 (6, 4)"] in list(
        boxes(drawing).values()
    )
    assert "weight" in str(boxes(drawing))
    assert all(np.array_equal(before[name], t.numpy()) for name, t in model.state_dict().items())
    assert tg.random.generator().bit_generator.state == state
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(("depth", "kinds"), [(0, {"Sequential": 1}), (1, {"Linear": 2, "BatchNorm1d": 1, "ReLU": 1})])
def test_depth_folds_modules(model, depth, kinds):
    rows = boxes(tg.draw(model, INPUTS, depth=depth)).values()
    modules = Counter(row[0].split()[-1] for row in rows if "operation" in row[-1] or "parameters" in row[-1])
    assert {k: modules[k] for k in kinds} == kinds
    if depth == 0:
        count = sum(p.size for p in model.parameters())
        assert any(row[-1] == f"5 operations · {count} parameters" for row in rows)


class Block(nn.Module):
    def __init__(self):
        self.linear, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x):
        return x + np.tanh(self.norm(self.linear(x)))


def test_large_models_are_folded_and_long_programs_cut():
    model = nn.Sequential(*[Block() for _ in range(60)])
    drawing = tg.draw(model, INPUTS)
    assert len(boxes(drawing)) == 61
    assert len(boxes(tg.draw(model, INPUTS, depth=9))) == 60 * 8 + 1
    y = tg.tensor(1.0, requires_grad=True)
    for _ in range(500):
        y = y * 1.01
    rows = list(boxes(tg.draw(y)).values())
    assert len(rows) == 200
    assert rows[0] == ["… 302 earlier steps"]


def test_several_outputs_and_a_shared_module():
    a = tg.tensor([1.5, -2.5], requires_grad=True, name="a")
    fraction, whole = np.modf(a)
    assert {"where  (·, 0, ·)", "a"} & {row[0] for row in boxes(tg.draw([fraction, whole])).values()}
    cell = nn.Linear(2, 2)
    twice = tg.draw(nn.Sequential(cell, cell), np.ones((1, 2), np.float32))
    assert arrows(twice)["linear", "linear"] == 1


def test_batch_norms_one_output_stands_for_the_operation():
    norm = nn.BatchNorm1d(4)
    rows = [row for row in boxes(tg.draw(norm, INPUTS)).values() if "batch_norm" in row]
    assert rows == [["batch_norm", "float32 (6, 4)"]]


NASTY = ['<b>&amp;"\\n\\', "a&b;c", "日本語の名前", "a\x00b\x07c", "}{|]->[", "-" * 300, "<>", ""]


@pytest.mark.parametrize("name", NASTY)
def test_user_text_is_escaped(name):
    t = tg.tensor([1.0, 2.0], requires_grad=True, name=name)
    y = np.exp(t)
    y.name = name
    written = texts(tg.draw(y).svg())
    shown = "".join(c if c.isprintable() else "�" for c in name)
    shown = shown if len(shown) <= 44 else shown[:43] + "…"
    assert shown in written or not shown


class Odd(nn.Module):
    def __init__(self):
        self.layers = {'<b>"&\\': nn.Linear(2, 2)}

    def forward(self, x):
        return next(iter(self.layers.values()))(x)


def test_names_of_modules_are_escaped_too():
    assert any('<b>"&\\  Linear' in t for t in texts(tg.draw(Odd(), np.ones((1, 2), np.float32)).svg()))


def test_files(formula, tmp_path):
    drawing = tg.draw(formula[0])
    for name in ("a.svg", "a.png", "a.dot", "a<b.html"):
        drawing.save(tmp_path / name)
    assert (tmp_path / "a.dot").read_text() == drawing.source
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "tanh" in (tmp_path / "a.svg").read_text()
    page = (tmp_path / "a<b.html").read_text()
    assert "<title>a&lt;b</title>" in page
    assert (page.count("<!DOCTYPE"), page.count("<?xml")) == (1, 0)
    assert texts(page[page.index("<svg") :]) == texts(drawing.svg())
    with pytest.raises(ValueError, match=r"\.svg, \.png, \.pdf, \.html or \.dot, got '.*a\.jpeg'"):
        drawing.save(tmp_path / "a.jpeg")
    with pytest.raises(FileNotFoundError):
        drawing.save(tmp_path / "nowhere" / "a.dot")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.dot", "a.png", "a.svg", "a<b.html"]


def test_the_same_graph_gives_the_same_text(model):
    sources = []
    for _ in range(10):
        with tg.random.scope(0):
            labels = np.arange(6) % 3  # a constant, which comes before its operation
            sources.append(tg.draw(nn.functional.cross_entropy(np.tanh(model(INPUTS)), labels)).source)
    assert len(set(sources)) == 1


def test_notebooks_show_the_picture(formula):
    bundle = tg.draw(formula[0])._repr_mimebundle_()
    assert "<svg" in bundle["image/svg+xml"]


def test_without_a_system_dot_the_packages_own_is_used(formula, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "graphviz-pure" in tg.draw(formula[0]).svg()


def test_without_any_dot_the_text_still_works_and_the_error_says_what_to_install(formula, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    drawing = tg.draw(formula[0])
    drawing.save(tmp_path / "a.dot")
    with pytest.raises(FileNotFoundError, match=r"tinygrad-dl\[draw\]"):
        drawing.save(tmp_path / "a.svg")
    assert not (tmp_path / "a.svg").exists()
    assert "tinygrad-dl[draw]" in drawing._repr_mimebundle_()["text/plain"]


def test_a_model_may_give_none_beside_its_results():
    class Pair(nn.Module):
        def forward(self, x):
            return np.tanh(x), None

    assert "tanh" in tg.draw(Pair(), np.ones(2)).source


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: tg.draw(np.ones(2)), TypeError, "expected a Tensor, several in a list, or a Module"),
        (lambda: tg.draw(tg.tensor(1.0)), ValueError, "was not recorded"),
        (lambda: tg.draw([]), TypeError, "expected a Tensor"),
        (lambda: tg.draw([None]), TypeError, "expected a Tensor"),
        (lambda: tg.draw(tg.tensor(1.0, requires_grad=True), 3), TypeError, "inputs go with a Module"),
        (lambda: tg.draw(tg.tensor(1.0, requires_grad=True), depth=-1), ValueError, ">= 0, got -1"),
        (lambda: tg.draw(tg.tensor(1.0, requires_grad=True), depth="1"), ValueError, "whole number >= 0, got '1'"),
        (lambda: tg.draw(tg.tensor(1.0, requires_grad=True), values="all"), ValueError, "got 'all'"),
    ],
)
def test_bad_input_is_refused(call, error, match):
    with pytest.raises(error, match=match):
        call()
