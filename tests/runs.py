"""A tiny training run with everything random in it; as a program it kills itself while it trains, again and again."""

import os
import signal
import sys
import traceback
from pathlib import Path

import numpy as np

import tinygrad_dl as tg
from tinygrad_dl import data, nn, optim
from tinygrad_dl.train import Trainer

X = np.random.default_rng(0).normal(3, 2, size=(50, 6)).astype(np.float32)
Y = np.arange(50) % 4


def values(tensor):
    """A copy of its numbers."""
    return tensor.detach().numpy().copy()


def points(n, seed):
    """Three overlapping clouds of points in the plane."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    x = np.array([[0, 0], [2, 0], [0, 2]])[y] + rng.normal(size=(n, 2))
    return x.astype(np.float32), y


def build(seed=0, loader_seed=None, schedule_per="epoch", **options):
    """A trainer, and its training and dev data; batch norm, dropout, momentum, a schedule, clipping."""
    tg.seed(seed)
    drops = nn.Dropout(0.3), nn.Dropout(0.1, rng=5)
    model = nn.Sequential(nn.Linear(2, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), *drops, nn.Linear(8, 3))
    optimizer = optim.Adam(model.parameters(), lr=0.02)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, 40)
    options = {"progress": False, "clip": 1.0, "schedule": schedule, **options}
    trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer, schedule_per=schedule_per, **options)
    train = data.Loader(*points(44, 1), batch_size=8, shuffle=True, seed=loader_seed)
    return trainer, train, data.Loader(*points(30, 2), batch_size=30)


def weights(model):
    """All parameters and buffers as bytes, by name."""
    return {name: tensor.data.tobytes() for name, tensor in model.state_dict().items()}


def die_after(calls):
    """Let the process kill itself at its so-manieth call of a function, Python's or C's, from now on. Gives the list
    of how many are left."""
    left = [calls]

    def count(frame, event, argument):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
    return left


def train(folder, epochs, calls, options):
    """Train from where the latest checkpoint is; gives the number of calls that are left then."""
    trainer, data, dev = build(folder=folder, **options)
    left = die_after(calls)
    trainer.fit(data, dev, epochs=epochs, resume=True)
    sys.setprofile(None)
    return left[0]


def main(folder, epochs, kills, reach, options):
    """Kill the run at random moments, each time starting it again, and let it end; print the exit codes, and the name
    of the latest checkpoint at each. reach: how many epochs' calls an attempt may live, at most."""
    train(Path(folder, "before"), 1, 10**9, options)  # so that all is imported
    most = 10**9 - train(Path(folder, "again"), 1, 10**9, options)  # the calls of one epoch
    rng, seen = np.random.default_rng(0), []
    for calls in [*rng.integers(int(reach * most), size=kills).tolist(), 10**9]:
        pid = os.fork()
        if not pid:
            code = 1
            try:
                train(folder, epochs, calls, options)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        status = os.waitpid(pid, 0)[1]
        latest = max((p.stem for p in Path(folder).glob("*.safetensors")), default="none")
        seen.append((os.waitstatus_to_exitcode(status), latest))
    print(seen)


if __name__ == "__main__":
    import ast

    main(sys.argv[1], *ast.literal_eval(sys.argv[2]))
