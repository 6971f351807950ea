"""Text of LLVM IR: `Lanes` is a type, a scalar or a vector of any width, and `Code` collects the instructions
of one function body.

    code, lanes = Code(), Lanes("float", 16)
    y = code.fma(lanes, x, x, 1.0)  # the register that holds x * x + 1 in each lane

An operand is a register, or a number that stands for a constant in every lane. No optimiser is expected to run
over the text: one call is one instruction, or none where indices are known.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import add, floordiv, mul, sub

Operand = str | float

_KNOWN: dict[str, Callable[[int, int], int]] = {"add": add, "sub": sub, "mul": mul, "udiv": floordiv, "umin": min}
_BITS = {"double": 64, "float": 32, "ptr": 64, "i64": 64, "i32": 32, "i16": 16, "i8": 8, "i1": 1}
_CASTS = {  # (from float?, to float?) -> (instruction that narrows, instruction that widens or keeps the size)
    (True, True): ("fptrunc", "fpext"),
    (True, False): ("fptosi", "fptosi"),
    (False, True): ("sitofp", "sitofp"),
    (False, False): ("trunc", "sext"),
}


@dataclass(frozen=True)
class Lanes:
    """`width` numbers of one kind side by side; width 1 is a scalar."""

    kind: str
    width: int = 1

    def __post_init__(self) -> None:
        if self.kind not in _BITS or self.width < 1:
            raise ValueError(f"no lanes of kind {self.kind!r} and width {self.width}: kinds are {', '.join(_BITS)}")

    @property
    def type(self) -> str:
        return self.kind if self.width == 1 else f"<{self.width} x {self.kind}>"

    @property
    def bits(self) -> int:
        """The size of one lane."""
        return _BITS[self.kind]

    @property
    def floating(self) -> bool:
        return self.kind in ("float", "double")

    @property
    def mask(self) -> Lanes:
        """What a comparison gives."""
        return self.with_kind("i1")

    @property
    def ints(self) -> Lanes:
        """Integers of the same size."""
        return self.with_kind(f"i{self.bits}")

    def with_kind(self, kind: str) -> Lanes:
        return replace(self, kind=kind)

    @property
    def suffix(self) -> str:
        """The type as the names of intrinsics spell it."""
        kind = f"f{self.bits}" if self.floating else self.kind
        return kind if self.width == 1 else f"v{self.width}{kind}"

    def constant(self, x: float) -> str:
        """A number in every lane: rounded to a floating kind, wrapped around to an integer one."""
        if self.floating:
            text = f"0x{_double_bits(_to_single(x) if self.kind == 'float' else x):016X}"
        elif self.kind == "i1":
            text = "true" if x else "false"
        else:
            half = 1 << (self.bits - 1)
            text = str((int(x) + half) % (2 * half) - half)
        return text if self.width == 1 else f"splat ({self.kind} {text})"

    def operand(self, x: Operand) -> str:
        return x if isinstance(x, str) else self.constant(x)


INDEX = Lanes("i64")


def _to_single(x: float) -> float:
    try:
        return float(struct.unpack("f", struct.pack("f", x))[0])
    except OverflowError:
        return float("inf") if x > 0 else float("-inf")


def _double_bits(x: float) -> int:
    return int(struct.unpack("Q", struct.pack("d", x))[0])


def _known(instruction: str, a: str, b: str) -> str | None:
    """What comes of indices that are numbers, or of one that is not changed."""
    if instruction in _KNOWN and a.isdigit() and b.isdigit():
        return str(_KNOWN[instruction](int(a), int(b)))
    return a if (instruction, b) in (("add", "0"), ("sub", "0"), ("mul", "1")) else None


class Code:
    """The lines of one function body, and the declarations that its module needs beside it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.declares: set[str] = set()
        self._names = 0

    def text(self) -> str:
        return "\n".join(self.lines)

    def fresh(self, prefix: str) -> str:
        """A name that nothing else in this body has."""
        self._names += 1
        return f"{prefix}{self._names}"

    def let(self, text: str) -> str:
        register = self.fresh("%r")
        self.do(f"{register} = {text}")
        return register

    def opaque(self, pointer: str) -> str:
        """The same pointer, of which LLVM does not know where it comes from: it stays an address of its own. From one
        that it sees through it makes a sum of two registers, which takes an instruction more in each multiplication
        that reads memory."""
        return self.let(f'call ptr asm "", "=r,0"(ptr {pointer})')

    def behind(self, pointer: str, distance: int, times: str) -> str:
        """A pointer, so many times so many bytes further on."""
        if not distance:
            return pointer
        return self.let(f"getelementptr i8, ptr {pointer}, i64 {self.binary('mul', INDEX, times, distance)}")

    def fetch(self, address: str, writes: bool = False, cache: int = 2) -> None:
        """Begin to bring a line into a cache: 3 is the first, 2 the second."""
        self.declares.add("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        self.do(f"call void @llvm.prefetch.p0(ptr {address}, i32 {int(writes)}, i32 {cache}, i32 1)")

    def do(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")

    def apart(self) -> None:
        """LLVM chooses instructions for what follows without a look at what came before."""
        name = self.fresh("l")
        self.do(f"br label %{name}")
        self.label(name)

    def loop(
        self,
        start: str,
        end: str,
        kinds: Sequence[Lanes],
        carried: Sequence[str],
        body: Callable[[str, list[str]], Sequence[str]],
    ) -> list[str]:
        """Run the body for each number from the start until before the end. It is told the number and the registers
        that it carries on, and returns those of the next round; the result is what they are at last.

        LLVM does not know that one number follows from the one before: to look for other ways to count took it a
        seventh of the time for a program, and what it found was no quicker."""
        if (start, end) == ("0", "1"):
            return [*body("0", [*carried])]
        name, index = self.fresh("l"), self.fresh("%i")
        inside = [self.fresh("%c") for _ in carried]
        outside, self.lines = self.lines, []
        after = body(self.let(f'call i64 asm "", "=r,0"(i64 {index})'), inside)
        lines, self.lines = self.lines, outside
        self.do(f"br label %{name}.before")
        self.label(f"{name}.before")
        self.do(f"br label %{name}.head")
        self.label(f"{name}.head")
        self.do(f"{index} = phi i64 [{start}, %{name}.before], [{index}.next, %{name}.end]")
        for kind, here, first, following in zip(kinds, inside, carried, after, strict=True):
            self.do(f"{here} = phi {kind.type} [{first}, %{name}.before], [{following}, %{name}.end]")
        self.do(f"{index}.more = icmp ult i64 {index}, {end}")
        self.do(f"br i1 {index}.more, label %{name}.body, label %{name}.after")
        self.label(f"{name}.body")
        self.lines += lines
        self.do(f"br label %{name}.end")
        self.label(f"{name}.end")
        self.do(f"{index}.next = add i64 {index}, 1")
        self.do(f"br label %{name}.head")
        self.label(f"{name}.after")
        return inside

    def binary(self, instruction: str, lanes: Lanes, a: Operand, b: Operand) -> str:
        """`add`, `fmul nsz`, `shl`, `xor`: any instruction of two operands and their type."""
        x, y = lanes.operand(a), lanes.operand(b)
        return _known(instruction, x, y) or self.let(f"{instruction} {lanes.type} {x}, {y}")

    def fadd(self, lanes: Lanes, a: Operand, b: Operand) -> str:
        return self.binary("fadd", lanes, a, b)

    def fsub(self, lanes: Lanes, a: Operand, b: Operand) -> str:
        return self.binary("fsub", lanes, a, b)

    def fmul(self, lanes: Lanes, a: Operand, b: Operand) -> str:
        return self.binary("fmul", lanes, a, b)

    def fdiv(self, lanes: Lanes, a: Operand, b: Operand) -> str:
        return self.binary("fdiv", lanes, a, b)

    def fneg(self, lanes: Lanes, a: str) -> str:
        return self.let(f"fneg {lanes.type} {a}")

    def fcmp(self, condition: str, lanes: Lanes, a: Operand, b: Operand) -> str:
        """condition: `olt`, `oeq`, `une`, ...; ordered ones are false for NaN, unordered ones true."""
        return self.binary(f"fcmp {condition}", lanes, a, b)

    def icmp(self, condition: str, lanes: Lanes, a: Operand, b: Operand) -> str:
        return self.binary(f"icmp {condition}", lanes, a, b)

    def select(self, lanes: Lanes, mask: str, a: Operand, b: Operand) -> str:
        """a where the mask is set, b elsewhere."""
        chosen = f"{lanes.type} {lanes.operand(a)}, {lanes.type} {lanes.operand(b)}"
        return self.let(f"select {lanes.mask.type} {mask}, {chosen}")

    def intrinsic(self, name: str, lanes: Lanes, *operands: Operand) -> str:
        """`llvm.NAME`, whose operands and result all have one type."""
        xs = [lanes.operand(x) for x in operands]
        known = _known(name, *xs) if len(xs) == 2 else None
        if known is not None:
            return known
        function = f"@llvm.{name}.{lanes.suffix}"
        self.declares.add(f"declare {lanes.type} {function}({', '.join([lanes.type] * len(xs))})")
        return self.let(f"call {lanes.type} {function}({', '.join(f'{lanes.type} {x}' for x in xs)})")

    def spread(self, lanes: Lanes, x: str) -> str:
        """One number in every lane."""
        if lanes.width == 1:
            return x
        one = self.let(f"insertelement {lanes.type} poison, {lanes.kind} {x}, i64 0")
        zeros = f"<{lanes.width} x i32> zeroinitializer"
        return self.let(f"shufflevector {lanes.type} {one}, {lanes.type} poison, {zeros}")

    def fma(self, lanes: Lanes, a: Operand, b: Operand, c: Operand) -> str:
        """a * b + c, rounded once."""
        return self.intrinsic("fma", lanes, a, b, c)

    def sqrt(self, lanes: Lanes, a: Operand) -> str:
        return self.intrinsic("sqrt", lanes, a)

    def fabs(self, lanes: Lanes, a: Operand) -> str:
        return self.intrinsic("fabs", lanes, a)

    def copysign(self, lanes: Lanes, magnitude: Operand, sign: Operand) -> str:
        return self.intrinsic("copysign", lanes, magnitude, sign)

    def bitcast(self, source: Lanes, target: Lanes, a: Operand) -> str:
        """The same bits as another kind of the same size."""
        return self.let(f"bitcast {source.type} {source.operand(a)} to {target.type}")

    def cast(self, source: Lanes, target: Lanes, a: Operand) -> str:
        """The same numbers as another kind: integers are signed, i1 holds 0 and 1, and only i1 asks `!= 0`."""
        if source == target:
            return source.operand(a)
        if target.kind == "i1":
            return self.fcmp("une", source, a, 0.0) if source.floating else self.icmp("ne", source, a, 0)
        if source.kind == "i1":
            instruction = "uitofp" if target.floating else "zext"
        else:
            instruction = _CASTS[source.floating, target.floating][target.bits > source.bits]
        return self.let(f"{instruction} {source.type} {source.operand(a)} to {target.type}")
