"""Learning rates against torch's own schedulers, the range test, and what a device does where nobody looks at every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from gateline.errors import TrainingError, WorkloadError
from gateline.manifest import Artifact
from gateline.tasks import Task
from gateline.tasks.forecasting import TASK
from gateline.training import RunSettings, settings_of_weights
from gateline.training.learning_rate_finder import find_learning_rate, losses_at
from gateline.training.loop import TrainingLoop
from gateline.training.optimisation import falls, learning_rate
from gateline.workload import Workload
from gateline.workload.section import read_section
from gateline.workload.training import Training
from tests.tiny import prepare_tiny, tiny_workload

EPOCHS, STEPS = 12, 9  # epochs, and steps of an epoch

THEIRS: dict[str, tuple[Any, Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler]]] = {
    "constant": ("constant", lambda o: lr_scheduler.ConstantLR(o, factor=1.0)),
    "cosine": (
        {"kind": "cosine", "end": 0.1},
        lambda o: lr_scheduler.CosineAnnealingLR(o, EPOCHS * STEPS, eta_min=0.005),
    ),
    "one_cycle": (
        {"kind": "one_cycle", "rise": 0.25, "start": 0.1, "end": 0.001},
        lambda o: lr_scheduler.OneCycleLR(
            o,
            0.05,
            total_steps=EPOCHS * STEPS,
            pct_start=0.25,
            div_factor=10,
            final_div_factor=100,
            cycle_momentum=False,
        ),
    ),
    "step": ({"kind": "step", "every": 4, "factor": 0.3}, lambda o: lr_scheduler.StepLR(o, 4 * STEPS, 0.3)),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return prepare_tiny(tmp_path_factory.mktemp("tiny") / "prepared")


@pytest.mark.parametrize("name", THEIRS)
def test_a_schedule_is_the_one_of_torch(name: str) -> None:
    asked, make = THEIRS[name]
    training = Training(schedule=asked, epochs=EPOCHS, learning_rate=0.05)
    optimiser = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.05)
    theirs = make(optimiser)
    for step in range(EPOCHS * STEPS):
        assert learning_rate(training, step, STEPS, []) == pytest.approx(theirs.get_last_lr()[0], rel=1e-6), step
        optimiser.step()
        theirs.step()


def test_a_plateau_lets_the_rate_fall_where_torch_does(rng: np.random.Generator) -> None:
    scores = np.round(rng.random(60), 1).tolist()  # rounded, so that some are equal
    optimiser = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    theirs = lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.5, patience=2, threshold=0.0)
    training = Training(schedule={"kind": "plateau", "patience": 3, "factor": 0.5}, learning_rate=1.0)
    for place, score in enumerate(scores, start=1):
        theirs.step(score)
        assert learning_rate(training, place * STEPS, STEPS, scores[:place]) == pytest.approx(
            optimiser.param_groups[0]["lr"]
        )
    assert falls(scores, 3) > 0


def test_the_rate_warms_up_before_it_falls() -> None:
    training = Training(schedule="cosine", warm_up=0.1, epochs=10, learning_rate=2.0)

    rates = [learning_rate(training, step, 10, []) for step in (0, 4, 9, 10, 55, 99)]

    assert rates == pytest.approx([0.2, 1.0, 2.0, 2.0, 1.0, 0.00061], abs=1e-4)


def test_a_wrong_key_of_a_schedule_gets_its_right_name() -> None:
    with pytest.raises(WorkloadError, match=r"training\.schedule\.step\.evry: .*Did you mean 'every'"):
        read_section("training", Training, {"schedule": {"kind": "step", "evry": 3}})
    with pytest.raises(WorkloadError, match="schedule"):
        read_section("training", Training, {"schedule": "linear"})


def workload(**changes: Any) -> Workload:
    content = tiny_workload(**changes)
    return Workload("tiny", "forecasting", "", "test", {key: content[key] for key in ("model", "training")})


def test_the_range_test_suggests_a_rate_that_trains(prepared: Artifact) -> None:
    sweep = find_learning_rate(workload(training__optimiser="adam"), prepared, RunSettings(1), highest=10.0)

    assert len(sweep.rates) == len(sweep.losses) < 150  # it ran away before the end
    assert 1e-4 < sweep.suggested < 0.3
    assert sweep.losses.min() < 0.7 * sweep.losses[0]


def loop(prepared: Artifact, network: nn.Module | None = None, **settings: Any) -> TrainingLoop:
    torch.manual_seed(0)
    network = network or TASK.build(TASK.Model(hidden_size=5), TASK.shapes(prepared))
    training = Training(batch_size=64, epochs=2, **settings)
    return TrainingLoop(cast(Task, TASK), network, training, prepared, 0, torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "sgd"])
def test_where_the_loss_is_read_now_and_then_no_step_is_taken_after_one_that_was_no_number(
    optimiser: str, prepared: Artifact
) -> None:
    """As on a GPU, where looking at every loss would cost more than the step."""
    made = loop(prepared, optimiser=optimiser)
    made.read_every = 10
    calls, kept = [0], []

    def spoil(gradient: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        if calls[0] == 4:
            kept.append({name: value.clone() for name, value in made.network.state_dict().items()})
        return gradient * float("nan") if calls[0] == 4 else gradient

    next(made.network.parameters()).register_hook(spoil)

    with pytest.raises(TrainingError, match="epoch 1, batch 4: expected a finite norm of the gradient; found nan"):
        made.train_epoch(None, None, lambda: False)
    assert calls[0] == 10
    assert all(torch.equal(value, kept[0][name]) for name, value in made.network.state_dict().items())


@pytest.mark.parametrize("parts", [2, 5])
def test_a_batch_in_parts_makes_the_step_of_the_whole_batch(parts: int, prepared: Artifact) -> None:
    whole, cut = loop(prepared), loop(prepared, accumulate=parts)
    for made in (whole, cut):
        made.train_epoch(None, None, lambda: False)

    for name, value in whole.network.state_dict().items():
        torch.testing.assert_close(cut.network.state_dict()[name], value, rtol=1e-3, atol=1e-5)
    assert cut.loss_sums.tolist() == pytest.approx(whole.loss_sums.tolist(), rel=1e-5)


def test_results_do_not_depend_on_who_loads_the_batches(prepared: Artifact, tmp_path: Path) -> None:
    here, there = loop(prepared), loop(prepared, workers=2)
    for made in (here, there):
        made.train_epoch(None, None, lambda: False)
        made.keep(made.validate())

    assert here.history == there.history
    assert all(torch.equal(value, there.best_weights[name]) for name, value in here.best_weights.items())


def test_a_batch_has_no_more_parts_than_rows() -> None:
    with pytest.raises(WorkloadError, match="`accumulate` of at most `batch_size`"):
        read_section("training", Training, {"batch_size": 8, "accumulate": 9})


@pytest.fixture
def native() -> Iterator[None]:
    """Without oneDNN, whose LSTM cannot be trained in float16."""
    with torch.backends.mkldnn.flags(enabled=False):
        yield


def in_float16(prepared: Artifact, **settings: Any) -> TrainingLoop:
    """The loop in float16, which a CPU can compute, though slowly: the scaler is the same as on a GPU."""
    torch.manual_seed(0)
    network = TASK.build(TASK.Model(hidden_size=5), TASK.shapes(prepared))
    training = Training(batch_size=64, epochs=2, **settings)
    return TrainingLoop(cast(Task, TASK), network, training, prepared, 0, torch.device("cpu"), torch.float16)


def test_float16_is_clipped_and_stepped_as_if_it_were_not_scaled(prepared: Artifact, native: None) -> None:
    half, whole = in_float16(prepared, clip_norm=0.05), loop(prepared, clip_norm=0.05)
    for made in (half, whole):
        made.train_epoch(None, None, lambda: False)

    for name, value in whole.network.state_dict().items():
        torch.testing.assert_close(half.network.state_dict()[name], value, rtol=0.1, atol=0.02)


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_a_step_that_overflows_in_float16_is_skipped_and_the_next_one_is_taken(
    optimiser: str, prepared: Artifact, native: None
) -> None:
    made = in_float16(prepared, optimiser=optimiser, learning_rate=1e-3)
    calls = [0]

    def overflow(gradient: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        return gradient * float("inf") if calls[0] == 1 else gradient

    next(made.network.parameters()).register_hook(overflow)
    before = made.scaler.get_scale()
    made.train_epoch(None, None, lambda: False)

    assert made.scaler.get_scale() == before / 2
    assert all(torch.isfinite(value).all() for value in made.network.state_dict().values())


def test_float16_that_always_overflows_is_refused(prepared: Artifact, native: None) -> None:
    made = in_float16(prepared)
    next(made.network.parameters()).register_hook(lambda gradient: gradient * float("nan"))

    made.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**-5, backoff_factor=0.5)

    with pytest.raises(TrainingError, match="expected a finite norm of the gradient"):
        made.train_epoch(None, None, lambda: False)


def test_every_step_has_random_numbers_of_its_own_and_its_parts_share_them(
    prepared: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []
    true_loss = TASK.loss

    def watched(network: Any, batch: Any, kind: str, carried: None) -> Any:
        seeds.append(torch.initial_seed())
        return true_loss(network, batch, kind, carried)

    monkeypatch.setattr(type(TASK), "loss", lambda _, *asked: watched(*asked))
    made = loop(prepared, accumulate=2)
    for _ in range(2):
        made.train_epoch(None, None, lambda: False)
        made.keep({"loss": 1.0})

    steps = 2 * len(made.order)
    assert seeds[0::2] == seeds[1::2]
    assert len(seeds) == 2 * steps
    assert len(set(seeds)) == steps


def test_the_range_test_at_one_rate_is_an_epoch_of_training(prepared: Artifact) -> None:
    swept, trained = loop(prepared), loop(prepared)
    rate = Training().learning_rate

    losses = losses_at(swept, np.full(len(swept.order), rate))
    told: list[float] = []
    true_gradients = trained.gradients

    def watched(loaded: Any, rows: int) -> torch.Tensor:
        facts = true_gradients(loaded, rows)
        told.append(float(facts[0] / facts[1]))
        return facts

    trained.gradients = watched  # type: ignore[method-assign]
    trained.learning_rate = lambda: rate  # type: ignore[method-assign]
    trained.train_epoch(None, None, lambda: False)

    assert losses == pytest.approx(told, rel=1e-6)


def test_more_processes_than_rows_are_refused(prepared: Artifact) -> None:
    with pytest.raises(WorkloadError, match=r"processes: expected at most training\.batch_size, 64"):
        settings_of_weights(workload(), RunSettings(1, processes=65))


def test_who_loads_the_batches_is_no_setting_of_the_weights() -> None:
    one, other = (settings_of_weights(workload(training__workers=workers), RunSettings(1)) for workers in (0, 2))

    assert one == other
