"""`Drawing`: a picture as DOT text, rendered by the program `dot`.

It is the system's, or else the one of the package `graphviz-pure`, in the environment's folder of scripts.
"""

from __future__ import annotations

import html
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

FORMATS = ("svg", "png", "pdf")  # that `dot` writes
TEXTS = ("dot", "gv")
PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<body style="display: grid; justify-content: safe center; margin: 1em">
{svg}
"""


class Drawing:
    """A graph's picture. `source` is its DOT text, which needs no other program."""

    def __init__(self, source: str) -> None:
        self.source = source

    def svg(self) -> str:
        """The picture as SVG text. Raises FileNotFoundError without a `dot` program."""
        return _render(self.source, "svg").decode()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture to a file, in the format of its suffix: .svg, .png, .pdf, .html or .dot.

        An .html page shows the .svg, and each box's line of code under the pointer. `graphviz-pure` writes no .pdf,
        Graphviz does.

        Raises ValueError for another suffix, FileNotFoundError without a `dot` program or folder, RuntimeError where
        the program writes no such file."""
        target = Path(path)
        kind = target.suffix[1:].lower()
        if kind in FORMATS:
            content = _render(self.source, kind)
        elif kind == "html":
            content = self._page(target.stem).encode()
        elif kind in TEXTS:
            content = self.source.encode()
        else:
            expected = "a name that ends in .svg, .png, .pdf, .html or .dot"
            raise ValueError(f"Drawing.save: expected {expected}, got {str(path)!r}")
        target.write_bytes(content)

    def _page(self, title: str) -> str:
        svg = self.svg()
        return PAGE.format(title=html.escape(title), svg=svg[svg.index("<svg") :])  # no XML prolog inside of HTML

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        """What notebooks show."""
        try:
            return {"image/svg+xml": self.svg(), "text/plain": repr(self)}
        except FileNotFoundError as error:
            return {"text/plain": f"{self!r}: {error}"}

    def __repr__(self) -> str:
        return f"<Drawing, {len(self.source.splitlines())} lines of DOT>"


def _program() -> str:
    found = shutil.which("dot") or shutil.which("graphviz-pure", path=sysconfig.get_path("scripts"))
    if found is None:
        raise FileNotFoundError(
            'draw: expected the program dot to make a picture, found none; pip install "tinygrad-dl[draw]" brings one, '
            "as does Graphviz (graphviz.org). DOT text needs none: .source, or .save with a name that ends in .dot"
        )
    return found


def _render(source: str, kind: str) -> bytes:
    program = _program()
    done = subprocess.run([program, f"-T{kind}"], input=source.encode(), capture_output=True, check=False)
    if done.returncode or not done.stdout:
        hint = "; Graphviz itself (graphviz.org) does" if kind == "pdf" else ""
        found = done.stderr.decode(errors="replace").strip()
        raise RuntimeError(f"draw: {program} could not write {kind}{hint}: {found}")
    return done.stdout
