"""`compile`: the same imperative step, recorded once, simplified, fused and replayed."""

from .compiled import Compiled as Compiled
from .compiled import compile as compile
from .native import eager as _eager
from .program import Program as Program

_eager.install()
