"""The API reference: `public` lists names of a module with their docstrings, `operations` NumPy's functions by kind.

Docstrings are plain text; `markup` makes reStructuredText of one, with a list of what is said of each parameter.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

NAMES = r"\*{0,2}[a-z_]\w*(?:, \*{0,2}[a-z_]\w*)*"
ITEM = re.compile(rf"({NAMES}): ")  # `low, high: of the ...`
NEXT = re.compile(rf"(?<=\.) (?={NAMES}: )")
SECTION = re.compile(r"(Raises|Returns|Gives) ")


def inline(text: str) -> str:
    """`code` as literals, and no other mark-up."""
    code, plain = re.compile(r"`([^`]+)`"), re.compile(r"([\\*_|<>])")
    parts = code.split(text)
    parts[::2] = [plain.sub(r"\\\1", part) for part in parts[::2]]
    parts[1::2] = [rf"\ ``{part}``\ " for part in parts[1::2]]
    return "".join(parts)


def blocks(lines: list[str]) -> Iterator[list[str]]:
    """The docstring's paragraphs and items, each as its lines."""
    block: list[str] = []
    for line in lines:
        begins = not line.startswith(" ") and (ITEM.match(line) or SECTION.match(line))
        if block and (begins or not line.strip()):
            yield block
            block = []
        if line.strip():
            block.append(line)
    if block:
        yield block


def markup(lines: list[str]) -> list[str]:
    """A docstring's lines as reStructuredText."""
    result: list[str] = []
    for block in blocks(lines):
        text = " ".join(line.strip() for line in block)
        if block[0].startswith(" "):
            result += ["::", "", *(f"    {line}" for line in block)]
        elif ITEM.match(text):
            items = [part.split(": ", 1) for part in NEXT.split(text)]
            result += [f"- **{inline(name)}**: {inline(said)}" for name, said in items]
        else:
            result.append(inline(text))
        result.append("")
    return result


class Public(SphinxDirective):
    """Functions, classes and their public methods: the argument is a module, the content names of it."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[Any]:
        module = import_module(self.arguments[0])
        lines: list[str] = []
        for name in " ".join(self.content).split():
            kind = "class" if inspect.isclass(getattr(module, name)) else "function"
            lines += [f".. auto{kind}:: {module.__name__}.{name}", *["   :members:"] * (kind == "class"), ""]
        return self.parse_text_to_nodes("\n".join(["```{eval-rst}", *lines, "```"]))


class Operations(SphinxDirective):
    """NumPy's functions by kind, from the comments and imports of `ops/__init__.py`: those that are all that their
    name says in a line, the others in a table with what else there is to say."""

    def run(self) -> list[Any]:
        ops = import_module("tinygrad_dl.ops")
        source = Path(str(ops.__file__)).read_text("utf-8")
        lines: list[str] = []
        for kind, text in re.findall(r"^# (?!ruff)(.*)\n((?:.+\n)+)", source, re.M):
            said = {name: self.summary(getattr(ops, name)) for name in re.findall(r"(\w+) as \1", text)}
            rows = [f"| `{name}` | {summary} |" for name, summary in said.items() if summary]
            lines += [f"**{kind.capitalize()}**", "", ", ".join(f"`{name}`" for name in said if not said[name]), ""]
            lines += ["| | |", "|--|--|", *rows, ""] if rows else []
        return self.parse_text_to_nodes("\n".join(lines))

    @staticmethod
    def summary(operation: Any) -> str:
        """The docstring's first paragraph, in one line, without "`np.exp`, elementwise."."""
        first = " ".join(inspect.cleandoc(operation.__doc__ or "").split("\n\n")[0].split())
        first = re.sub(r"^`np\.\w+`, elementwise\. ?", "", first).replace("|", r"\|")
        return re.sub(r"(`[^`]*`)|\*", lambda found: found[1] or r"\*", first)


def setup(app: Sphinx) -> dict[str, bool]:
    def convert(_app: Any, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
        lines[:] = markup(lines)

    app.connect("autodoc-process-docstring", convert)
    app.add_directive("public", Public)
    app.add_directive("operations", Operations)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
