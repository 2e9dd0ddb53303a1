"""The training loop: batch, forward, loss, zero gradients, backward, clip, step, schedule; then validate, and keep the best.

A run that was killed goes on from the checkpoint of its last finished epoch, and ends with the same bytes as a run that
was not: weights, optimiser, schedule, average and the state of every random generator are in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from gateline.data.windows import ShuffledSampler, batches
from gateline.device import configure_process
from gateline.errors import TrainingError, WorkloadError, did_you_mean
from gateline.manifest import Artifact, Json, digest_of, open_artifact, write_artifact
from gateline.model_folder import WEIGHTS, save_tensors
from gateline.passport import code_version
from gateline.tasks import Task, task_named
from gateline.workload import Workload
from gateline.workload.training import Training

CHECKPOINT = "last.pt"

OnEpoch = Callable[[Mapping[str, float]], None]
"""Told of every epoch, also of those that a resumed run finds in its checkpoint: epoch, train_loss, validation_*."""

OnStep = Callable[[int, int, float], None]
"""Told of progress: step of this epoch, steps per epoch, loss (of the last step that was read)."""

READ_LOSS_EVERY = 10  # steps; reading a loss waits for the device


@dataclass(frozen=True)
class RunSettings:
    """What `params.yaml` says for the whole run.

    Args:
        seed: of the initial weights, the order of the batches and dropout.
        device: ``cpu``, ``cuda`` or ``auto``.
        precision: ``float32``, ``bfloat16``, ``float16`` or ``auto``.
    """

    seed: int
    device: str = "cpu"
    precision: str = "float32"

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise WorkloadError(
                "seed", expected="a whole number from 0 to 2^63 - 1", found=str(self.seed), do="Correct params.yaml"
            )


def train(
    workload: Workload,
    prepared: Artifact,
    folder: Path,
    run: RunSettings,
    *,
    on_epoch: Sequence[OnEpoch] = (),
    on_step: OnStep | None = None,
) -> Artifact:
    """Write the artifact `model`; see `gateline.model_folder` for what is in it.

    Args:
        workload: its sections `model` and `training`.
        prepared: arrays, windows and fitted state.
        folder: where to write; checkpoints lie in ``FOLDER.checkpoint`` until `forget_checkpoint`.
        run: seed, device, precision.
        on_epoch: see `OnEpoch`; each is told.
        on_step: see `OnStep`.

    Raises:
        TrainingError: the loss or the gradient is no number; the weights were not touched by it.
        WorkloadError: the sections cannot be used.
    """
    task = task_named(workload.task)
    settings = settings_of_weights(workload, run)
    model_settings, training = workload.section("model", task.Model), workload.section("training", Training)
    device, autocast_type = configure_process(run.device, run.precision)
    shapes = task.shapes(prepared)
    key = digest_of({"prepared": prepared.digest, "code": code_version(), **settings})
    with _seeded(run.seed, device):
        network = task.build(model_settings, shapes).to(device)
        loop = TrainingLoop(task, network, training, prepared, run.seed, device, autocast_type)
        loop.run(checkpoint_folder(folder) / CHECKPOINT, key, on_epoch, on_step)
    with write_artifact(folder, "model", {"prepared": prepared}) as draft:
        save_tensors(loop.best_weights, draft.path / WEIGHTS)
        draft.write_json(
            "config.json", {"task": task.name, "model": model_settings.model_dump(mode="json"), "shapes": shapes}
        )
        draft.write_json("preprocessing.json", prepared.read_json("state.json"))
        draft.write_json("history.json", loop.history)
        draft.facts |= {
            **settings,
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "best_epoch": loop.best_epoch,
            "epochs": len(loop.history),
        }
    return open_artifact(folder, "model")


def settings_of_weights(workload: Workload, run: RunSettings) -> dict[str, Json]:
    """Say what shapes the weights beside the data and the code, with defaults filled in and `auto` decided.

    Raises:
        WorkloadError: a section cannot be used, or the device is not there.
    """
    task = task_named(workload.task)
    training = workload.section("training", Training)
    if training.monitor not in task.monitors:
        raise WorkloadError(
            "training.monitor",
            expected="something that the task computes",
            found=repr(training.monitor),
            do=did_you_mean(training.monitor, task.monitors),
        )
    device, autocast_type = configure_process(run.device, run.precision)
    return {
        "task": task.name,
        "model": workload.section("model", task.Model).model_dump(mode="json"),
        "training": training.model_dump(mode="json"),
        "seed": run.seed,
        "device": device.type,
        "precision": str(autocast_type).removeprefix("torch."),
    }


class TrainingLoop:
    """State of one training run, and the loop over its epochs.

    Args:
        task: says what a batch and its loss are.
        network: on its device, freshly initialised.
        training: the section.
        prepared: arrays and windows.
        seed: of the order of the batches.
        device: where the network is.
        autocast_type: float32 for none.
    """

    def __init__(
        self,
        task: Task,
        network: nn.Module,
        training: Training,
        prepared: Artifact,
        seed: int,
        device: torch.device,
        autocast_type: torch.dtype,
    ) -> None:
        self.task, self.network, self.training, self.prepared, self.device = task, network, training, prepared, device
        self.autocast_type = autocast_type
        train_set = task.dataset(prepared, "train")
        self.order = torch.Generator().manual_seed(seed)
        sampler = ShuffledSampler(len(train_set), self.order, training.windows_per_epoch)  # type: ignore[arg-type]
        self.train_batches: DataLoader[Any] = batches(train_set, training.batch_size, sampler)  # type: ignore[arg-type]
        self.validation_batches: DataLoader[Any] = batches(task.dataset(prepared, "validation"), 512)  # type: ignore[arg-type]
        self.optimiser = make_optimiser(network, training)
        self.scaler = torch.amp.GradScaler(device.type, enabled=autocast_type == torch.float16)
        steps = training.epochs * len(self.train_batches)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, learning_rate_factor(training, steps))
        self.average = make_average(network, training.weight_average)
        self.history: list[dict[str, float]] = []
        self.best_epoch = 0
        self.best_weights: dict[str, torch.Tensor] = {}

    def run(self, checkpoint: Path, key: str, on_epoch: Sequence[OnEpoch], on_step: OnStep | None) -> None:
        """Train until the last epoch, or until patience ends."""
        self.resume(checkpoint, key)
        for record in self.history:
            tell_all(on_epoch, record)
        while not self.finished():
            train_loss = self.train_epoch(on_step)
            scores = self.validate()
            self.keep(train_loss, scores)
            self.save(checkpoint, key)
            tell_all(on_epoch, self.history[-1])

    def train_epoch(self, on_step: OnStep | None) -> float:
        """Take one optimiser step per batch; return the mean loss over all observed elements."""
        self.network.train()
        total, count = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        for step, batch in enumerate(self.train_batches, start=1):
            with torch.autocast(self.device.type, self.autocast_type, enabled=self.autocast_type != torch.float32):
                loss_sum, elements = self.task.loss(self.network, batch.to(self.device), self.training.loss)
            loss = loss_sum / elements
            self.optimiser.zero_grad(set_to_none=True)
            self.scaler.scale(loss).backward()
            self.scaler.unscale_(self.optimiser)
            norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.training.clip_norm or math.inf)
            self.refuse_if_not_finite(loss, norm, step)
            self.scaler.step(self.optimiser)
            self.scaler.update()
            self.schedule.step()
            if self.average is not None:
                self.average.update_parameters(self.network)
            total, count = total + loss_sum.detach(), count + elements
            if on_step and (step % READ_LOSS_EVERY == 0 or step == len(self.train_batches)):
                on_step(step, len(self.train_batches), float(loss.detach()))
        return float(total / count)

    def refuse_if_not_finite(self, loss: torch.Tensor, norm: torch.Tensor, step: int) -> None:
        """Stop before the optimiser would spoil the weights.

        float16 overflows now and then by design; there the gradient scaler skips the step, and only the loss counts.
        """
        looked_at = {"loss": loss} if self.scaler.is_enabled() else {"loss": loss, "norm of the gradient": norm}
        for name, value in looked_at.items():
            if not torch.isfinite(value):
                raise TrainingError(
                    f"epoch {len(self.history) + 1}, batch {step}",
                    expected=f"a finite {name}",
                    found=str(float(value.detach())),
                    do="Lower training.learning_rate or training.clip_norm, or look for extreme values in the data",
                )

    def validate(self) -> dict[str, float]:
        """Score the validation part in eval mode, without gradients, with the weights that would be kept."""
        network = self.network if self.average is None else self.average.module
        network.eval()
        with torch.inference_mode():
            return self.task.validate(network, self.prepared, self.validation_batches, self.training.loss)

    def keep(self, train_loss: float, scores: Mapping[str, float]) -> None:
        """Record an epoch, and its weights if they are the best so far."""
        monitored = f"validation_{self.training.monitor}"
        record: dict[str, float] = {
            "epoch": len(self.history) + 1,
            "train_loss": train_loss,
            "learning_rate": float(self.schedule.get_last_lr()[0]),
        }
        record |= {f"validation_{name}": value for name, value in scores.items()}
        if not math.isfinite(record[monitored]):
            raise TrainingError(
                f"epoch {record['epoch']}",
                expected=f"a finite {monitored}",
                found=str(record[monitored]),
                do="Look at the data",
            )
        self.history.append(record)
        if self.best_epoch == 0 or record[monitored] < self.history[self.best_epoch - 1][monitored]:
            self.best_epoch = len(self.history)
            weights = (self.network if self.average is None else self.average.module).state_dict()
            self.best_weights = {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}

    def finished(self) -> bool:
        """Say whether the last epoch is done, or patience has ended."""
        epochs = len(self.history)
        return epochs >= self.training.epochs or (epochs > 0 and epochs - self.best_epoch >= self.training.patience)

    def save(self, checkpoint: Path, key: str) -> None:
        """Write everything that the next epoch depends on, whole or not at all."""
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        draft = checkpoint.with_suffix(".tmp")
        save_tensors(
            {
                "key": key,
                "network": self.network.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "schedule": self.schedule.state_dict(),
                "scaler": self.scaler.state_dict(),
                "average": None if self.average is None else self.average.state_dict(),
                "order": self.order.get_state(),
                "random": torch.get_rng_state(),
                "random_cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
                "history": self.history,
                "best_epoch": self.best_epoch,
                "best_weights": self.best_weights,
            },
            draft,
        )
        draft.replace(checkpoint)

    def resume(self, checkpoint: Path, key: str) -> None:
        """Go on from a checkpoint of the same data and settings; one of others is left alone and written over."""
        if not checkpoint.is_file():
            return
        try:
            state: dict[str, Json] = torch.load(checkpoint, map_location="cpu", weights_only=True)
        except Exception:  # noqa: BLE001  a damaged checkpoint costs time, not the run; torch raises many kinds for damaged files
            return
        if state["key"] != key:
            return
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.order.set_state(state["order"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"] is not None:
            torch.cuda.set_rng_state(state["random_cuda"], self.device)
        self.history, self.best_epoch, self.best_weights = state["history"], state["best_epoch"], state["best_weights"]


def tell_all(listeners: Sequence[OnEpoch], record: Mapping[str, float]) -> None:
    """Tell everyone who listens of an epoch."""
    for listen in listeners:
        listen(record)


def make_optimiser(network: nn.Module, training: Training) -> torch.optim.Optimizer:
    """Build the optimiser; weight decay only on matrices."""
    matrices = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": training.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if training.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=training.learning_rate, momentum=0.9)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[training.optimiser]
    return kind(groups, lr=training.learning_rate)


def learning_rate_factor(training: Training, steps: int) -> Callable[[int], float]:
    """Say by what the learning rate is multiplied at a step, counted from 0, of `steps`."""
    warm_up = round(training.warm_up * steps)

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        if training.schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm_up) / max(1, steps - warm_up))))

    return factor


def make_average(network: nn.Module, decay: float) -> AveragedModel | None:
    """Keep a moving average of the weights, or None for a decay of 0.

    Early on the decay is smaller, min(decay, (n + 1) / (n + 10)) after n updates, so that the first weights are soon
    forgotten.
    """
    if decay == 0:
        return None

    def average(averaged: Any, current: Any, updates: torch.Tensor | int) -> None:
        n = int(updates)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (n + 1) / (n + 10)))

    return AveragedModel(network, multi_avg_fn=average)


def checkpoint_folder(folder: Path) -> Path:
    """Where the checkpoints of a model folder lie: beside it, since the folder itself appears only when complete."""
    return folder.with_name(folder.name + ".checkpoint")


def forget_checkpoint(folder: Path) -> None:
    """Remove the checkpoints, once nothing can make this training necessary again."""
    (checkpoint_folder(folder) / CHECKPOINT).unlink(missing_ok=True)
    if checkpoint_folder(folder).is_dir():
        checkpoint_folder(folder).rmdir()


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's own generators, which initial weights and dropout draw from, and put them back afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
