"""Every Python block of the README and the docs runs; the examples run on little work; the reference is complete."""

import html
import inspect
import json
import re
import runpy
import sys
from importlib import import_module
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

import tinygrad_dl as tg

matplotlib.use("Agg")
ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(?:python|\{code-cell\})\n(?::[^\n]*\n)*(.*?)^```", re.S | re.M)  # without a cell's options
FENCED = re.compile(r"^```.*?^```", re.S | re.M)


def pages_with_code():
    return [p for p in PAGES if BLOCK.search(p.read_text("utf-8"))]


def run(blocks, name, folder, monkeypatch):
    """Run the blocks one after the other, in one namespace and in a folder of their own."""
    monkeypatch.chdir(folder)
    namespace = {"__name__": "page"}
    try:
        for code in blocks:
            exec(compile(code, name, "exec"), namespace)
    finally:
        plt.close("all")


@pytest.mark.parametrize("page", pages_with_code(), ids=lambda p: p.name)
def test_code_blocks_run(page, tmp_path, monkeypatch):
    run(BLOCK.findall(page.read_text("utf-8")), page.name, tmp_path, monkeypatch)


def test_the_text_of_a_compiled_layer_is_what_is_written_now(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "compile.md").read_text("utf-8")
    run([*BLOCK.findall(page), "print(layer.source)"], "compile.md", tmp_path, monkeypatch)
    written = capsys.readouterr().out.splitlines()
    shown = [
        text for text in re.findall(r"^```text\n(.*?)^```", page, re.S | re.M) if "np.matmul" in text or "fcmp" in text
    ]
    assert len(shown) == 2
    assert [line for text in shown for line in text.splitlines() if line not in written] == []


def test_the_notebook_is_the_first_chapter_and_runs(tmp_path, monkeypatch):
    module = runpy.run_path(str(ROOT / "docs" / "_ext" / "notebook.py"))
    kept = module["NOTEBOOK"].read_text("utf-8")
    assert kept == module["notebook"](module["PAGE"].read_text("utf-8")), "run python docs/_ext/notebook.py"
    cells = [cell for cell in json.loads(kept)["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 5
    run([cell["source"] for cell in cells], module["NOTEBOOK"].name, tmp_path, monkeypatch)


EXAMPLES = {
    "quadratic.py": ([], []),
    "custom_op.py": ([], []),
    "draw_graph.py": (["."], ["formula.svg", "network.svg"]),
    "initialisation.py": (["--out", "."], ["signals.png", "units.png"]),
    "optimizers.py": (["."], ["optimizers.png"]),
    "tuning.py": (["--epochs", "1", "--side", "3", "--out", "."], ["random_or_grid.png", "coarse_to_fine.png"]),
    "mnist.py": (["--epochs", "1", "--out", "."], ["curves.png", "report.html", "mistakes.png", "model.safetensors"]),
    "digits.py": (["--seeds", "1", "--epochs", "2", "--out", "."], ["graph.svg", "curves.png", "model.safetensors"]),
}


def test_every_example_is_run():
    assert set(EXAMPLES) == {p.name for p in (ROOT / "examples").glob("*.py")}


@pytest.mark.usefixtures("quick_tables")
@pytest.mark.parametrize(("name", "call"), EXAMPLES.items())
def test_examples_run(name, call, tmp_path, monkeypatch, capsys):
    arguments, files = call
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
    assert capsys.readouterr().out
    for file in files:
        assert (tmp_path / file).stat().st_size > 1000


@pytest.mark.parametrize("name", ["formula", "network"])
def test_the_pictures_of_the_pages_show_what_is_drawn_now(name):
    module = runpy.run_path(str(ROOT / "examples" / "draw_graph.py"))
    number = re.compile(r"-?\d+\.?\d*")
    drawn, kept = (
        html.unescape("\n".join(re.findall(r"<text[^>]*>(.*?)</text>", svg)))
        for svg in (module[name]().svg(), (ROOT / "docs" / "pictures" / f"{name}.svg").read_text("utf-8"))
    )
    assert number.sub("", kept) == number.sub("", drawn), "run python examples/draw_graph.py docs/pictures"
    np.testing.assert_allclose(*[[float(n) for n in number.findall(svg)] for svg in (kept, drawn)], rtol=1e-2)


def test_links_of_the_pages_lead_somewhere():
    link = re.compile(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)|<img src=\"(?!http)([^\"]+)\"")
    for page in PAGES:
        for target in link.findall(FENCED.sub("", page.read_text("utf-8"))):
            assert (page.parent / (target[0] or target[1])).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("module", ["", ".nn", ".nn.functional", ".nn.init", ".optim", ".data", ".train"])
def test_the_reference_has_every_public_name(module):
    """Of these modules, which offer all that they import; NumPy's functions are read from `ops` by the page itself."""
    module = import_module(f"tinygrad_dl{module}")
    pages = "\n".join(page.read_text("utf-8") for page in (ROOT / "docs" / "api").glob("*.md"))
    parts = re.findall(rf"^```\{{public\}} {re.escape(module.__name__)}\n(.*?)^```", pages, re.S | re.M)
    public = {n for n, value in vars(module).items() if not n.startswith("_") and not inspect.ismodule(value)}
    if module is tg:
        public -= set(vars(tg.ops))
    assert sorted(" ".join(parts).split()) == sorted(public)
