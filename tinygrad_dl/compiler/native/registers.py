"""`Register`: numbers of one dtype in lanes; literals, casts, and lanes taken out and spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .ir import Code, Lanes

DType = np.dtype[Any]
KINDS = {
    np.dtype(np.float32): "float",
    np.dtype(np.float64): "double",
    np.dtype(np.bool_): "i1",
}
KINDS |= {np.dtype(f"{sign}int{bits}"): f"i{bits}" for bits in (8, 16, 32, 64) for sign in ("", "u")}


@dataclass(frozen=True, slots=True)
class Register:
    """name: in LLVM's text, where a literal stands for itself. Booleans are `i1`."""

    name: str
    lanes: Lanes
    dtype: DType


def lanes_of(dtype: DType, width: int) -> Lanes:
    return Lanes(KINDS[dtype], width)


def literal(lanes: Lanes, dtype: DType, x: float) -> Register:
    """A number in every lane; unsigned ones are written as the signed number of the same bits."""
    if dtype.kind == "u" and x >= 1 << (lanes.bits - 1):
        x = int(x) - (1 << lanes.bits)
    return Register(lanes.constant(x), lanes, dtype)


def convert(code: Code, x: Register, dtype: DType) -> Register:
    """The register as another dtype."""
    source, target = x.lanes, lanes_of(dtype, x.lanes.width)
    if x.dtype == dtype:
        return x
    kinds = x.dtype.kind + dtype.kind
    if x.dtype.kind == "f" and target.bits in (8, 16):  # as C does it: by way of 32 bits
        whole = np.dtype(np.int32)
        name = code.cast(lanes_of(whole, source.width), target, convert(code, x, whole).name)
    elif kinds == "uf":
        name = code.let(f"uitofp {source.type} {x.name} to {target.type}")
    elif kinds == "fu":
        name = code.let(f"fptoui {source.type} {x.name} to {target.type}")
    elif x.dtype.kind == "u" and dtype.kind in "ui" and target.bits > source.bits:
        name = code.let(f"zext {source.type} {x.name} to {target.type}")
    elif source.kind == target.kind:
        name = x.name
    else:
        name = code.cast(source, target, x.name)
    return Register(name, target, dtype)


def where(code: Code, mask: Register, x: Register, y: Register) -> Register:
    return Register(code.select(x.lanes, mask.name, x.name, y.name), x.lanes, x.dtype)


def lane(code: Code, x: Register, i: int) -> Register:
    """One of its numbers."""
    lanes = Lanes(x.lanes.kind, 1)
    return Register(code.let(f"extractelement {x.lanes.type} {x.name}, i64 {i}"), lanes, x.dtype)


def slice_of(code: Code, x: Register, start: int, width: int) -> Register:
    """Neighbours among its numbers."""
    if (start, width) == (0, x.lanes.width):
        return x
    if width == 1:
        return lane(code, x, start)
    chosen = ", ".join(f"i32 {i}" for i in range(start, start + width))
    text = f"shufflevector {x.lanes.type} {x.name}, {x.lanes.type} poison, <{width} x i32> <{chosen}>"
    return Register(code.let(text), Lanes(x.lanes.kind, width), x.dtype)


def padded(code: Code, x: Register) -> Register:
    """With more numbers behind, whichever, so that a power of two are side by side."""
    width = 1 << (x.lanes.width - 1).bit_length()
    if width == x.lanes.width:
        return x
    chosen = ", ".join(f"i32 {i}" if i < x.lanes.width else "i32 poison" for i in range(width))
    text = f"shufflevector {x.lanes.type} {x.name}, {x.lanes.type} poison, <{width} x i32> <{chosen}>"
    return Register(code.let(text), Lanes(x.lanes.kind, width), x.dtype)


def splat(code: Code, x: Register, width: int) -> Register:
    """One number in every lane."""
    lanes = Lanes(x.lanes.kind, width)
    return Register(code.spread(lanes, x.name), lanes, x.dtype)
