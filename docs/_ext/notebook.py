"""The tutorial's first chapter as a notebook without outputs: `python docs/_ext/notebook.py` writes it anew."""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "tutorial" / "01_graph_and_differentiation.md"
NOTEBOOK = ROOT / "examples" / "graph_and_differentiation.ipynb"
FRONT = re.compile(r"\A---\n.*?^---\n", re.S | re.M)
CELL = re.compile(r"^```\{code-cell\}\n(?::tags: \[([^\n]*)\]\n)?(.*?)^```\n", re.S | re.M)


def notebook(page: str) -> str:
    """The text of an .ipynb file with the page's prose and its code cells."""
    cells: list[dict[str, Any]] = []
    prose, tags, code = 0, 1, 2  # what `split` gives in turn
    parts = CELL.split(FRONT.sub("", page))
    for i in range(0, len(parts), 3):
        if parts[i + prose].strip():
            cells.append({"cell_type": "markdown", "metadata": {}, "source": parts[i + prose].strip()})
        if len(parts) > i + code:
            metadata = {"tags": parts[i + tags].split(", ")} if parts[i + tags] else {}
            source = {"source": parts[i + code].strip(), "outputs": [], "execution_count": None}
            cells.append({"cell_type": "code", "metadata": metadata, **source})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    numbered = [{"id": f"cell-{number}", **cell} for number, cell in enumerate(cells)]
    book = {"cells": numbered, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(book, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    NOTEBOOK.write_text(notebook(PAGE.read_text("utf-8")), "utf-8")
