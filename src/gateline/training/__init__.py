"""Training: the loop, what it optimises with, where it keeps its state, and the step around it.

run.py           settings and data in, the folder `model` out
loop.py          batch, forward, loss, backward, clip, step; validate; keep the best
optimisation.py  optimiser, learning rate, average of the weights
checkpoints.py   what a stopped run needs to go on
memory.py        what no device has the memory for
refusals.py      why a run cannot go on, for the next one
learning_rate_finder.py   the range test
"""

from gateline.training.refusals import not_refused
from gateline.training.run import RunSettings, beside, help_train, key_of, read_settings, settings_of_weights, train

__all__ = [
    "RunSettings",
    "beside",
    "help_train",
    "key_of",
    "not_refused",
    "read_settings",
    "settings_of_weights",
    "train",
]
