"""Training: the loop with checkpoints, early stopping and a history, and checks to run before it."""

from .callbacks import Callback as Callback
from .first_steps import baselines as baselines
from .first_steps import find_lr as find_lr
from .first_steps import overfit_one_batch as overfit_one_batch
from .history import History as History
from .tensorboard import TensorBoard as TensorBoard
from .trainer import Trainer as Trainer
