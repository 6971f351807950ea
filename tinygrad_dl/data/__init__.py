"""Data on its way to the model: mini-batches, normalised features, train and test parts."""

from .loader import Loader as Loader
from .normalizer import Normalizer as Normalizer
from .splitting import split as split
