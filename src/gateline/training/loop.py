"""The training loop: batch, forward, loss, backward, clip, step; then validate, and keep the best.

Nothing in it draws a random number that depends on the past: the order of the batches and the numbers of dropout follow from
the seed, the epoch and the step. So a run that was stopped at any step goes on to the same bytes, and one batch means the
same whether it is computed at once, in parts, or by several processes.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from gateline.data.loading import load
from gateline.errors import GOES_ON, Preempted, TrainingError, TryAgainError
from gateline.manifest import Artifact
from gateline.peak_memory import peak_memory
from gateline.processes import Processes, add_gradients, part_of
from gateline.randomness import rows_of_batch
from gateline.tasks import Task
from gateline.training.checkpoints import Checkpoint
from gateline.training.optimisation import WeightAverage, learning_rate, make_optimiser
from gateline.workload.training import Training

OnEpoch = Callable[[Mapping[str, float]], None]
"""Told of every epoch, also of those that a resumed run finds in its checkpoint: epoch, train_loss, validation_*; and of those
that were just trained, rows_per_second and peak_memory_bytes."""

OnStep = Callable[[int, int, float], None]
"""Told of progress: step of this epoch, steps per epoch, loss (of the last step that was read; NaN where it had no labels)."""

Stop = Callable[[], bool]
"""Asked after every step, and between two batches that are scored, whether to save and stop; where several processes train on
GPUs, which have to agree, at every look at the loss."""

READ_EVERY = {"cpu": 1, "cuda": 20}
"""Steps between two looks at the loss; looking waits for the device, which on a CPU costs nothing."""
TELL_EVERY = 10  # steps
SAVE_EVERY_SECONDS = 300.0
SMALLEST_SCALE = 2.0**-14
"""float16 gradients that are still no numbers when scaled by this never will be."""
DIVERGED = "Lower training.learning_rate or training.clip_norm, or look for extreme values in the data"
"""What to do about a figure that is no number."""
DEVICE_SHARE = 0.5
"""Of the free memory of a device, how much the data may take; the rest is for weights and activations."""


class TrainingLoop:
    """State of one training run, and the loop over its epochs.

    Args:
        task: says what a batch and its loss are.
        network: on its device, freshly initialised, the same in every process.
        training: the section.
        prepared: arrays and windows.
        seed: of the order of the batches and of dropout.
        device: where the network is.
        autocast_type: float32 for none.
        processes: who shares every batch.
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
        processes: Processes | None = None,
    ) -> None:
        self.task, self.network, self.training, self.prepared = task, network, training, prepared
        self.seed, self.device, self.autocast_type = seed, device, autocast_type
        self.processes = processes or Processes()
        self.train_set = self._placed(task.dataset(prepared, "train"))
        self.validation_set = self._placed(task.dataset(prepared, "validation"))
        with torch.no_grad():
            task.start(network, self.train_set)  # before the average takes its first copy
        self.order = task.order(prepared, self.train_set, training, seed)
        self.score = task.scorer(prepared, training.loss)
        self.validation_order = task.validation_order(prepared, self.validation_set, training)
        self.parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.optimiser = make_optimiser(network, training)
        self.scaler = torch.amp.GradScaler(device.type, enabled=autocast_type == torch.float16)
        self.scaler.scale(
            torch.zeros((), device=device)
        )  # makes its scale, also in a process whose first share is empty
        self.average = WeightAverage(network, training.weight_average) if training.weight_average else None
        self.read_every = READ_EVERY.get(device.type, 1)
        self.history: list[dict[str, float]] = []
        self.best_epoch = 0
        self.best_weights: dict[str, torch.Tensor] = {}
        self.step = 0  # of this epoch, the next to take
        self.loss_sums = torch.zeros(2, dtype=torch.float64, device=device)  # of this epoch: loss, elements
        self.carried: list[Any] = [None] * training.accumulate
        self.fault = torch.zeros(3, device=device)  # step (from 1), loss and gradient norm where one was no number
        self.saved_at = time.monotonic()

    def run(
        self,
        checkpoint: Checkpoint | None,
        on_epoch: Sequence[OnEpoch] = (),
        on_step: OnStep | None = None,
        stop: Stop = lambda: False,
    ) -> None:
        """Train until the last epoch, or until patience ends; go on where a stopped run was.

        Args:
            checkpoint: what the first process saves and goes on from; None in the others.
            on_epoch: see `OnEpoch`; each is told.
            on_step: see `OnStep`.
            stop: see `Stop`.

        Raises:
            Preempted: `stop` said so; everything is in the checkpoint.
            TrainingError: the loss or the gradient is no number; the weights were not touched by it.
        """
        self.resume(checkpoint)
        for record in self.history:
            tell_all(on_epoch, record)
        while not self.finished():
            began = time.monotonic()
            rows = self.train_epoch(checkpoint, on_step, stop)
            seconds = time.monotonic() - began
            self.keep(self.validate(checkpoint, stop))
            self.save(checkpoint)
            tell_all(on_epoch, {**self.history[-1], **measured(rows, seconds, self.device)})

    def train_epoch(self, checkpoint: Checkpoint | None, on_step: OnStep | None, stop: Stop) -> int:
        """Take the optimiser steps that this epoch still needs, one per batch; return the rows of all of them."""
        self.network.train()
        steps, taken = len(self.order), 0
        no_flags = torch.zeros(2, device=self.device)
        loaded = self.load_parts(range(self.step, steps))
        while self.step < steps:
            rows = len(self.order.batch(self.epoch, self.step))
            facts = self.gradients(loaded, rows)  # loss and elements of this process
            # Making a flag on a device and reading one wait for it, so neither is done at every step there.
            looking = (self.step + 1) % self.read_every == 0 or self.step + 1 == steps or self._stops_alone(stop)
            flags = self._flags(checkpoint, stop) if looking else no_flags
            facts = self.added_up(torch.cat([facts, flags]), checkpoint)
            self.update(facts, rows, self.learning_rate())
            self.step, taken = self.step + 1, taken + rows
            if looking:
                self.refuse_if_not_finite()
                loss, elements, *flags_of_all = facts.tolist()
                self.heed(flags_of_all, checkpoint)
                if on_step and (self.step % TELL_EVERY == 0 or self.step == steps):
                    on_step(self.step, steps, loss / elements if elements else math.nan)
        return taken

    def gradients(self, loaded: Iterator[Any], rows: int) -> torch.Tensor:
        """Compute the gradients of our parts of a batch, as of the loss summed over it and divided by its rows.

        Args:
            loaded: our parts, see `load_parts`.
            rows: of the whole batch.

        Returns:
            float32 (2,): the summed loss and the number of elements in it, of our parts.
        """
        self.optimiser.zero_grad(set_to_none=True)
        facts = torch.zeros(2, device=self.device)
        seed = seed_of(self.seed, self.epoch, self.step)
        for place, (first, last) in enumerate(self._parts(rows)):
            if first == last:
                continue
            batch = next(loaded).to(self.device)
            torch.manual_seed(seed)
            with rows_of_batch(first, last - first, rows, seed, self.progress), self._autocast():
                total, count, carried = self.task.loss(self.network, batch, self.training.loss, self.carried[place])
            self.scaler.scale(total / rows).backward()
            self.carried[place] = detached(carried)
            facts += torch.stack([total.detach().float(), count.float()])
        return facts

    def added_up(self, facts: torch.Tensor, checkpoint: Checkpoint | None) -> torch.Tensor:
        """Add gradients and facts over all processes; when one is gone, save what the last step left, and say so."""
        try:
            return add_gradients(self.processes, self.parameters, facts)
        except TryAgainError:
            if all(part is None for part in self.carried):  # else the other processes' parts are gone with them
                self.refuse_if_not_finite()
                self.save(checkpoint)
            raise

    def load_parts(self, steps: Sequence[int]) -> Iterator[Any]:
        """Load our parts of the batches of some steps of this epoch, one after the other."""

        def parts() -> Iterator[np.ndarray]:
            for step in steps:
                rows = self.order.batch(epoch, step)
                yield from (rows[first:last] for first, last in self._parts(len(rows)) if first < last)

        epoch = self.epoch
        return iter(load(self.train_set, parts(), workers=self.training.workers, pin_memory=self.device.type == "cuda"))

    def update(self, facts: torch.Tensor, rows: int, rate: float) -> None:
        """Take the step: unscale, divide by the elements of the whole batch, clip, and let the optimiser go.

        A step whose loss or gradient is no number leaves the weights alone. So does a batch without elements, whose gradient of
        0 would let momentum and weight decay go on. (On a GPU, where to ask would be to wait: but for float16, whose scaler
        steps by itself, and the average takes the same weights in again.)

        Args:
            facts: float32 (2 or more,), loss and elements of the whole batch.
            rows: of the whole batch.
            rate: learning rate.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.scaler.unscale_(self.optimiser)
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        mean = rows / facts[1].clamp(min=1)
        norm = nn.utils.get_total_norm(gradients) * mean
        limit = math.inf if self.training.clip_norm is None else self.training.clip_norm
        torch._foreach_mul_(gradients, mean * torch.clamp(limit / (norm + 1e-6), max=1.0))
        # float16 overflows now and then by design; there the scaler skips the step, and only the loss counts.
        looked_at = facts[0] if self.scaler.is_enabled() else facts[0] + norm
        this = torch.stack([torch.full_like(norm, self.step + 1), facts[0], norm])
        self.fault = torch.where((self.fault[0] == 0) & ~torch.isfinite(looked_at), this, self.fault)
        if self.read_every == 1:
            self.refuse_if_not_finite()
            if facts[1] == 0:
                return
        elif not self.scaler.is_enabled():
            skipped = (self.fault[0] != 0) | (facts[1] == 0)
            self.optimiser.found_inf = skipped.float()  # type: ignore[attr-defined]  # fused kernels skip
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.network)
        self.loss_sums += facts[:2]

    def learning_rate(self) -> float:
        """Say the learning rate of the next step."""
        monitored = [record[self._monitored] for record in self.history]
        return learning_rate(self.training, self.taken, len(self.order), monitored)

    @property
    def taken(self) -> int:
        """Steps taken since training began."""
        return self.epoch * len(self.order) + self.step

    @property
    def progress(self) -> float:
        """Share of all steps of training that are taken, as if no patience ended it."""
        return min(self.taken / (self.training.epochs * len(self.order)), 1.0)

    def refuse_if_not_finite(self) -> None:
        """Stop where the loss or the norm of the gradient is no number; nothing of it was stepped on or saved."""
        step, loss, norm = self.fault.tolist()
        if not step and self.scaler.is_enabled() and self.scaler.get_scale() < SMALLEST_SCALE:
            step, loss, norm = self.step, 0.0, math.nan
        if not step:
            return
        name, value = ("norm of the gradient", norm) if math.isfinite(loss) else ("loss", loss)
        raise TrainingError(
            f"epoch {self.epoch + 1}, batch {step:.0f}",
            expected=f"a finite {name}",
            found=str(value),
            do=DIVERGED,
        )

    def heed(self, flags: Sequence[float], checkpoint: Checkpoint | None) -> None:
        """Save, and stop, where a process wants that: two numbers, see `_flags`, added up over all of them.

        Raises:
            Preempted: one wants to stop; says what the next run will find.
        """
        stops, saves = flags
        is_saved = self.save(checkpoint) if stops or saves else True
        if stops:
            then = GOES_ON
            if checkpoint is not None and not is_saved:
                last = "goes on from the last checkpoint before" if checkpoint.is_there else "begins anew"
                then = f"training {last}, since none could be written now"
            raise Preempted("a request to stop", self.processes.from_first(then))

    def validate(self, checkpoint: Checkpoint | None = None, stop: Stop = lambda: False) -> dict[str, float]:
        """Score the validation part in eval mode, without gradients, with the weights that would be kept.

        Each process scores its rows; what they add up is exact, so the mean does not depend on how many they are. Scoring
        changes nothing that is saved, so a run that is stopped here goes on with the validation of the same epoch.

        Raises:
            Preempted: `stop` said so; everything is in the checkpoint.
            TrainingError: the validation part has nothing that one of the task's `monitors` is the mean of.
        """
        network, order = self.network_to_keep.eval(), self.validation_order
        steps = len(order)
        shares = [self.processes.share(len(order.batch(0, step))) for step in range(steps)]
        batches = (order.batch(0, step)[first:last] for step, (first, last) in enumerate(shares) if first < last)
        loaded = iter(load(self.validation_set, batches, workers=self.training.workers))
        sums: dict[str, torch.Tensor] = {}
        nothing, carried = torch.zeros(2, dtype=torch.float64, device=self.device), None
        with torch.inference_mode(), self._autocast():
            for step, (first, last) in enumerate(shares, start=1):
                if first < last:
                    scores, carried = self.score(network, next(loaded).to(self.device), carried)
                    for name, (total, count) in scores.items():
                        sums[name] = sums.get(name, nothing) + torch.stack([total.double(), count.double()])
                if step < steps and (step % self.read_every == 0 or self._stops_alone(stop)):
                    self.heed(self.processes.add(self._flags(checkpoint, stop)).tolist(), checkpoint)
        names = self.task.monitors
        table = torch.stack([sums.get(name, nothing) for name in names])  # a process without rows adds nothing
        means = {}
        for name, (total, count) in zip(names, self.processes.add(table).tolist(), strict=True):
            if not count:
                raise TrainingError(
                    f"epoch {self.epoch + 1}",
                    expected=f"something in the validation part that `{name}` can be computed of",
                    found="nothing",
                    do="Make the validation part longer, or look for missing labels in it",
                )
            means[name] = total / count
        return means

    def keep(self, scores: Mapping[str, float]) -> None:
        """Record an epoch, and its weights if they are the best so far; begin the next.

        Raises:
            TrainingError: a figure of the epoch is no finite number, be it the monitored one or not: a history holds no others.
        """
        loss, elements = self.loss_sums.tolist()
        if not elements:
            raise nothing_to_learn(self.epoch)
        record: dict[str, float] = {
            "epoch": self.epoch + 1,
            "train_loss": loss / elements,
            "learning_rate": self._last_learning_rate(),
        }
        record |= {f"validation_{name}": value for name, value in scores.items()}
        for name in (self._monitored, *record):
            if not math.isfinite(record[name]):
                raise TrainingError(
                    f"epoch {record['epoch']}", expected=f"a finite {name}", found=str(record[name]), do=DIVERGED
                )
        if self.best_epoch == 0 or record[self._monitored] < self.history[self.best_epoch - 1][self._monitored]:
            self.best_epoch = self.epoch + 1
            weights = self.network_to_keep.state_dict()
            self.best_weights = {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}
        self.history.append(record)
        self.step, self.carried = 0, [None] * self.training.accumulate
        self.loss_sums.zero_()

    def finished(self) -> bool:
        """Say whether the last epoch is done, or patience has ended."""
        return self.epoch >= self.training.epochs or self.epoch - self.best_epoch >= self.training.patience

    @property
    def epoch(self) -> int:
        """Epochs that are done; the one being trained, counted from 0."""
        return len(self.history)

    @property
    def network_to_keep(self) -> nn.Module:
        """The network whose weights are validated and kept: the average where there is one."""
        return self.network if self.average is None else self.average.network

    def save(self, checkpoint: Checkpoint | None) -> bool:
        """Write everything that the next step depends on, whole or not at all. Every process has to take part.

        Returns:
            Whether it could be written; of the first process, which writes.
        """
        carried = self.processes.gather(self.carried) if any(part is not None for part in self.carried) else None
        self.saved_at = time.monotonic()
        if checkpoint is None:
            return True
        state = {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.network.state_dict(),
            "updates": 0 if self.average is None else self.average.updates,
            "history": self.history,
            "step": self.step,
            "loss_sums": self.loss_sums,
            "carried": carried,
        }
        return checkpoint.save(state, self.best_epoch, self.best_weights)

    def resume(self, checkpoint: Checkpoint | None) -> None:
        """Go on from a checkpoint of the same data, settings, code and torch, if there is one.

        Raises:
            ArtifactError: the checkpoint there is one of others.
        """
        found = self.processes.from_first(checkpoint.load() if checkpoint else None)
        if found is None:
            return
        state, self.best_epoch, self.best_weights = found
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.network.load_state_dict(state["average"])
            self.average.updates = state["updates"]
        self.history, self.step = state["history"], state["step"]
        self.loss_sums = state["loss_sums"].to(self.device)
        if state["carried"] is not None:
            self.carried = on_device(state["carried"][self.processes.rank], self.device)

    @property
    def _monitored(self) -> str:
        return f"validation_{self.training.monitor}"

    def _last_learning_rate(self) -> float:
        return float(self.optimiser.param_groups[0]["lr"])

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.autocast_type, enabled=self.autocast_type != torch.float32)

    def _parts(self, rows: int) -> list[tuple[int, int]]:
        """Cut our share of a batch into the parts that are computed one after the other."""
        first, last = self.processes.share(rows)
        cuts = [part_of(last - first, place, self.training.accumulate) for place in range(self.training.accumulate)]
        return [(first + begin, first + end) for begin, end in cuts]

    def _stops_alone(self, stop: Stop) -> bool:
        """Say whether to stop without asking other processes, which would wait for the device."""
        return self.processes.count == 1 and stop()

    def _flags(self, checkpoint: Checkpoint | None, stop: Stop) -> torch.Tensor:
        """Say whether this process wants all to stop, and whether it wants all to save: float32 (2,)."""
        due = checkpoint is not None and time.monotonic() - self.saved_at > SAVE_EVERY_SECONDS
        return torch.tensor([float(stop()), float(due)], device=self.device)

    def _placed(self, dataset: Any) -> Any:
        """Move a data set to the device once, where there is one and the data fit beside everything else."""
        if self.device.type != "cuda" or not hasattr(dataset, "nbytes"):
            return dataset
        free, _ = torch.cuda.mem_get_info(self.device)
        return dataset.to(self.device) if dataset.nbytes < DEVICE_SHARE * free else dataset


def nothing_to_learn(epoch: int) -> TrainingError:
    """Say that no batch of an epoch, counted from 0, has anything that the loss is made of."""
    return TrainingError(
        f"epoch {epoch + 1}",
        expected="a label in one of its batches",
        found="none",
        do="Raise training.examples_per_epoch, or leave out sequences without labels in the query",
    )


def seed_of(seed: int, epoch: int, step: int) -> int:
    """Derive the seed of one step; neighbouring steps and seeds have nothing in common."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{epoch}/{step}".encode(), digest_size=7).digest())


def measured(rows: int, seconds: float, device: torch.device) -> dict[str, float]:
    """What an epoch cost: rows per second of training, and the largest memory of the process so far."""
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_memory()
    return {"rows_per_second": rows / max(seconds, 1e-9), "peak_memory_bytes": float(memory)}


def detached(state: Any) -> Any:
    """Cut nested tuples and lists of tensors from the graph: here truncated backpropagation ends."""
    return _each(state, lambda tensor: tensor.detach())


def on_device(state: Any, device: torch.device) -> Any:
    """Move nested tuples and lists of tensors."""
    return _each(state, lambda tensor: tensor.to(device))


def _each(state: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if isinstance(state, torch.Tensor):
        return change(state)
    if isinstance(state, tuple | list):
        return type(state)(_each(item, change) for item in state)
    return state


def tell_all(listeners: Sequence[OnEpoch], record: Mapping[str, float]) -> None:
    """Tell everyone who listens of an epoch."""
    for listen in listeners:
        listen(record)
