"""Optimizers, learning-rate schedules, clipping and averages."""

from . import lr_scheduler as lr_scheduler
from .adam import Adam as Adam
from .adam import Adamax as Adamax
from .adam import AdamW as AdamW
from .adam import NAdam as NAdam
from .adam import RAdam as RAdam
from .adaptive import Adagrad as Adagrad
from .adaptive import RMSprop as RMSprop
from .averages import ExponentialAverage as ExponentialAverage
from .gradients import clip_grad_norm as clip_grad_norm
from .gradients import clip_grad_value as clip_grad_value
from .gradients import decay_groups as decay_groups
from .optimizer import Optimizer as Optimizer
from .sgd import SGD as SGD
