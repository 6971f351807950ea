"""Initialisation in place: of one tensor, `he_normal_(tensor)`, or of a whole model, `lsuv_(model, batch)`."""

from .initializers import constant_ as constant_
from .initializers import fan_in_uniform_ as fan_in_uniform_
from .initializers import he_normal_ as he_normal_
from .initializers import he_uniform_ as he_uniform_
from .initializers import kaiming_normal_ as kaiming_normal_
from .initializers import kaiming_uniform_ as kaiming_uniform_
from .initializers import lecun_normal_ as lecun_normal_
from .initializers import normal_ as normal_
from .initializers import ones_ as ones_
from .initializers import orthogonal_ as orthogonal_
from .initializers import uniform_ as uniform_
from .initializers import variance_scaling_ as variance_scaling_
from .initializers import xavier_normal_ as xavier_normal_
from .initializers import xavier_uniform_ as xavier_uniform_
from .initializers import zeros_ as zeros_
from .model_init import data_dependent_ as data_dependent_
from .model_init import dropout_adjusted_ as dropout_adjusted_
from .model_init import lsuv_ as lsuv_
