"""Layers and losses as functions of Tensors and arrays."""

from .activations import elu as elu
from .activations import gelu as gelu
from .activations import hardmax as hardmax
from .activations import leaky_relu as leaky_relu
from .activations import log_softmax as log_softmax
from .activations import logsumexp as logsumexp
from .activations import one_hot as one_hot
from .activations import relu as relu
from .activations import selu as selu
from .activations import sigmoid as sigmoid
from .activations import silu as silu
from .activations import softmax as softmax
from .activations import softplus as softplus
from .objectives import binary_cross_entropy_with_logits as binary_cross_entropy_with_logits
from .objectives import cross_entropy as cross_entropy
from .objectives import huber_loss as huber_loss
from .objectives import l1_loss as l1_loss
from .objectives import l1_penalty as l1_penalty
from .objectives import l2_penalty as l2_penalty
from .objectives import mse_loss as mse_loss
from .objectives import nll_loss as nll_loss
from .transformations import batch_norm as batch_norm
from .transformations import dropout as dropout
from .transformations import linear as linear
