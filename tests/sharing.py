"""One of several processes that train a small model together: ``python -m tests.sharing FOLDER``.

Each case is trained undisturbed, and stopped by its last process alone and run again: in the second epoch, and while the first
one is validated. The first process writes weights and history of each.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import torch

from gateline.adapters.process_group import process_group
from gateline.data.order import SequentialOrder
from gateline.device import configure_process
from gateline.errors import Preempted
from gateline.manifest import open_artifact
from gateline.processes import Processes
from gateline.tasks import Task
from gateline.tasks.forecasting import TASK
from gateline.training.checkpoints import Checkpoint, FolderStore
from gateline.training.loop import TrainingLoop
from gateline.workload.training import Training
from tests.streams import StreamTask

CASES = ("windows", "streams")
NAMES = ("undisturbed", "resumed", "validated")


def loop_of(case: str, folder: Path, processes: Processes) -> TrainingLoop:
    """Make the loop of a case, with dropout and with parts of batches, so that both are shared out."""
    torch.manual_seed(1)
    task: Any = TASK if case == "windows" else StreamTask()
    prepared = open_artifact(folder / "prepared", "prepared")
    if case == "windows":
        network = TASK.build(TASK.Model(hidden_size=6, dropout=0.4, attention="dot"), TASK.shapes(prepared))
    else:
        network = task.build(dropout=0.3)
    # 250 windows of a batch are no multiple of 3, nor are the 46 of the last; nor are 7 streams, in 2 parts each.
    training = Training(
        batch_size=250, epochs=2, accumulate=2, learning_rate=0.01, loss="squared", weight_average=0.9, clip_norm=0.5
    )
    loop = TrainingLoop(cast(Task, task), network, training, prepared, 5, torch.device("cpu"), torch.float32, processes)
    if case == "windows":
        loop.validation_order = SequentialOrder(len(loop.validation_set), 50)  # several batches, as the streams have
    return loop


def run(case: str, folder: Path, processes: Processes, name: str) -> TrainingLoop:
    """Train; unless it is undisturbed, the last process alone asks for a stop, and all go on afterwards."""
    asked = iter(range(1, 10**6))
    store = FolderStore(folder / f"{case}-{processes.count}-{name}")
    loop = loop_of(case, folder, processes)
    steps, scored = len(loop.order), len(loop.validation_order) - 1  # how often it is asked in an epoch
    after = {"undisturbed": 10**6, "validated": steps + 2, "resumed": steps + scored + 2}[name]
    mine = after if processes.rank == processes.count - 1 else 10**6

    def stop() -> bool:
        return next(asked) >= mine

    try:
        loop.run(Checkpoint(store, "key") if processes.first else None, stop=stop)
    except Preempted:
        assert (loop.epoch, loop.step) == ((0, steps) if name == "validated" else (1, 2))
        loop = loop_of(case, folder, processes)
        loop.run(Checkpoint(store, "key") if processes.first else None)
    else:
        assert name == "undisturbed", "it was not stopped"
    return loop


def main(folder: Path) -> None:
    """Train every case undisturbed and stopped."""
    configure_process("cpu", "float32")
    with process_group("cpu") as processes:
        for case in CASES:
            for name in NAMES:
                loop = run(case, folder, processes, name)
                if processes.first:
                    result = {"weights": loop.best_weights, "history": loop.history}
                    torch.save(result, folder / f"{case}-{processes.count}-{name}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
