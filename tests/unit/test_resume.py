"""Stopped at any step, a run goes on to the bytes of one that was not; and what is not its own checkpoint is refused."""

from __future__ import annotations

import argparse
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gateline.adapters.checkpoint_store import AddressStore, open_store, open_writable_store
from gateline.adapters.door import run_step
from gateline.errors import EXIT_TRY_AGAIN, ArtifactError, Preempted, UnreachableError, WorkloadError
from gateline.manifest import Artifact
from gateline.tasks import forecasting
from gateline.training import RunSettings, beside, key_of, settings_of_weights, train
from gateline.training.checkpoints import Checkpoint, FolderStore
from gateline.workload import Workload
from tests.tiny import prepare_tiny, tiny_workload

EPOCHS, STEPS = 2, 17  # steps of an epoch of the tiny problem at batches of 64
STOPS = 20
RUN = RunSettings(3)

MODELS: dict[str, dict[str, Any]] = {
    "lstm": {"model__cell": "lstm"},
    "gru": {"model__cell": "gru", "model__num_layers": 2},
    "segments": {
        "model__mode": "segment",
        "model__segment": 6,
        "model__attention": "none",
        "model__linear_path": False,
    },
    "bidirectional": {"model__bidirectional": True, "model__weight_drop": 0.2, "model__cell": "gru"},
    "attention": {"model__attention": "dot", "model__num_layers": 2},
    "accumulated": {"training__accumulate": 3, "training__schedule": {"kind": "one_cycle"}},
    "bfloat16": {"training__schedule": {"kind": "plateau", "patience": 1}},
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return prepare_tiny(tmp_path_factory.mktemp("tiny") / "prepared")


def workload(**changes: Any) -> Workload:
    settings = {"model__dropout": 0.3, "training__epochs": EPOCHS, **changes}
    content = tiny_workload(**settings)
    return Workload("tiny", "forecasting", "", "test", {key: content[key] for key in ("model", "training")})


def after(steps: int) -> Callable[[], bool]:
    """Ask to stop when so many steps are done."""
    asked = iter(range(1, 10**9))
    return lambda: next(asked) >= steps


def content_of(model: Artifact) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in model.path.iterdir()}


@pytest.mark.parametrize("name", MODELS)
def test_stopped_at_random_steps_it_ends_with_the_same_bytes(
    name: str, prepared: Artifact, tmp_path: Path, rng: np.random.Generator
) -> None:
    asked = workload(**MODELS[name])
    run = RunSettings(3, precision="bfloat16" if name == "bfloat16" else "float32")
    undisturbed = content_of(train(asked, prepared, tmp_path / "undisturbed", run))
    cuts = np.sort(rng.choice(np.arange(1, EPOCHS * STEPS), STOPS, replace=False))
    for steps in np.diff(cuts, prepend=0):
        with pytest.raises(Preempted):
            train(asked, prepared, tmp_path / "stopped", run, stop=after(int(steps)))
        assert not (tmp_path / "stopped").exists()

    assert content_of(train(asked, prepared, tmp_path / "stopped", run)) == undisturbed


def test_a_stop_at_the_last_step_of_an_epoch_goes_straight_to_validation(prepared: Artifact, tmp_path: Path) -> None:
    undisturbed = content_of(train(workload(), prepared, tmp_path / "undisturbed", RUN))
    with pytest.raises(Preempted):
        train(workload(), prepared, tmp_path / "stopped", RUN, stop=after(STEPS))

    steps: list[int] = []
    model = train(workload(), prepared, tmp_path / "stopped", RUN, on_step=lambda step, *_: steps.append(step))

    assert content_of(model) == undisturbed
    assert steps == [10, STEPS] * (EPOCHS - 1)


def test_a_stop_while_an_epoch_is_validated_is_heard_before_the_validation_is_over(
    prepared: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecasting, "SCORING_BATCH", 16)  # a validation of many batches
    undisturbed = content_of(train(workload(), prepared, tmp_path / "undisturbed", RUN))
    scored: list[int] = []
    true_scorer = forecasting.TASK.scorer

    def counting(*given: Any) -> Any:
        score = true_scorer(*given)

        def counted(*batch: Any) -> Any:
            scored.append(1)
            return score(*batch)

        return counted

    monkeypatch.setattr(forecasting.TASK, "scorer", counting)
    with pytest.raises(Preempted):
        train(workload(), prepared, tmp_path / "stopped", RUN, stop=after(STEPS + 3))
    assert len(scored) == 3
    steps: list[int] = []
    model = train(workload(), prepared, tmp_path / "stopped", RUN, on_step=lambda step, *_: steps.append(step))

    assert content_of(model) == undisturbed
    assert steps == [10, STEPS] * (EPOCHS - 1)  # the epoch was not trained again


