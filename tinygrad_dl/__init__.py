from ._tensor import Tensor as Tensor, tensor as tensor
from . import random as random
from .primitive import fused as fused, primitive as primitive
from .random import seed as seed
from .scope import enable_grad as enable_grad, no_grad as no_grad
