"""`Kernels`: what the native backend makes of a program, to be counted, drawn and read on any machine."""

from __future__ import annotations

from collections.abc import Iterator

from .axes import Node, root
from .fuse import Kernel, fuse
from .native.checked import is_checked
from .native.codegen import write_kernel
from .native.operations import can_lower
from .native.plan import plan
from .program import Instruction, Program
from .trace import Tracer


class Kernels:
    """found: the kernels. products: how many matrix products stand between them; copies: how many operations that copy
    or look up. alone: how many run as NumPy. Nothing is compiled, so llvmlite need not be there."""

    def __init__(self, program: Program) -> None:
        tracer = Tracer(program, can_lower)
        self.program, self.graph = program, tracer.trace()
        self._nodes = {v: node for v, (node, _) in tracer.reads.items()}
        fused = fuse(self.graph)
        self._plan = plan(program, self.graph, fused)
        self.found = [step for step in self._plan.order if isinstance(step, Kernel)]
        others = ["move" if is_checked(step) else step.kind for step in self._plan.order if isinstance(step, Node)]
        self.products, self.copies, self.alone = map(others.count, ("gemm", "move", "opaque"))

    def members(self) -> list[list[Instruction]]:
        """The instructions that each kernel computes; of one that several compute, the kernel that stores it."""
        home: dict[Node, int] = {}
        for i, kernel in enumerate(self.found):
            for node in kernel.nodes:
                home.setdefault(node, i)
        home |= {node: i for i, kernel in enumerate(self.found) for node in kernel.outputs}
        found: list[list[Instruction]] = [[] for _ in self.found]
        for step in self.program.body:
            number = home.get(self._nodes[step.outputs[0]])
            if number is not None:
                found[number].append(step)
        return found

    def bytes(self) -> int:
        """Read and written by all kernels, products and operations, each array once by each."""
        return sum(self.graph.size(n.layout) * n.dtype.itemsize for step in self._plan.order for n in _moved(step))

    def ir(self) -> Iterator[str]:
        """Each kernel's function as LLVM IR, named `@NAME`; before one that calls another for each of a batch, that."""
        late = set(self._plan.overwrites)
        for kernel in self.found:
            written = write_kernel(kernel, self.graph, late)
            yield "\n".join([*written.calls, written.text])


def _moved(step: Kernel | Node) -> set[Node]:
    if isinstance(step, Kernel):
        return {root(n) for n in (*step.inputs, *step.outputs)}
    return {root(n) for n in (*step.nodes, step)}