def stopped(folder: Path, prepared: Artifact, asked: Workload, run: RunSettings = RUN) -> FolderStore:
    with pytest.raises(Preempted):
        train(asked, prepared, folder, run, stop=after(STEPS + 3))
    return beside(folder, key_of(prepared, settings_of_weights(asked, run)))


@pytest.mark.parametrize(
    ("changes", "run"),
    [
        ({"training__learning_rate": 0.5}, RUN),
        ({"model__hidden_size": 13}, RUN),
        ({}, RunSettings(4)),
        ({}, RunSettings(3, processes=2)),
        ({}, RunSettings(3, precision="bfloat16")),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused(
    changes: dict[str, Any], run: RunSettings, prepared: Artifact, tmp_path: Path
) -> None:
    theirs = stopped(tmp_path / "model", prepared, workload())
    other = workload(**changes)
    key = key_of(prepared, settings_of_weights(other, run))
    ours = beside(tmp_path / "model", key)
    assert ours.folder != theirs.folder  # so that neither is in the other's way

    theirs.folder.rename(ours.folder)

    with pytest.raises(ArtifactError, match=r"last\.pt: expected a checkpoint of these data, settings and code"):
        train(other, prepared, tmp_path / "model", run)


def test_a_checkpoint_of_another_torch_is_refused(
    prepared: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It rounds differently, so what goes on would not end with the bytes of a run that was not stopped."""
    with monkeypatch.context() as another:
        another.setattr(torch, "__version__", "1.0")
        theirs = stopped(tmp_path / "model", prepared, workload())
    assert (theirs.folder / "last.pt").is_file()
    ours = beside(tmp_path / "model", key_of(prepared, settings_of_weights(workload(), RUN)))
    assert ours.folder != theirs.folder
    theirs.folder.rename(ours.folder)

    with pytest.raises(
        ArtifactError, match=rf"last\.pt: expected a checkpoint .* by torch {re.escape(torch.__version__)}"
    ):
        train(workload(), prepared, tmp_path / "model", RUN)


def test_a_checkpoint_without_its_best_weights_is_as_good_as_none(
    prepared: Artifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    undisturbed = content_of(train(workload(), prepared, tmp_path / "undisturbed", RUN))
    (stopped(tmp_path / "model", prepared, workload()).folder / "best-1.pt").unlink()

    assert content_of(train(workload(), prepared, tmp_path / "model", RUN)) == undisturbed
    assert "starting anew" in caplog.text


def test_the_last_and_the_best_weights_are_kept_and_nothing_else(prepared: Artifact, tmp_path: Path) -> None:
    train(workload(training__epochs=3), prepared, tmp_path / "model", RUN)

    (folder,) = (tmp_path / "model.checkpoint").iterdir()
    best = torch.load(tmp_path / "model" / "weights.pt", weights_only=True)
    (kept,) = folder.glob("best-*.pt")
    assert {path.name for path in folder.iterdir()} == {"last.pt", kept.name}
    assert all(torch.equal(value, best[name]) for name, value in torch.load(kept, weights_only=True).items())


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> Any:
            return (Path(tmp_path / "ran").touch, ())

    store = FolderStore(tmp_path / "store")
    content = io.BytesIO()
    torch.save({"key": "k", "best_epoch": 0, "state": Runs()}, content)
    store.write("last.pt", content.getvalue())

    assert Checkpoint(store, "k").load() is None
    assert not (tmp_path / "ran").exists()


class Unreachable(FolderStore):
    """Does not answer the first few times that it is written to."""

    def __init__(self, folder: Path, times: int) -> None:
        super().__init__(folder)
        self.times = times

    def write(self, name: str, content: bytes) -> None:
        self.times -= 1
        if self.times >= 0:
            raise UnreachableError("store", expected="an answer", found="none", do="Run again when it answers")
        super().write(name, content)


def test_a_store_that_was_away_costs_its_checkpoints_and_not_the_training(
    prepared: Artifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    undisturbed = content_of(train(workload(), prepared, tmp_path / "undisturbed", RUN))
    store = Unreachable(tmp_path / "store", times=1)

    with pytest.raises(Preempted):
        train(workload(), prepared, tmp_path / "model", RUN, checkpoints=store, stop=after(STEPS + 2))
    assert "goes on without a checkpoint" in caplog.text
    assert content_of(train(workload(), prepared, tmp_path / "model", RUN, checkpoints=store)) == undisturbed


@pytest.mark.parametrize(
    ("written", "then"),
    [
        (10, "training goes on where it was"),
        (2, "goes on from the last checkpoint before"),
        (0, "training begins anew"),
    ],
)
def test_who_is_stopped_says_what_the_next_run_finds(
    written: int, then: str, prepared: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Away(FolderStore):
        """Takes so many files and no more: the best weights and the state, after an epoch."""

        def write(self, name: str, content: bytes) -> None:
            if len(names := [*taken, name]) > written:
                raise UnreachableError("store", expected="an answer", found="none", do="Run again when it answers")
            taken[:] = names
            super().write(name, content)

    taken: list[str] = []
    store = Away(tmp_path / "store")

    def step(_: argparse.Namespace) -> None:
        train(workload(), prepared, tmp_path / "model", RUN, checkpoints=store, stop=after(STEPS + 3))

    assert run_step(argparse.ArgumentParser(), step, []) == EXIT_TRY_AGAIN
    assert then in capsys.readouterr().err


def test_a_place_that_takes_no_checkpoint_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    (tmp_path / "file").touch()
    for address in (f"file://{tmp_path}/file", "file:///proc/nowhere", f"file://{tmp_path}/{'long' * 100}"):
        with pytest.raises(
            WorkloadError, match=f"--checkpoints: expected a place that can be written to; found {address}"
        ):
            open_writable_store(address, tmp_path / "model", "key")
        with monkeypatch.context() as patch:  # one process tries for all
            patch.setenv("RANK", "1")
            open_writable_store(address, tmp_path / "model", "key")

    open_writable_store(f"file://{tmp_path}/store", tmp_path / "model", "key")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "file"]


def test_checkpoints_lie_at_any_address_that_fsspec_opens(prepared: Artifact, tmp_path: Path, seed: int) -> None:
    undisturbed = content_of(train(workload(), prepared, tmp_path / "undisturbed", RUN))
    key = key_of(prepared, settings_of_weights(workload(), RUN))
    address = f"memory://checkpoints-{seed}"
    store = open_store(address, tmp_path / "pod-1" / "model", key)
    assert isinstance(store, AddressStore)

    with pytest.raises(Preempted):
        train(workload(), prepared, tmp_path / "pod-1" / "model", RUN, checkpoints=store, stop=after(STEPS + 5))
    again = open_store(address, tmp_path / "pod-2" / "model", key)
    told: list[float] = []
    model = train(
        workload(),
        prepared,
        tmp_path / "pod-2" / "model",
        RUN,
        checkpoints=again,
        on_epoch=[lambda record: told.append(record.get("rows_per_second", 0.0))],
    )

    assert content_of(model) == undisturbed
    assert told[0] == 0.0 < told[1]  # the first epoch came out of the checkpoint
    again.clear()
    assert again.read("last.pt") is None


@pytest.mark.parametrize("address", ["s3://user:secret@host/bucket", "nosuch://place"])
def test_an_address_that_cannot_be_used_is_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="--checkpoints: expected") as caught:
        open_store(address, tmp_path / "model", "key")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("content", [{"weights": torch.zeros(2)}, torch.zeros(3), {"key": "k", "state": {}}])
def test_a_file_that_is_no_checkpoint_is_as_good_as_none(
    content: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = FolderStore(tmp_path / "store")
    packed = io.BytesIO()
    torch.save(content, packed)
    store.write("last.pt", packed.getvalue())

    assert Checkpoint(store, "k").load() is None
    assert "starting anew" in caplog.text


def test_that_there_are_only_checkpoints_of_other_settings_is_said(
    prepared: Artifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stopped(tmp_path / "model", prepared, workload())

    train(workload(training__epochs=1, training__learning_rate=0.5), prepared, tmp_path / "model", RUN)

    assert "starting anew; what is there is of other settings (1)" in caplog.text


def test_a_tilde_is_the_folder_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    assert open_store("~/ck", tmp_path / "model", "key").place == str(tmp_path / "home" / "ck" / "key")

    assert not (tmp_path / "~").exists()
    with pytest.raises(WorkloadError, match="--checkpoints: expected a folder that can be made"):
        open_store("~nobody-of-this-name/ck", tmp_path / "model", "key")


@pytest.mark.parametrize("address", ["s3://", "", "/proc/nowhere/checkpoints"])
def test_an_address_without_a_place_is_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="--checkpoints: expected a folder"):
        open_store(address, tmp_path / "model", "key")


def test_where_no_object_store_is_a_file_is_moved_into_place_and_a_failed_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(f"file://{tmp_path}/store", tmp_path / "model", "key")
    assert isinstance(store, AddressStore)
    store.write("last.pt", b"old")
    monkeypatch.setattr("time.sleep", lambda _: None)
    files = store._file_system

    def lost(*asked: Any, **more: Any) -> None:
        raise ConnectionError("the store is gone")

    for broken in ("mv", "pipe_file"):
        with monkeypatch.context() as patch:
            patch.setattr(type(files), broken, lost)
            with pytest.raises(UnreachableError, match="ConnectionError: the store is gone"):
                store.write("last.pt", b"new")

    assert store.read("last.pt") == b"old"
    assert [path.name for path in (tmp_path / "store" / "key").iterdir()] == ["last.pt"]
