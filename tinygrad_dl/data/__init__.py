"""Data preparation: mini-batches, normalised features, training and test sets."""

from .loader import Loader as Loader
from .normalizer import Normalizer as Normalizer
from .splitting import split as split
