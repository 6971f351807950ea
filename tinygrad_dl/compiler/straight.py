"""`Straight`: a function written out, line by line, for what one compiled step touches.

Around a replay a hundred objects are looked at, one by one. A line such as `a.data is b` takes 12 ns; a loop, in Python
or over functions in C, three to five times as long. All of it is one function: each one that is called besides costs
half a microsecond after machine code that has filled the caches with other things.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .._source import _PACKAGE

GONE = LookupError, ValueError, AttributeError  # what looking for what is gone raises, and looking into an empty cell
_FILE = _PACKAGE + "straight"  # of this package, so that no line of it is taken for the user's


class Straight:
    """Lines of Python, and the objects that they name.

    otherwise: the statement that ends the function where something does not hold."""

    def __init__(self, otherwise: str = "return False") -> None:
        self.otherwise = otherwise
        self.lines: list[str] = []
        self.names: dict[str, Any] = {}
        self._known: dict[int, str] = {}

    def name(self, value: Any) -> str:
        """The name of an object, the same each time."""
        if id(value) not in self._known:
            self._known[id(value)] = name = f"x{len(self.names)}"
            self.names[name] = value
        return self._known[id(value)]

    def check(self, *conditions: str) -> None:
        """End there unless all of them hold."""
        if conditions:
            self.lines.append(f"if not ({' and '.join(conditions)}): {self.otherwise}")

    @contextmanager
    def checks(self) -> Iterator[None]:
        """What is added meanwhile only looks: what is gone does not hold."""
        with self.block("try:"):
            yield
        self.lines.append(f"except {self.name(GONE)}: {self.otherwise}")

    @contextmanager
    def block(self, opening: str) -> Iterator[None]:
        """What is added meanwhile stands under a line such as `try:`."""
        before, self.lines = self.lines, []
        yield
        self.lines = [*before, opening, *(f" {line}" for line in self.lines or ["pass"])]

    def function(self, arguments: str = "", result: str = "True") -> Callable[..., Any]:
        """What the lines do, as a function of some arguments; at its end it returns the result. Lines that come after
        this are another function's, of the same names."""
        text = "\n ".join([f"def straight({arguments}):", *self.lines, f"return {result}"])
        self.lines = []
        exec(compile(text, _FILE, "exec"), self.names)
        function: Callable[..., Any] = self.names.pop("straight")  # without a cycle of references
        return function
