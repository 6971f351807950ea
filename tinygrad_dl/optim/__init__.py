"""Optimizers, learning-rate schedules, clipping and averages."""

from . import lr_scheduler as lr_scheduler
from .adaptive import Adagrad as Adagrad
from .adaptive import Adam as Adam
from .adaptive import Adamax as Adamax
from .adaptive import AdamW as AdamW
from .adaptive import NAdam as NAdam
from .adaptive import RAdam as RAdam
from .adaptive import RMSprop as RMSprop
from .averages import ExponentialAverage as ExponentialAverage
from .gradients import clip_grad_norm as clip_grad_norm
from .gradients import clip_grad_value as clip_grad_value
from .gradients import decay_groups as decay_groups
from .optimizer import Optimizer as Optimizer
from .sgd import SGD as SGD
