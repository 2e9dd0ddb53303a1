"""The step train as one function: settings and data in, the folder `model` out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gateline.device import configure_process
from gateline.errors import WorkloadError, did_you_mean
from gateline.manifest import Artifact, Json, digest_of, open_artifact, write_artifact
from gateline.model_folder import TRAINING_STATISTICS, WEIGHTS, save_tensors
from gateline.passport import code_version
from gateline.processes import Processes
from gateline.tasks import task_named
from gateline.training.checkpoints import Checkpoint, CheckpointStore, FolderStore
from gateline.training.loop import OnEpoch, OnStep, Stop, TrainingLoop
from gateline.training.memory import enough_memory
from gateline.training.refusals import not_refused, refused_once
from gateline.workload import Workload
from gateline.workload.run_wide import what_it_may_be
from gateline.workload.training import WITHOUT_EFFECT, Training

KEY_LENGTH = 16  # hexadecimal digits of a key that name a folder of checkpoints


@dataclass(frozen=True)
class RunSettings:
    """What `params.yaml` says for the whole run.

    Args:
        seed: of the initial weights, the order of the batches and dropout.
        device: ``cpu``, ``cuda`` or ``auto``.
        precision: ``float32``, ``bfloat16``, ``float16`` or ``auto``.
        processes: how many share every batch.
    """

    seed: int
    device: str = "cpu"
    precision: str = "float32"
    processes: int = 1

    def __post_init__(self) -> None:
        for name in ("seed", "processes"):
            value = getattr(self, name)
            if (expected := what_it_may_be(name, value)) is not None:
                raise WorkloadError(name, expected=expected, found=repr(value), do="Correct the flag, or params.yaml")


def train(
    workload: Workload,
    prepared: Artifact,
    folder: Path,
    run: RunSettings,
    on_epoch: Sequence[OnEpoch] = (),
    on_step: OnStep | None = None,
    *,
    stop: Stop = lambda: False,
    processes: Processes | None = None,
    checkpoints: CheckpointStore | None = None,
) -> Artifact:
    """Write the artifact `model`; see `gateline.model_folder` for what is in it.

    With several processes the first one calls this and the others `help_train`.

    Args:
        workload: its sections `model` and `training`.
        prepared: arrays, windows and fitted state.
        folder: where to write.
        run: seed, device, precision, processes.
        on_epoch: see `OnEpoch`; each is told.
        on_step: see `OnStep`.
        stop: see `Stop`.
        processes: who shares every batch; None: this process alone.
        checkpoints: where to keep what a stopped run needs to go on; None: see `beside`.

    Raises:
        Preempted: `stop` said so; the same call goes on.
        TrainingError: the loss or the gradient is no number, now or in an earlier run; the weights were not touched by it.
        WorkloadError: the sections cannot be used, or the device has too little memory for them.
        ArtifactError: the checkpoint there is one of other data, settings or code.
    """
    task = task_named(workload.task)
    settings = settings_of_weights(workload, run)
    key = key_of(prepared, settings)
    store = not_refused(checkpoints or beside(folder, key))
    with training_loop(workload, prepared, run, processes) as loop:
        with refused_once(store):
            loop.run(Checkpoint(store, key), on_epoch, on_step, stop)
        with write_artifact(folder, "model", {"prepared": prepared}) as draft:
            save_tensors(loop.best_weights, draft.path / WEIGHTS)
            shapes = task.shapes(prepared)
            draft.write_json("config.json", {"task": task.name, "model": settings["model"], "shapes": shapes})
            draft.write_json("preprocessing.json", prepared.read_json("state.json"))
            draft.write_json("history.json", loop.history)
            if (statistics := prepared.path / TRAINING_STATISTICS).is_file():
                shutil.copyfile(statistics, draft.path / TRAINING_STATISTICS)
            loop.network.load_state_dict(loop.best_weights)
            task.finish(loop.network.eval(), prepared, draft)
            draft.facts |= {
                **settings,
                "code": code_version(),
                "parameters": sum(parameter.numel() for parameter in loop.network.parameters()),
                # By which rule rows were seen or not: who is compared with this model asks, see `gateline.leakage`.
                "split": prepared.facts.get("split"),
                "raw": prepared.inputs.get("raw"),
                "best_epoch": loop.best_epoch,
                "epochs": len(loop.history),
            }
    return open_artifact(folder, "model")


def help_train(
    workload: Workload,
    prepared: Artifact,
    run: RunSettings,
    processes: Processes,
    stop: Stop = lambda: False,
) -> None:
    """Compute the share of a process that is not the first; it writes nothing.

    Raises:
        Preempted, TrainingError, WorkloadError: as `train`, and in the same step.
    """
    with training_loop(workload, prepared, run, processes) as loop:
        loop.run(None, stop=stop)


@contextmanager
def training_loop(
    workload: Workload, prepared: Artifact, run: RunSettings, processes: Processes | None = None
) -> Iterator[TrainingLoop]:
    """Make the loop, with the initial weights that the seed says; torch's generators are put back afterwards.

    Raises:
        WorkloadError: the device has too little memory, also for what is done with the loop.
    """
    task = task_named(workload.task)
    model_settings, training = workload.section("model", task.Model), workload.section("training", Training)
    task.check_data(model_settings, prepared)
    device, autocast_type = configure_process(run.device, run.precision)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), enough_memory():
        torch.manual_seed(run.seed)
        network = task.build(model_settings, task.shapes(prepared)).to(device)
        yield TrainingLoop(task, network, training, prepared, run.seed, device, autocast_type, processes)


def key_of(prepared: Artifact, settings: dict[str, Json]) -> str:
    """Digest of everything that shapes the weights: data, settings, code, and the torch that rounds as it does."""
    version = {"code": code_version(), "torch": str(torch.__version__)}
    return digest_of({"prepared": prepared.digest, **version, **settings})


def beside(folder: Path, key: str) -> FolderStore:
    """Where checkpoints lie when nobody says: beside the model folder, which itself appears only when complete."""
    around = folder.with_name(folder.name + ".checkpoint")
    return FolderStore(around / key[:KEY_LENGTH], around)


def read_settings(workload: Workload) -> tuple[Any, Training]:
    """Read the sections `model` and `training`, and see that they fit together.

    Raises:
        WorkloadError: a section cannot be used, or the task does not compute what it asks for.
    """
    task = task_named(workload.task)
    model, training = workload.section("model", task.Model), workload.section("training", Training)
    if training.monitor not in task.monitors:
        raise WorkloadError(
            "training.monitor",
            expected="something that the task computes",
            found=repr(training.monitor),
            do=did_you_mean(training.monitor, task.monitors),
        )
    task.check_training(model, training)
    return model, training


def check_share(run: RunSettings, training: Training) -> None:
    """Refuse more processes than a batch has rows.

    Raises:
        WorkloadError: there are more.
    """
    if run.processes > training.batch_size:
        raise WorkloadError(
            "processes",
            expected=f"at most training.batch_size, {training.batch_size}, so that each has rows",
            found=str(run.processes),
            do="Ask for fewer",
        )


def settings_of_weights(workload: Workload, run: RunSettings) -> dict[str, Json]:
    """Say what shapes the weights beside the data and the code, with defaults filled in and `auto` decided.

    Raises:
        WorkloadError: a section cannot be used, or the device is not there.
    """
    model, training = read_settings(workload)
    check_share(run, training)
    device, autocast_type = configure_process(run.device, run.precision)
    return {
        "task": workload.task,
        "model": model.model_dump(mode="json"),
        "training": training.model_dump(mode="json", exclude=WITHOUT_EFFECT),
        "seed": run.seed,
        "device": device.type,
        "precision": str(autocast_type).removeprefix("torch."),
        "processes": run.processes,
    }
