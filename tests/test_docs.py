"""Every Python block of the README and the docs runs; the examples run on little work."""

import re
import runpy
import sys
from pathlib import Path

import matplotlib
import pytest

matplotlib.use("Agg")
ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.S | re.M)


def pages_with_code():
    return [p for p in PAGES if BLOCK.search(p.read_text("utf-8"))]


@pytest.mark.parametrize("page", pages_with_code(), ids=lambda p: p.name)
def test_code_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "page"}
    for code in BLOCK.findall(page.read_text("utf-8")):
        exec(compile(code, page.name, "exec"), namespace)


EXAMPLES = {
    "quadratic.py": ([], []),
    "custom_op.py": ([], []),
    "draw_graph.py": (["."], ["formula.svg", "network.svg"]),
    "initialisation.py": (["--out", "."], ["signals.png", "units.png"]),
    "optimizers.py": (["."], ["optimizers.png"]),
    "digits.py": (["--seeds", "1", "--epochs", "2", "--out", "."], ["graph.svg", "curves.png", "model.safetensors"]),
}


def test_every_example_is_run():
    assert set(EXAMPLES) == {p.name for p in (ROOT / "examples").glob("*.py")}


@pytest.mark.parametrize(("name", "call"), EXAMPLES.items())
def test_examples_run(name, call, tmp_path, monkeypatch, capsys):
    arguments, files = call
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
    assert capsys.readouterr().out
    for file in files:
        assert (tmp_path / file).stat().st_size > 1000


def test_links_of_the_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)\)|<img src=\"(?!http)([^\"]+)\"", page.read_text("utf-8")):
            assert (page.parent / (target[0] or target[1])).exists(), f"{page.name}: {target}"
