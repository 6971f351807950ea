"""Tuning: search over many training runs with Optuna (extra `tune`), or steer a single run."""

from typing import TYPE_CHECKING, Any

from .panda import Panda as Panda
from .results import Outcome as Outcome
from .results import Results as Results
from .scales import choice as choice
from .scales import grid as grid
from .scales import integer as integer
from .scales import log_uniform as log_uniform
from .scales import one_minus_log as one_minus_log
from .scales import uniform as uniform
from .searching import search as search
from .trial import Trial as Trial

if TYPE_CHECKING:
    from .samplers import CoarseToFine as CoarseToFine


def __getattr__(name: str) -> Any:
    """`CoarseToFine` is a class of Optuna's kind, so it is made when it is asked for."""
    if name != "CoarseToFine":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ._optuna import needed

    needed()
    from .samplers import CoarseToFine

    return CoarseToFine
