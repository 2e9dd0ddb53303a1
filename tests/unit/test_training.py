"""The loop: a resumed run ends with the bytes of an undisturbed one, and nothing that is no number reaches the weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gateline.data.order import SequentialOrder
from gateline.errors import DataError, Preempted, TrainingError, WorkloadError
from gateline.manifest import Artifact
from gateline.tasks.forecasting import TASK
from gateline.training import RunSettings, train
from gateline.training.run import training_loop
from gateline.workload import Workload
from tests.tiny import prepare_tiny, tiny_workload


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return prepare_tiny(tmp_path_factory.mktemp("tiny") / "prepared")


def workload(**changes: Any) -> Workload:
    content = tiny_workload(**changes)
    return Workload("tiny", "forecasting", "", "test", {key: content[key] for key in ("model", "training")})


def content_of(model: Artifact) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in model.path.iterdir()}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(prepared: Artifact, tmp_path: Path) -> None:
    first = train(workload(), prepared, tmp_path / "first", RunSettings(1))
    torch.rand(7)  # what others do with torch's global generator is none of our business
    second = train(workload(), prepared, tmp_path / "second", RunSettings(1))
    third = train(workload(), prepared, tmp_path / "third", RunSettings(2))

    assert content_of(first) == content_of(second)
    assert content_of(first)["weights.pt"] != content_of(third)["weights.pt"]


def test_training_leaves_the_global_generator_alone(prepared: Artifact, tmp_path: Path) -> None:
    before = torch.get_rng_state()

    train(workload(training__epochs=1), prepared, tmp_path / "model", RunSettings(1))

    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "changes",
    [
        {"training__epochs": 4},
        {"training__epochs": 4, "training__weight_average": 0.9, "model__dropout": 0.3, "training__warm_up": 0.2},
        {
            "training__epochs": 4,
            "training__optimiser": "sgd",
            "training__examples_per_epoch": 0.5,
            "training__clip_norm": None,
        },
    ],
    ids=["plain", "average and dropout", "sgd on half the windows"],
)
@pytest.mark.parametrize("stopped_after", [1, 3])
def test_a_stopped_run_goes_on_and_ends_with_the_same_bytes(
    changes: dict[str, Any], stopped_after: int, prepared: Artifact, tmp_path: Path
) -> None:
    undisturbed = train(workload(**changes), prepared, tmp_path / "undisturbed", RunSettings(3))

    def stop(record: Any) -> None:
        if record["epoch"] == stopped_after:
            raise Preempted("test")

    with pytest.raises(Preempted):
        train(workload(**changes), prepared, tmp_path / "stopped", RunSettings(3), on_epoch=[stop])
    assert not (tmp_path / "stopped").exists()
    told: list[int] = []
    resumed = train(
        workload(**changes),
        prepared,
        tmp_path / "stopped",
        RunSettings(3),
        on_epoch=[lambda r: told.append(int(r["epoch"]))],
    )

    assert content_of(resumed) == content_of(undisturbed)
    assert told == [1, 2, 3, 4]


def test_stopped_in_the_middle_of_an_epoch_goes_on_from_the_epoch_before(prepared: Artifact, tmp_path: Path) -> None:
    undisturbed = train(workload(), prepared, tmp_path / "undisturbed", RunSettings(3))
    steps: list[int] = []

    def stop(step: int, of: int, loss: float) -> None:
        steps.append(step)
        if steps.count(10) == 2:
            raise Preempted("test")

    with pytest.raises(Preempted):
        train(workload(), prepared, tmp_path / "stopped", RunSettings(3), on_step=stop)

    assert content_of(train(workload(), prepared, tmp_path / "stopped", RunSettings(3))) == content_of(undisturbed)


def test_a_finished_training_is_not_done_again_while_its_checkpoint_is_there(
    prepared: Artifact, tmp_path: Path
) -> None:
    first = content_of(train(workload(), prepared, tmp_path / "model", RunSettings(3)))
    steps: list[int] = []

    second = train(
        workload(), prepared, tmp_path / "model", RunSettings(3), on_step=lambda *told: steps.append(told[0])
    )

    assert steps == []
    assert content_of(second) == first


@pytest.mark.parametrize("other", [{"training__learning_rate": 0.01}, {"model__hidden_size": 13}, {"seed": 4}])
def test_a_checkpoint_of_other_settings_is_not_used(other: dict[str, Any], prepared: Artifact, tmp_path: Path) -> None:
    seed = other.pop("seed", 3)
    train(workload(), prepared, tmp_path / "model", RunSettings(3))

    resumed = train(workload(**other), prepared, tmp_path / "model", RunSettings(seed))

    assert content_of(resumed) == content_of(train(workload(**other), prepared, tmp_path / "fresh", RunSettings(seed)))


def test_a_damaged_checkpoint_costs_time_and_nothing_else(prepared: Artifact, tmp_path: Path) -> None:
    first = content_of(train(workload(), prepared, tmp_path / "model", RunSettings(3)))
    (path,) = tmp_path.glob("model.checkpoint/*/last.pt")
    path.write_bytes(path.read_bytes()[:1000])

    assert content_of(train(workload(), prepared, tmp_path / "model", RunSettings(3))) == first


def test_a_loss_that_is_no_number_stops_before_the_weights_are_touched(
    prepared: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    true_loss = TASK.loss

    def poisoned(network: Any, batch: Any, kind: str, carried: None) -> Any:
        seen.append({name: value.clone() for name, value in network.state_dict().items()})
        total, elements, _ = true_loss(network, batch, kind, carried)
        return (total * float("nan") if len(seen) == 6 else total), elements, None

    monkeypatch.setattr(type(TASK), "loss", lambda _, *asked: poisoned(*asked))
    networks: list[Any] = []
    true_build = TASK.build

    def build(_: Any, *asked: Any) -> Any:
        networks.append(true_build(*asked))
        return networks[-1]

    monkeypatch.setattr(type(TASK), "build", build)

    with pytest.raises(TrainingError, match="epoch 1, batch 6: expected a finite loss; found nan"):
        train(workload(), prepared, tmp_path / "model", RunSettings(3))
    assert len(seen) == 6
    assert all(torch.equal(value, seen[-1][name]) for name, value in networks[0].state_dict().items())
    assert not (tmp_path / "model").exists()


def test_a_device_whose_loss_is_read_seldom_stops_after_the_step_or_batch_at_hand(
    prepared: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateline.training.loop.READ_EVERY", {"cpu": 20})
    with training_loop(workload(training__batch_size=32), prepared, RunSettings(3)) as loop:
        with pytest.raises(Preempted):
            loop.train_epoch(None, None, lambda: loop.step == 2)
        assert loop.step == 3 < loop.read_every < len(loop.order)

        score, scored = loop.score, list[int]()

        def counted(*asked: Any) -> Any:
            scored.append(1)
            return score(*asked)

        monkeypatch.setattr(loop, "score", counted)
        loop.validation_order = SequentialOrder(len(loop.validation_set), 8)
        with pytest.raises(Preempted):
            loop.validate(stop=lambda: len(scored) == 2)
        assert len(scored) == 2 < len(loop.validation_order)


def too_much() -> None:
    torch.empty(2**58)  # more than a process can address


def too_much_of_cuda() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def too_much_of_cudnn() -> None:
    raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")


def too_much_of_numpy() -> None:
    np.empty(2**58)


@pytest.mark.parametrize("allocate", [too_much, too_much_of_cuda, too_much_of_cudnn, too_much_of_numpy])
def test_a_batch_without_memory_for_it_is_refused_and_may_be_tried_again(
    allocate: Callable[[], None], prepared: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may have had the memory, so nothing is noted that would refuse the next try."""
    with monkeypatch.context() as full:
        full.setattr(type(TASK), "loss", lambda *_: allocate())
        with pytest.raises(
            WorkloadError, match=r"training\.batch_size: .* fits the memory .* training\.accumulate"
        ) as said:
            train(workload(), prepared, tmp_path / "model", RunSettings(3))
    assert str(said.value.__cause__)[:40] in said.value.found
    assert not list(tmp_path.rglob("refused.json"))
    assert train(workload(), prepared, tmp_path / "model", RunSettings(3)).facts["epochs"]


