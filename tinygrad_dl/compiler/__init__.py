"""`compile`: the same imperative step, recorded once, simplified, fused and replayed."""

from .compiled import Compiled as Compiled
from .compiled import compile as compile
from .program import Program as Program
