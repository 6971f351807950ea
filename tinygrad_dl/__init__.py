from ._tensor import Tensor, tensor
from .primitive import primitive, fused
