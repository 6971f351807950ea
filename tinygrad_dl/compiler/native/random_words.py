"""`random_words`: the words of `tg.random.bits` at some elements, as machine code: each is a function of its number."""

from __future__ import annotations

import numpy as np

from ...random import _GAMMA, _LAST, _MIX
from .ir import INDEX, Code, Lanes
from .registers import DType, Register, splat

_WORD = np.dtype(np.uint64)


def random_words(code: Code, key: Register, first: str, width: int, pairs: bool, dtype: DType) -> Register:
    """Words `first`, `first + 1`, ...: words 2i and 2i + 1 are the halves of output i of SplitMix64.

    pairs: is `first` always even, and the width? Then each output is computed once."""
    lanes = Lanes("i64", width // 2 if pairs else width)
    place = _counted(code, code.binary("lshr", INDEX, first, 1) if pairs else first, lanes)
    number = place if pairs else code.binary("lshr", lanes, place, 1)
    z = code.binary("mul", lanes, code.binary("add", lanes, number, 1), _signed(_GAMMA))
    z = code.binary("add", lanes, z, splat(code, key, lanes.width).name if lanes.width > 1 else key.name)
    for shift, factor in _MIX:
        z = code.binary("xor", lanes, z, code.binary("lshr", lanes, z, int(shift)))
        z = code.binary("mul", lanes, z, _signed(factor))
    z = code.binary("xor", lanes, z, code.binary("lshr", lanes, z, int(_LAST)))
    words = Lanes("i32", width)
    if pairs:
        return Register(code.let(f"bitcast {lanes.type} {z} to {words.type}"), words, dtype)
    half = code.binary("shl", lanes, code.binary("and", lanes, place, 1), 5)
    return Register(code.cast(lanes, words, code.binary("lshr", lanes, z, half)), words, dtype)


def _counted(code: Code, start: str, lanes: Lanes) -> str:
    """start, start + 1, ..."""
    if lanes.width == 1:
        return start
    first = splat(code, Register(start, INDEX, _WORD), lanes.width)
    steps = ", ".join(f"i64 {i}" for i in range(lanes.width))
    return code.binary("add", lanes, first.name, f"<{steps}>")


def _signed(number: np.uint64) -> int:
    """The same 64 bits, as LLVM's text has them."""
    return int(number.view(np.int64))
