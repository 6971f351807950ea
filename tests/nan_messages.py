"""What `detect_nan` says of a function, for the tests of it."""

import inspect
import re

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl.insight.detection import detect_nan

F = np.float32


def leaf(values, name="x"):
    return tg.tensor(np.asarray(values, F), requires_grad=True, name=name)


def message(f, *args):
    with pytest.raises(FloatingPointError) as caught, detect_nan():
        f(*args)
    return str(caught.value)


def remedy(text):
    return re.search(r"write instead: (.*)", text).group(1)


def here():
    """The line that calls this."""
    return inspect.currentframe().f_back.f_lineno