def test_a_bug_is_not_taken_for_a_lack_of_memory(
    prepared: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(TASK), "loss", lambda *_: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        train(workload(), prepared, tmp_path / "model", RunSettings(3))


@pytest.mark.parametrize("monitor", ["mae", "loss"])
def test_a_validation_that_overflows_is_refused_whichever_figure_is_monitored(
    monitor: str, prepared: Artifact, tmp_path: Path
) -> None:
    # The only step leaps so far that the errors are finite and their squares are not; no further step would notice.
    leap = workload(
        training__optimiser="sgd",
        training__clip_norm=None,
        training__loss="squared",
        training__monitor=monitor,
        training__batch_size=100_000,
        training__learning_rate=1e20,
        training__epochs=1,
    )

    with pytest.raises(
        TrainingError, match=r"epoch 1: expected a finite validation_loss; found inf\. Lower training.lear"
    ):
        train(leap, prepared, tmp_path / "model", RunSettings(3))


def test_a_validation_part_without_what_a_monitor_is_made_of_is_refused(
    prepared: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_scorer = TASK.scorer

    def scorer(_: Any, *asked: Any) -> Any:
        score = true_scorer(*asked)

        def without_labels(*batch: Any) -> Any:
            scores, carried = score(*batch)
            return {**scores, "mse_scaled": tuple(torch.zeros(2))}, carried

        return without_labels

    monkeypatch.setattr(type(TASK), "scorer", scorer)

    with pytest.raises(
        TrainingError, match=r"epoch 1: .*validation part that `mse_scaled` can be computed of; found nothing"
    ):
        train(workload(), prepared, tmp_path / "model", RunSettings(3))


def test_one_batch_can_be_learnt_by_heart(prepared: Artifact) -> None:
    torch.manual_seed(0)
    network = TASK.build(TASK.Model(hidden_size=48), TASK.shapes(prepared))
    batch = TASK.dataset(prepared, "train").__getitems__(np.arange(16))
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(300):
        total, count, _ = TASK.loss(network, batch, "squared", None)
        optimiser.zero_grad()
        (total / count).backward()
        optimiser.step()

    assert float((total / count).detach()) < 0.02


def test_early_stopping_keeps_the_best_epoch(prepared: Artifact, tmp_path: Path) -> None:
    model = train(
        workload(training__epochs=30, training__patience=2, training__learning_rate=0.3, training__schedule="constant"),
        prepared,
        tmp_path / "model",
        RunSettings(3),
    )
    history = json.loads((model.path / "history.json").read_text())
    scores = [record["validation_mae"] for record in history]

    assert model.facts["best_epoch"] == scores.index(min(scores)) + 1
    assert len(history) == min(30, model.facts["best_epoch"] + 2)


def test_an_unknown_monitor_is_refused_before_training(prepared: Artifact, tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="Did you mean 'mae'"):
        train(workload(training__monitor="maee"), prepared, tmp_path / "model", RunSettings(3))


def test_a_service_level_that_the_validation_part_cannot_promise_is_refused_before_the_first_step(
    prepared: Artifact, tmp_path: Path
) -> None:
    steps: list[int] = []
    windows = TASK.dataset(prepared, "validation")
    observed = windows.__getitems__(np.arange(len(windows))).observed.numpy()
    # In how many windows all steps up to one are known.
    known = [int(observed[:, : step + 1].all(axis=1).sum()) for step in range(observed.shape[1])]
    most, too_much = ((n / (n + 1)) for n in (known[-1], known[-1] + 0.5))  # what the last step can just promise

    for level, refused in ((most, None), (too_much, known[-1]), (0.9995, known[0])):
        asked = workload(model__inventory={"service_level": level})
        if refused is None:
            TASK.check_data(asked.section("model", TASK.Model), prepared)
            continue
        with pytest.raises(DataError, match=rf"the demand up to step \d ahead: .*found {refused}, for a service level"):
            train(asked, prepared, tmp_path / "model", RunSettings(3), on_step=lambda *told: steps.append(told[0]))
    assert known[-1] < known[0]
    assert not steps


def test_intervals_that_the_validation_part_cannot_promise_are_refused_before_the_first_step(
    prepared: Artifact, tmp_path: Path
) -> None:
    steps: list[int] = []
    windows = TASK.dataset(prepared, "validation")
    observed = windows.__getitems__(np.arange(len(windows))).observed[:, 0].sum()

    with pytest.raises(DataError, match=f"at least 999 validation .* found {observed}, for a coverage"):
        train(
            workload(model__intervals=[0.8, 0.999]),
            prepared,
            tmp_path / "model",
            RunSettings(3),
            on_step=lambda *told: steps.append(told[0]),
        )

    assert not steps
