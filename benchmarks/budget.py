"""Where the time of one compiled step goes: matrix products, kernels, guards, random numbers, and what is around."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np

from .peers import DIGITS, Network
from .processes import Failed, Remote
from .tables import Table

STEPS, ROUNDS = 300, 9
PARTS = {  # as the table has them
    "guards": "are the arguments, the state and all else as they were?",
    "numbers": "the optimizer counts, and works out its bias corrections",
    "random": "a key for every dropout; masks are made of it in kernels",
    "products": "the machine code of the products alone",
    "kernels": "the rest of the machine code",
    "calls": "the tables of pointers, and memory for what is new",
    "around": "the rest: new values for state and gradients, the result",
}


class Budget:
    """A compiled step whose parts are timed as it runs. Needs the native backend."""

    def __init__(self, network: Network) -> None:
        import tinygrad_dl as tg  # here, after the number of threads is set

        from .peer_ours import training

        self.spent = dict.fromkeys(("guards", "numbers", "random", "run", "code"), 0.0)
        compiled, x, y = training(network, lambda f: tg.compile(f, backend="native"))
        self.step: Callable[[], Any] = lambda: compiled(x, y)
        with self._clocks():
            for _ in range(3):
                self.step()
        self.products = _products(compiled.latest)

    @contextmanager
    def _clocks(self) -> Iterator[None]:
        """What is written out meanwhile notes how long its parts take."""
        from tinygrad_dl.compiler import replay_text
        from tinygrad_dl.compiler.actions import Optimize
        from tinygrad_dl.compiler.native.running import Part

        writers: list[tuple[str, Any, tuple[str, ...]]] = [
            ("guards", replay_text, ("_arguments", "_state")),
            ("guards", Optimize, ("check",)),
            ("numbers", Optimize, ("keep", "count")),
            ("random", replay_text, ("_draw",)),
            ("run", replay_text, ("_run",)),
            ("code", Part, ("write",)),
        ]
        with ExitStack() as patches:
            for part, place, names in writers:
                for name in names:
                    patches.enter_context(patch.object(place, name, self._timed(part, getattr(place, name))))
            yield

    def _timed(self, part: str, write: Callable[..., None]) -> Callable[..., None]:
        def timed(first: Any, text: Any, *rest: Any) -> None:
            now, spent = text.name(time.perf_counter), text.name(self.spent)
            text.lines.append(f"{part}_begin = {now}()")
            write(first, text, *rest)
            text.lines.append(f"{spent}[{part!r}] += {now}() - {part}_begin")

        return timed

    def measure(self, steps: int) -> dict[str, float]:
        """Seconds of each part, per step; together they are the step."""
        self.spent.update(dict.fromkeys(self.spent, 0.0))
        start = time.perf_counter()
        for _ in range(steps):
            self.step()
        whole = (time.perf_counter() - start) / steps
        spent = {name: seconds / steps for name, seconds in self.spent.items()}
        run, code = spent.pop("run"), spent.pop("code")
        alone = self.products(steps)
        around = whole - run - sum(spent.values())
        return {**spent, "products": alone, "kernels": code - alone, "calls": run - code, "around": around}


def _products(program: Any) -> Callable[[int], float]:
    """A function that runs a program's matrix products so many times, and gives the seconds of one."""
    from tinygrad_dl import ops
    from tinygrad_dl.compiler.native.backend import build
    from tinygrad_dl.compiler.program import Program
    from tinygrad_dl.compiler.straight import Straight

    body = [step for step in program.body if step.op in (ops.matmul, ops.transpose)]
    made = {v for step in body for v in step.outputs}
    read = {v for step in body for v in step.inputs}
    inputs = [v for v in dict.fromkeys(v for step in body for v in step.inputs) if v not in made]
    native: Any = build(Program(inputs, {}, body, [v for step in body for v in step.outputs if v not in read]))
    arrays = [np.random.default_rng(0).random(v.shape, v.dtype) for v in inputs]
    native(arrays)
    text = Straight()
    text.name(native)  # whose memory it uses
    for part in native.parts:
        part.write(text, "memory")
    run, memory = text.function("memory"), [*arrays, *native.new]

    def seconds(steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            run(memory)
        return (time.perf_counter() - start) / steps

    return seconds


def tables(network: Network = DIGITS, rounds: int = ROUNDS, steps: int = STEPS) -> Iterator[Table]:
    """Of the digits step, on one thread."""
    title = f"Budget of a step {'-'.join(map(str, network.sizes))}, batch {network.batch}, on one thread (µs)"
    header = ["", "median", "share", "what it is"]
    try:
        with Remote(Budget, network, threads=1) as budget:
            measured = [budget.call("measure", steps) for _ in range(rounds)]
    except Failed as error:
        yield Table(title, header, [], [f"There is none: {error}"])
        return
    medians = {name: statistics.median(m[name] for m in measured) for name in PARTS}
    whole = statistics.median(sum(m.values()) for m in measured)
    rows = [[name, f"{t * 1e6:.1f}", f"{t / whole:.0%}", PARTS[name]] for name, t in medians.items()]
    yield Table(title, header, [*rows, ["the step", f"{whole * 1e6:.1f}", "", "timed as a whole"]])
