"""`Straight`: a function written out, line by line, for what one compiled step touches.

Around a replay a hundred objects are looked at, one by one. A line such as `a.data is b` takes 12 ns; a loop, in Python
or over functions in C, three to five times as long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._source import _PACKAGE

_FILE = _PACKAGE + "straight"  # of this package, so that no line of it is taken for the user's


class Straight:
    """Lines of Python, and the objects that they name: `names` may be given other values later."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[str, Any] = {}
        self._known: dict[int, str] = {}

    def name(self, value: Any) -> str:
        """The name of an object, the same each time."""
        if id(value) not in self._known:
            self._known[id(value)] = self.place(value)
        return self._known[id(value)]

    def place(self, value: Any = None) -> str:
        """A name of its own, for what may be replaced."""
        name = f"x{len(self.names)}"
        self.names[name] = value
        return name

    def check(self, *conditions: str) -> None:
        """Return False there unless all of them hold."""
        if conditions:
            self.lines.append(f"if not ({' and '.join(conditions)}): return False")

    def function(self, arguments: str = "", result: str = "True") -> Callable[..., Any]:
        """What the lines do, as a function of some arguments; at its end it returns the result. Lines that come after
        this are another function's, of the same names."""
        text = "\n ".join([f"def straight({arguments}):", *self.lines, f"return {result}"])
        self.lines = []
        exec(compile(text, _FILE, "exec"), self.names)
        function: Callable[..., Any] = self.names.pop("straight")  # without a cycle of references
        return function
